"""Progress of steps: each ended step is a line with its number."""

from __future__ import annotations

import re
import sys

import pytest

from repo_builder.base import console
from repo_builder.base.progress import Steps


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(console, "talk", console.Talk())


def run(steps: Steps) -> None:
    steps.expect(12)
    steps.start("k1", "digits import")
    steps.start("k2", "digits@cpu verify")
    steps.done("k1", "digits import")
    steps.fail("k2", "digits@cpu verify", "it crashed")


def test_steps_are_a_line_each_where_there_is_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Steps() as steps:
        run(steps)
    said = capsys.readouterr().err
    assert re.fullmatch(
        r"\[ 1/12\] ✓ digits import \d+\.\ds\n"
        r"\[ 2/12\] ✗ digits@cpu verify \d+\.\ds  it crashed\n",
        said,
    )


def test_steps_that_come_later_are_added_to_those_that_ended(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Steps() as steps:
        steps.expect(1)
        steps.done("k1", "a import")
        steps.expect(1)  # something in the store was damaged
        steps.done("k1", "a import")
    assert capsys.readouterr().err == "[1/1] ✓ a import\n[2/2] ✓ a import\n"


def test_quiet_and_verbose(capsys: pytest.CaptureFixture[str]) -> None:
    console.talk.quiet = True
    with Steps() as steps:
        run(steps)
    assert capsys.readouterr().err == ""
    console.talk.quiet, console.talk.verbose = False, True
    with Steps() as steps:
        run(steps)
    assert "  digits import begins\n" in capsys.readouterr().err


def test_a_terminal_gets_a_bar_and_no_line_is_lost(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    with Steps() as steps:
        run(steps)
    said = capsys.readouterr().err
    assert "digits import" in said
    assert "it crashed" in said
    assert "/12" in said
    assert "left:" in said
