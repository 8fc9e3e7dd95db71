"""`repo-builder trace` on a genuine Triton with the example pipelines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from triton_models import StartTriton
from workplace import SPECS, Workplace, repo_builder


def traced(url: str, model: str, sample: str) -> Any:
    ended = repo_builder(
        "trace", url, "--model", model, "--input", SPECS / sample, "--requests", 5, "--json"
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


def test_stages_are_those_of_the_steps_and_add_up(built: Workplace, triton: StartTriton) -> None:
    url = triton(built.out / "cpu").grpc_url
    for model, sample, steps in (
        ("find-shapes", "shapes/sample.png", {"find-shapes.decode", "shapes"}),
        ("read-digit", "digits/sample.png", {"read-digit.decode", "digits", "read-digit.best"}),
        ("digits", "digits/sample.png", {"digits"}),
    ):
        found = traced(url, model, sample)
        assert found["why_statistics"] == ""
        assert [one["number"] for one in found["requests"]] == [1, 2, 3, 4, 5]
        for one in found["requests"]:
            assert steps <= {stage["model"] for stage in one["stages"]}
            assert {"queue", "compute", "send", "receive"} <= {s["name"] for s in one["stages"]}
            ends = [stage["begins_ms"] + stage["ms"] for stage in one["stages"]]
            assert max(ends) <= one["total_ms"] * 1.001
            # Steps may overlap a little: one is tidied up while the next begins.
            assert sum(stage["ms"] for stage in one["stages"]) > 0.5 * one["total_ms"]
        slowest = found["requests"][found["slowest"] - 1]
        assert slowest["total_ms"] == max(one["total_ms"] for one in found["requests"])


def test_without_a_trace_file_statistics_stand_in(built: Workplace, triton: StartTriton) -> None:
    url = triton(built.out / "cpu", extra=["--trace-config=level=OFF"]).grpc_url
    found = traced(url, "find-shapes", "shapes/sample.png")
    assert "without a trace file" in found["why_statistics"]
    for one in found["requests"]:
        named = {stage["model"] for stage in one["stages"]}
        assert named == {"", "find-shapes.decode", "shapes", "find-shapes.suppress"}
        computed = [stage["ms"] for stage in one["stages"] if stage["name"] == "compute"]
        assert 0 < sum(computed) <= one["total_ms"] * 1.001


def test_what_is_shown_and_made_up(built: Workplace, triton: StartTriton, tmp_path: Path) -> None:
    url = triton(built.out / "cpu").grpc_url
    page = tmp_path / "trace.html"
    ended = repo_builder("trace", url, "--model", "digits", "--html", page, COLUMNS="50")
    assert ended.returncode == 0, ended.stderr
    lines = ended.stdout.splitlines()
    assert max(map(len, lines)) <= 50
    assert [line.split(":")[0] for line in lines if ":" in line] == ["slowest", "median"]
    assert "digits compute" in page.read_text()
    ended = repo_builder("trace", url, "--model", "read-digit")
    assert (ended.returncode, "cannot be made up; give --input" in ended.stderr) == (2, True)


@pytest.mark.parametrize(("url", "says"), [("127.0.0.1:1", "no Triton answers at 127.0.0.1:1")])
def test_no_server(url: str, says: str) -> None:
    ended = repo_builder("trace", url, "--model", "m", "--input", SPECS / "digits/sample.png")
    assert (ended.returncode, says in ended.stderr) == (12, True)
