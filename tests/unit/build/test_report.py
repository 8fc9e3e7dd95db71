"""The report: JSON for machines, one self-contained page for people, each written in one step."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import NoReturn

import pytest

from repo_builder.base.errors import OutputError
from repo_builder.build import report
from repo_builder.build.report.types import (
    Budget,
    Confidence,
    Latency,
    OperatingPoint,
    Report,
    Row,
    Score,
)
from tests import disks

ROWS = (
    Row(
        "digits@cpu", "digits", "cpu", "1.0.0", "int8", "built",
        size=10_000, source_size=34_000, score=Score("accuracy", 0.97, 0.965, 0.005),
        latency=Latency(0.5, 0.9), rows_per_second={"1": 2000.0, "8": 9500.0},
        level="executed", digest="abc",
    ),
    Row(
        "bad@cpu", "bad", "cpu", "1.0.0", "fp32", "failed",
        reason="bad.onnx: <script>alert(1)</script>",
    ),
)  # fmt: skip


def test_the_files_say_what_the_report_says(tmp_path: Path) -> None:
    written = Report(ROWS, {"cpu": {"folder": "x", "changed": True}}, 1.5)
    assert not written.good
    report.write(written, tmp_path)
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["rows"][0]["score"]["built"] == 0.965
    assert found["rows"][1]["reason"] == ROWS[1].reason
    assert found["seconds"] == 1.5
    page = (tmp_path / "report.html").read_text()
    assert "digits@cpu" in page
    assert "0.965" in page
    assert "<script>alert" not in page
    assert found["rows"][0]["rows_per_second"]["8"] == 9500.0
    assert "8: 9,500" in page
    assert not re.search(r"""(src|href)=["']?(https?:)?//""", page)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json"]


def test_plain_types_all_the_way_down() -> None:
    point = OperatingPoint(0.5, 0.9, 0.01, None, 1.5, 0.0)
    sure = Confidence(
        "margin", "y", "onnxruntime", 1.0, 0.02, 0.95, "big", "abc", 10, 30, 20, 0, 0.1, point,
        (point, point),
    )  # fmt: skip
    budget = Budget(MappingProxyType({"infer": 1.0}), 1.0, None)
    row = dataclasses.replace(ROWS[0], confidence=sure, budget=budget, ran=("import",))
    plain = Report((row,), {"cpu": {"models": ["digits"], "changed": False}}, 1.5).as_json()
    assert json.loads(json.dumps(plain)) == plain
    assert plain["rows"][0]["confidence"]["frontier"][1] == dataclasses.asdict(point)
    assert plain["rows"][0]["budget"]["stages"] == {"infer": 1.0}


def test_a_report_of_nothing(tmp_path: Path) -> None:
    report.write(Report((), {}, 0.0), tmp_path / "not" / "there")
    assert json.loads((tmp_path / "not/there/report.json").read_text())["rows"] == []


def test_two_reports_at_once_into_one_folder(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(report.write, Report(ROWS, {}, n), tmp_path) for n in range(12)]:
            future.result()
    assert json.loads((tmp_path / "report.json").read_text())["seconds"] in range(12)


def test_a_folder_that_cannot_be_written_is_one_line(
    tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    with (
        disks.read_only(out, unavailable),
        pytest.raises(OutputError, match="make it writable, or use another --out"),
    ):
        report.write(Report(ROWS, {}, 0.0), out)
