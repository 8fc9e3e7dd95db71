"""Costs of a fleet: the guide's numbers, what must hold for any, and what is refused."""

from __future__ import annotations

import json
import math
import re
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from repo_builder.base import document
from repo_builder.base.errors import DataError, RepoBuilderError
from repo_builder.cli import cli
from repo_builder.client.metrics import Metrics
from repo_builder.tune import economics
from repo_builder.tune.economics import Range, model, page

PAGE = Path(__file__).parents[3] / "docs/economics.md"


def _file(name: str) -> str:
    found = re.search(rf'```yaml title="{name}"\n(.*?)```', PAGE.read_text(), re.S)
    assert found
    return found[1]


def _figures(text: str) -> dict[str, Range]:
    read, problems = document.parse(text, "f.yaml")
    assert read is not None
    figures, _, more = economics.figures(read)
    assert not problems + more
    return figures


def _payback(text: str) -> float:
    return economics.answer(_figures(text), "USD").likely.payback


GUIDE = _file("guide.yaml")


def test_the_guides_table_pays_back_in_ten_years_not_in_three_to_four() -> None:
    found = economics.answer(_figures(GUIDE), "USD")
    assert sum(found.likely.once.values()) == 15e6
    assert found.likely.saving == 1.5e6
    assert found.likely.saving / 2e6 == 0.75
    assert found.likely.payback == 10
    assert found.payback is None
    assert "but the devices last 5: it does not pay" in next(page.sentences(found))


@pytest.mark.parametrize(("gigabytes", "years"), [(0.589, 3), (0.379, 4)])
def test_what_the_guides_payback_needs(gigabytes: float, years: float) -> None:
    sent = f"gb_per_device_month: {gigabytes}, price_per_gb: 4.95"
    assert _payback(GUIDE.replace("2000000", f"2000000, {sent}")) == pytest.approx(years, abs=0.01)


def test_fallbacks_and_power_that_the_guide_leaves_out() -> None:
    assert _payback(GUIDE + "fallback_share: 0.1\n") == pytest.approx(15 / 1.3)
    with_power = GUIDE.replace("500000}", "500000, watts_per_device: 15, price_per_kwh: 0.15}")
    found = economics.answer(_figures(with_power), "USD").likely
    assert found.edge["power"] / 100_000 == pytest.approx(19.72, abs=0.01)
    assert found.payback == math.inf


def test_interest_makes_payback_longer_and_can_make_it_never() -> None:
    assert _payback(GUIDE + "discount: 0.05\n") == pytest.approx(
        -math.log(1 - 10 * math.log(1.05)) / math.log(1.05)
    )
    assert _payback(GUIDE + "discount: 0.2\n") == math.inf


def test_the_worth_after_payback_is_nothing() -> None:
    """By definition: over as many years as it takes to pay back, it is worth 0."""
    for discount in (0.0, 0.03, 0.06):
        text = GUIDE + f"discount: {discount}\n"
        years = _payback(text)
        figures = {**_figures(text), "years": Range(years, years, years)}
        assert economics.answer(figures, "USD").likely.value == pytest.approx(0, abs=1)


MONEY = st.floats(0, 1e7)


@given(
    st.fixed_dictionaries(
        {
            "devices": st.floats(1, 1e6), "years": st.floats(0.5, 20),
            "discount": st.floats(0, 0.3), "fallback_share": st.floats(0, 1),
            "cloud.compute_per_year": MONEY, "cloud.gb_per_device_month": st.floats(0, 100),
            "cloud.price_per_gb": st.floats(0, 10), "edge.price_per_gb": st.floats(0, 10),
            "edge.power_per_year": MONEY, "edge.watts_per_device": st.floats(0, 100),
            "edge.price_per_kwh": st.floats(0, 1), "edge.support_per_year": MONEY,
            "once.hardware_per_device": st.floats(0, 1000),
            "once.installation_per_device": st.floats(0, 1000), "once.development": MONEY,
        }
    )
)  # fmt: skip
def test_paying_back_in_time_and_being_worth_something_are_one(figures: dict[str, float]) -> None:
    found = model.costs(figures)
    if abs(found.value) > 1e-6 * (1 + sum(found.once.values())):
        assert (found.payback <= figures["years"]) == (found.value > 0)
    dearer = model.costs({**figures, "once.hardware_per_device": 1001.0})
    assert dearer.value <= found.value
    more = min(1.0, figures["fallback_share"] + 0.1)
    assert model.costs({**figures, "fallback_share": more}).saving <= found.saving + 1e-6


def test_ranges_give_intervals_and_the_widest_swing_comes_first() -> None:
    found = economics.answer(_figures(_file("fleet.yaml")), "USD")
    assert found.payback is not None
    assert found.value is not None
    assert found.payback[0] < found.likely.payback < found.payback[1]
    assert found.pays is not None
    assert 0.8 < found.pays < 1
    widths = [swing.width for swing in found.swings]
    assert widths == sorted(widths, reverse=True)
    assert not found.assumed
    again = economics.answer(_figures(_file("fleet.yaml")), "USD")
    assert again == found
    ElementTree.fromstring(economics.tornado(found))  # noqa: S314 - our own
    assert "<svg" in economics.html(found)
    assert "fallback_share" in economics.markdown(found)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("150", "-150"), "once.hardware_per_device: must be at least 0"),
        (("150", "1.0e+12"), "once.hardware_per_device: 1e+12 a unit is absurd"),
        (("2000000", "$2M"), "write it without a unit or currency"),
        (("years: 5", "years: 0"), "years: must be more than 0"),
        (("years: 5", "years: 5\nfallback_share: 1.5"), "fallback_share: 1.5 as a share is absurd"),
        (("years", "yeers"), "unknown key; did you mean 'years'?"),
        (("150", "{low: 3, likely: 2, high: 9}"), "write them in rising order"),
        (("150", ".nan"), "must be a finite number"),
        (("150", "true"), "must be a number or"),
        (("2000000", "2000000, gb_per_device_month: 3"), "needs price_per_gb"),
        (("500000", "500000, watts_per_device: 3"), "needs price_per_kwh"),
        (
            ("500000", "500000, power_per_year: 1, watts_per_device: 3, price_per_kwh: 1"),
            "power is given twice",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_its_line(change: tuple[str, str], said: str) -> None:
    read, _ = document.parse(GUIDE.replace(*change), "f.yaml")
    assert read is not None
    problems = economics.figures(read)[2]
    assert any(said in str(problem) for problem in problems)
    assert all(problem.line for problem in problems)


def test_the_schema_takes_the_examples_and_no_negative_money() -> None:
    check = jsonschema.Draft202012Validator(economics.schema())
    for name in ("guide.yaml", "fleet.yaml"):
        read, _ = document.parse(_file(name), name)
        assert read is not None
        check.validate(read.value)
    read, _ = document.parse(GUIDE.replace("150", "-150"), "f.yaml")
    assert read is not None
    assert list(check.iter_errors(read.value))


def _metrics() -> str:
    metrics = Metrics()
    for _ in range(45):
        metrics.answered("digits", "edge", ["edge"] * 2, 0.01)
    metrics.answered("digits", "mixed", ["edge", "cloud", "cloud"], 0.1)
    metrics.answered("digits", "cloud", ["cloud"] * 7, 0.1)
    metrics.answered("digits", "edge-unverified", ["edge-unverified"], 0.1)
    return metrics.prometheus()


def test_the_share_that_fell_back_is_read_from_a_clients_metrics() -> None:
    share = economics.fallback_share(_metrics(), "m")
    assert share.likely == pytest.approx(9 / 101)
    assert share.low == pytest.approx(0.0476, abs=1e-3)  # Wilson, 9 of 101
    assert share.high == pytest.approx(0.1729, abs=1e-3)  # and 10 of 101


def test_metrics_that_do_not_tell_are_refused() -> None:
    both = _metrics() + _metrics().replace("digits", "shapes")
    with pytest.raises(DataError, match="rows of digits, shapes; name one with --model"):
        economics.fallback_share(both, "m")
    assert economics.fallback_share(both, "m", "shapes").likely == pytest.approx(9 / 101)
    with pytest.raises(DataError, match="no rows of 'digit', but of digits"):
        economics.fallback_share(_metrics(), "m", "digit")
    with pytest.raises(DataError, match="is it a client's metrics"):
        economics.fallback_share("nv_inference_count 3\n", "m")


def test_the_command_asks_a_url_and_writes_all_forms(tmp_path: Path) -> None:
    class Served(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(_metrics().encode())

        def log_message(self, *_: Any) -> None: ...

    (tmp_path / "f.yaml").write_text(_file("fleet.yaml"))
    server = HTTPServer(("127.0.0.1", 0), Served)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}"
    outs = {name: tmp_path / f"out.{name}" for name in ("plot", "html", "markdown")}
    options = [word for name, path in outs.items() for word in (f"--{name}", str(path))]
    try:
        run = CliRunner()
        given = ["roi", str(tmp_path / "f.yaml"), "--metrics"]
        done = run.invoke(cli, [*given, f"{url}/metrics", "--json", *options])
        missed = run.invoke(cli, [*given, f"{url}/nothing"])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert done.exit_code == 0, done.output
    assert "fallback_share: 8.91%, measured" in done.stderr
    assert json.loads(done.stdout)["likely"]["edge"]["compute"] == pytest.approx(380000 * 9 / 101)
    assert all(path.stat().st_size > 500 for path in outs.values())
    assert isinstance(missed.exception, DataError)
    assert "HTTP status 404" in str(missed.exception)


def test_never_is_null_in_json_and_a_wrong_file_tells_all(tmp_path: Path) -> None:
    (tmp_path / "f.yaml").write_text(GUIDE.replace("500000", "5000000"))
    done = CliRunner().invoke(cli, ["roi", str(tmp_path / "f.yaml"), "--json"])
    assert json.loads(done.stdout)["likely"]["payback"] is None
    (tmp_path / "f.yaml").write_text(GUIDE.replace("100000", "-1").replace("150", "-2"))
    done = CliRunner().invoke(cli, ["roi", str(tmp_path / "f.yaml")])
    assert isinstance(done.exception, RepoBuilderError)
    assert done.exception.exit_code == 3
    assert len(done.exception.problems) == 2
