"""The console: tables that fit, colour that is asked for, data apart from talk."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_builder.base import console

COLOUR = re.compile("\x1b\\[[0-9;]*m")


@pytest.fixture(autouse=True)
def plain(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)


cells = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=40)


@given(st.lists(st.tuples(cells, cells, st.integers(0, 10**6)), max_size=5), st.integers(60, 200))
def test_a_table_fits_and_cuts_no_figure(rows: list[tuple[str, str, int]], width: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        text = console.table(("one", "two", "n"), [(a, b, str(n)) for a, b, n in rows], right=[2])
    lines = text.split("\n")
    assert len(lines) == len(rows) + 1
    assert all(len(line) <= width for line in lines)
    for line, (name, _, number) in zip(lines[1:], rows, strict=True):
        assert line.startswith(name)
        assert line.endswith(str(number))


def test_columns_line_up_and_what_is_cut_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    text = console.table(("id", "why", "ms"), [("a@cpu", "x" * 50, "1.25"), ("b", "y", "10")], [2])
    assert text.split("\n") == [
        "id     why                            ms",
        "a@cpu  xxxxxxxxxxxxxxxxxxxxxxxxxx…  1.25",
        "b      y                              10",
    ]


def test_an_empty_table_is_its_header() -> None:
    assert console.table(("a", "b"), []) == "a  b"


@pytest.mark.parametrize(
    ("env", "coloured"),
    [
        ({}, False),
        ({"FORCE_COLOR": "1"}, True),
        ({"FORCE_COLOR": "1", "NO_COLOR": "1"}, False),
        ({"NO_COLOR": ""}, False),
    ],
)
def test_colour_is_asked_for(
    env: dict[str, str],
    coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    console.error("bad")
    console.out(console.table(("a",), [("b",)]))
    said, data = capsys.readouterr().err, console.table(("a",), [("b",)])
    assert bool(COLOUR.search(said)) == coloured
    assert bool(COLOUR.search(data)) == coloured
    assert COLOUR.sub("", said) == "error: bad\n"


def test_results_go_to_stdout_and_talk_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    console.out_json({"b": 1, "a": [2]})
    console.say("talk")
    console.warn("careful")
    captured = capsys.readouterr()
    assert captured.out == '{\n  "a": [\n    2\n  ],\n  "b": 1\n}\n'
    assert captured.err == "talk\nwarning: careful\n"


def test_a_narrow_terminal_loses_columns_before_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    header, rows = ("id", "a", "b", "state"), [("digits@cpu", "x" * 20, "y" * 20, "built")]
    text = console.table(header, rows, drop=[1, 2])
    assert text.split("\n")[1].split() == ["digits@cpu", "y" * 20, "built"]
    monkeypatch.setenv("COLUMNS", "100")
    assert "x" * 20 in console.table(header, rows, drop=[1, 2])


def test_reasons_stand_whole_below_their_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    why = "digits.onnx: " + "not an ONNX model " * 6
    text = console.table(("id", "state"), [("a", "built"), ("b", "failed")], notes={1: why})
    lines = text.split("\n")
    assert [line.split()[0] for line in lines[:3]] == ["id", "a", "b"]
    assert all(line.startswith("    ") and len(line) <= 60 for line in lines[3:])
    assert " ".join(line.strip() for line in lines[3:]) == why.strip()


def test_a_column_that_goes_may_stand_below_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    header, rows = ("id", "gain", "state"), [("a" * 30, "x" * 30, "built"), ("b", "-", "built")]
    monkeypatch.setenv("COLUMNS", "60")
    lines = console.table(header, rows, drop=[1], below=1, notes={0: "why"}).split("\n")
    assert lines[2:4] == [f"    gain: {'x' * 30}", "    why"]
    assert lines[4].split() == ["b", "built"]
    monkeypatch.setenv("COLUMNS", "100")
    assert len(console.table(header, rows, drop=[1], below=1).split("\n")) == 3


def test_a_column_that_wraps_loses_no_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    why = "the file evaluation.npz changed since the last build of this model and target"
    text = console.table(("id", "step", "why"), [("digits@cpu", "import", why)], wrap=(2,))
    lines = text.split("\n")[1:]
    assert len(lines) > 1
    assert all(len(line) <= 60 for line in lines)
    assert " ".join(lines).replace("digits@cpu  import", "").split() == why.split()


def test_the_first_column_goes_on_below_as_a_last_resort(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    name = "a-model-with-a-name-as-long-as-people-make-them@snapdragon-qcs8275"
    text = console.table(("id", "state", "ms"), [(name, "gate failed", "1.25")], right=[2])
    lines = text.split("\n")
    assert all(len(line) <= 60 for line in lines)
    assert "".join(line.split("  ")[0] for line in lines[1:]) == name
    assert lines[1].endswith("1.25")


def test_what_goes_on_below_keeps_its_own_indent() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", "60")
        said = console.fitted("  OpenVINO has no " + "operator " * 12).split("\n")
    assert len(said) > 1
    assert all(line.startswith("  ") and line[2] != " " for line in said)


def test_a_paragraph_fits_behind_its_indent(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "word " * 30
    assert console.fitted(said) == said
    monkeypatch.setenv("COLUMNS", "60")
    lines = console.fitted(said, "  ").split("\n")
    assert max(map(len, lines)) <= 60
    assert all(line.startswith("  word") for line in lines)
    assert " ".join(lines).split() == said.split()


def test_states_have_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = console.table(("id", "state"), [("a", "failed")], colours={"failed": "red"})
    assert "\x1b[31mfailed\x1b[0m" in text


@pytest.mark.parametrize(
    ("size", "said"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 KB"),
        (34_120, "34.1 KB"),
        (2_400_000, "2.40 MB"),
        (7_000_000_000, "7.00 GB"),
    ],
)
def test_sizes(size: int, said: str) -> None:
    assert console.megabytes(size) == said


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (0.04, "0.0s"),
        (9.94, "9.9s"),
        (12.4, "12s"),
        (59.6, "60s"),
        (125, "2m05s"),
        (3600, "60m00s"),
    ],
)
def test_durations(value: float, said: str) -> None:
    assert console.seconds(value) == said
