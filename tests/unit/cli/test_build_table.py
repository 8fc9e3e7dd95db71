"""The table of a build: it fits a narrow terminal, marks what is doubtful, and loses no reason."""

from __future__ import annotations

from typing import Any

import pytest

from repo_builder.build.report.types import Fp32, Latency, Row, Score
from repo_builder.cli import build

GAIN = "3.2x smaller, 2.1x faster ?, -0.1 points"
WHY = "accuracy drop 0.0123 > max_accuracy_drop 0.005, measured on the evaluation data of the spec"


def row(name: str, doubt: str = "", **rest: Any) -> Row:
    fp32 = Fp32("openvino", 3200, 3.2, 0.9, -0.001, 2.0, 2.1, 2.0, 2.2, GAIN)
    given: dict[str, Any] = {
        "id": f"{name}@cpu-openvino", "name": name, "target": "cpu-openvino", "version": "1.0.0",
        "precision": "int8", "status": "built", "size": 1000, "level": "executed",
        "score": Score("accuracy", 0.9, 0.899, 0.001), "digest": "0123456789ab",
        "latency": Latency(1.234, 2.0, doubt=doubt), "fp32": fp32,
    }  # fmt: skip
    return Row(**{**given, **rest})


ROWS = [
    row("find-shapes", "others used 60% of the processor"),
    row("digits", status="gate failed", reason=WHY),
    row("vad", precision="fp32", fp32=None),
]


def printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], columns: int
) -> tuple[list[str], str]:
    monkeypatch.setenv("COLUMNS", str(columns))
    build._print_rows(ROWS)
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err


def test_sixty_columns_hold_the_table(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, _ = printed(monkeypatch, capsys, 60)
    assert max(map(len, lines)) <= 60
    text = "\n".join(lines)
    assert text.count(f"    beside fp32: {GAIN}") == 2
    assert WHY in " ".join(line.strip() for line in lines)
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == [
        "model@target",
        *(one.id for one in ROWS),
    ]


def test_a_wide_terminal_has_it_all_in_the_row(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, _ = printed(monkeypatch, capsys, 200)
    assert "beside fp32" in lines[0]
    assert GAIN in lines[1]
    assert "0123456789ab" in lines[1]


def test_a_doubtful_time_has_a_mark_a_reason_and_a_cure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines, said = printed(monkeypatch, capsys, 200)
    assert "1.23 ?" in lines[1]
    assert "1.23 ?" not in lines[-1]
    assert said == (
        "? not to be trusted: find-shapes@cpu-openvino, others used 60% of the processor; "
        "run `repo-builder build --measure-again` while the machine is quiet\n"
    )
