"""Triton's trace events as stages, and how they are drawn; the events are of a genuine Triton."""

from __future__ import annotations

import json

import pytest

from repo_builder.tune.trace import ask, events, page, show
from repo_builder.tune.trace.events import Request, Stage


def seen(number: int, model: str, parent: int = 0, **times: int) -> str:
    head: dict[str, object] = {"id": number, "model_name": model, "model_version": 1}
    items = [{**head, **({"parent_id": parent} if parent else {})}]
    items += [{"id": number, "timestamps": [{"name": n, "ns": ns}]} for n, ns in times.items()]
    return ",".join(map(json.dumps, items))


STEP = {
    "REQUEST_START": 1_200_000, "QUEUE_START": 1_200_000, "COMPUTE_START": 1_300_000,
    "COMPUTE_INPUT_END": 1_350_000, "COMPUTE_OUTPUT_START": 1_900_000, "COMPUTE_END": 1_950_000,
    "REQUEST_END": 1_960_000,
}  # fmt: skip
WHOLE = {"REQUEST_START": 1_100_000, "INFER_RESPONSE_COMPLETE": 1_970_000, "REQUEST_END": 2_500_000}
TEXT = f"[{seen(2, 'm.step', 1, **STEP)},{seen(1, 'm', **WHOLE)}"


def test_stages_of_an_ensemble_add_up() -> None:
    found = events.request(7, 1_000_000, 2_000_000, events.read(TEXT), "m")
    assert [(one.model, one.name) for one in found.stages] == [
        ("", "send"), ("m.step", "queue"), ("m.step", "copy in"), ("m.step", "compute"),
        ("m.step", "copy out"), ("", "receive"),
    ]  # fmt: skip
    assert [one.ms for one in found.stages] == pytest.approx([0.1, 0.1, 0.05, 0.55, 0.05, 0.03])
    assert (found.number, found.total_ms) == (7, 1.0)


def test_a_file_that_is_still_written_is_read() -> None:
    more = seen(3, "m", **{name: ns + 5_000_000 for name, ns in WHOLE.items()})
    found = events.read(f"{TEXT},{more},{seen(4, 'm', REQUEST_START=9)[:-9]}")
    assert [one.id for one in found] == [1, 2, 3]


def test_a_request_that_was_not_traced_or_not_alone() -> None:
    traces = events.read(TEXT)
    with pytest.raises(LookupError, match="0 requests for m were traced"):
        events.request(1, 5_000_000, 6_000_000, traces, "m")
    with pytest.raises(LookupError, match="2 requests for m were traced"):
        events.request(1, 1_000_000, 2_000_000, events.read(f"{TEXT},{seen(9, 'm', **WHOLE)}"), "m")
    with pytest.raises(ValueError, match="no trace of Triton"):
        events.read('[{"some": "thing"}]')


@pytest.mark.parametrize("width", [40, 60, 120])
def test_a_waterfall_fits(width: int) -> None:
    stages = (
        Stage("", "send", 0.0, 1.0),
        Stage("a-pipeline-of-a-long-name.and-its-step", "compute", 1.0, 8.0),
        Stage("", "receive", 9.0, 1.0),
    )
    lines = show.waterfall(Request(1, 10.0, stages), width).splitlines()
    assert all(len(line) <= width for line in lines)
    bars = [(line.index("█"), line.count("█")) for line in lines]
    assert bars[0][0] < bars[1][0] < bars[2][0]
    assert bars[1][1] > 3 * bars[0][1]


def test_a_request_of_no_time_is_drawn() -> None:
    assert "0.000" in show.waterfall(Request(1, 0.0, (Stage("", "send", None, 0.0),)), 40)


def test_a_page_escapes_names() -> None:
    stages = (Stage("<b>", "compute", 1.0, 8.0), Stage("", "receive", None, 20.0))
    text = page.page(ask.Traced("<i>", (Request(1, 10.0, stages),), "it <u> was not there"))
    assert "&lt;b&gt; compute" in text
    assert "left:10.0%;width:80.0%" in text
    assert not any(tag in text for tag in ("<b>", "<i>", "<u>"))
