"""Progress of steps: each ended step is a line with its number."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from repo_builder.base import console, progress
from repo_builder.base.progress import Steps, copying, counted, tell


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setattr(console, "talk", console.Talk())


def as_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of this phase of the test: capsys puts another stderr into each."""
    pytest.importorskip("rich")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setattr(progress, "_PATIENCE_S", 0.0)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")


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
    as_on_a_terminal(monkeypatch)
    with Steps() as steps:
        run(steps)
    said = capsys.readouterr().err
    assert "digits import" in said
    assert "it crashed" in said
    assert "/12" in said
    assert "left:" in said


def test_what_a_running_step_tells_stands_beside_its_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    as_on_a_terminal(monkeypatch)
    log = tmp_path / "step.log"
    tell("epoch 1/9")
    first = capsys.readouterr().out
    with Steps() as steps:
        steps.expect(1)
        steps.start("k", "digits train", log)
        assert steps._running is not None
        (task,) = steps._running.tasks
        told = task.fields["told"]
        assert str(told) == ""  # its log is not there yet
        log.write_text(9000 * "noise\n" + first + "epoch 2/9 is no progress\n", encoding="utf-8")
        assert str(told) == "epoch 1/9"
        assert steps._live is not None
        steps._live.refresh()
        steps.done("k", "digits train")
    assert "epoch 1/9" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("total", "said"),
    [(100_000_000, "copying big.bin 50.00 MB of 100.00 MB"), (None, "copying big.bin 50.00 MB")],
)
def test_a_long_copy_says_how_far_it_is(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    total: int | None,
    said: str,
) -> None:
    as_on_a_terminal(monkeypatch)
    chunks = [bytes(20_000_000), bytes(30_000_000)]
    assert list(counted(chunks, "copying big.bin", total)) == chunks
    assert said in capsys.readouterr().err


def test_a_copy_has_its_line_among_the_steps(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_a_terminal(monkeypatch)
    with Steps() as steps:
        steps.expect(3)
        with copying("copying big.bin", 100_000_000) as copied:
            copied(50_000_000)
            assert steps._running is not None
            (task,) = steps._running.tasks
            assert task.description == "copying big.bin 50.00 MB of 100.00 MB"
        assert not steps._running.tasks
        steps.done("k", "digits import")
    assert "digits import" in capsys.readouterr().err


def test_small_copies_and_quiet_users_hear_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    as_on_a_terminal(monkeypatch)
    with copying("copying small.bin", 1_000_000) as copied:
        copied(1_000_000)
    console.talk.quiet = True
    with copying("copying big.bin", 100_000_000) as copied:
        copied(50_000_000)
    console.talk.quiet = False
    monkeypatch.setattr(sys.stderr, "isatty", lambda: False)
    with copying("copying big.bin", 100_000_000) as copied:
        copied(50_000_000)
    assert capsys.readouterr().err == ""
