"""YAML with the line of every value: plain data only, bounded, every problem with its place."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from repo_builder.base import document
from repo_builder.base.document import MAX_BYTES, Document, Place
from repo_builder.base.errors import Problem


def parsed(text: str) -> Document:
    found, problems = document.parse(text, "a.yaml")
    assert not problems
    assert found is not None
    return found


def problems(text: str) -> list[str]:
    return [str(problem) for problem in document.parse(text, "a.yaml")[1]]


def test_every_key_and_item_has_its_line() -> None:
    found = parsed("# comment\nname: digits\ntargets:\n  - cpu\n  - cpu-openvino\ndata: {x: 1}\n")
    assert found.value == {
        "name": "digits",
        "targets": ["cpu", "cpu-openvino"],
        "data": {"x": 1},
    }
    assert found.place(("name",)) == Place("a.yaml", 2)
    assert found.place(("targets", 1)) == Place("a.yaml", 5)
    assert found.place(("data", "x")) == Place("a.yaml", 6)
    assert found.place(("data", "absent", 3)) == Place("a.yaml", 6)


def test_field_names_read_like_the_file() -> None:
    assert document.field_name(("data", "evaluation", 0, "path")) == "data.evaluation[0].path"
    assert document.field_name(()) == ""


def test_scalars_are_what_yaml_says_and_dates_stay_text() -> None:
    found = parsed("[1, 2.5, true, null, '3', 2024-01-31, =, 0x10, 1_000]")
    assert found.value == [1, 2.5, True, None, "3", "2024-01-31", "=", 16, 1000]


@pytest.mark.parametrize("text", ["", "# only a comment\n", "---\n"])
def test_nothing_is_an_empty_mapping_with_a_place(text: str) -> None:
    found, wrong = document.parse(text, "a.yaml")
    assert found is not None
    assert found.problem((), "is empty").file == "a.yaml"
    assert found.value in ({}, None)
    assert not wrong


def test_a_byte_order_mark_is_no_part_of_the_first_key() -> None:
    assert parsed("\ufeffname: x").value == {"name": "x"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !!python/object/apply:os.system ['true']", "a.yaml:1: a: the YAML tag"),
        ("x: 1\na: !mine b", "a.yaml:2: a: the YAML tag !mine is not allowed; write plain data"),
        ("!mine a: 1", "a.yaml:1: the YAML tag !mine is not allowed"),
        ("a: !!set {x}", "the YAML tag tag:yaml.org,2002:set is not allowed"),
        ("a: !!binary aGk=", "the YAML tag tag:yaml.org,2002:binary is not allowed"),
        ("a: !!timestamp [x]", "the YAML tag tag:yaml.org,2002:timestamp is not allowed"),
        ("a: 1\nb: 2\na: 3", "a.yaml:3: a: 'a' is written twice (first on line 1); keep one"),
        ("a: &x [1, *x]", "a.yaml:1: a[1]: an anchor that contains itself"),
        ("b: &x {c: *x}", "a.yaml:1: b.c: an anchor that contains itself"),
        ("a: &x {k: 1}\nb: {<<: *x}", "a.yaml:2: b: '<<' is not allowed; write the values out"),
        ("[1]: x", "a.yaml:1: a key that is not a word; use a plain word"),
        ("a: !!int ''", "a.yaml:1: a: not a number"),
        ("a: !!int many", "a.yaml:1: a: not a number"),
        ("a: !!bool maybe", "a.yaml:1: a: not true or false"),
        ("a: " + "9" * 5000, "a.yaml:1: a: not a number: more than 100 digits"),
        ("a: " + ":".join(["59"] * 5000), "a.yaml:1: a: not a number: more than 100 digits"),
        ("a: [1\nb: 2", "a.yaml:2: not YAML: did not find expected ',' or ']'"),
        ("a: b: c", "a.yaml:1: not YAML: mapping values are not allowed in this context"),
        ("a: *b", "a.yaml:1: not YAML: found undefined alias"),
        ("a: 1\n---\nb: 2", "a.yaml:2: not YAML: but found another document"),
        ("a: \x07", "not YAML"),
        ('a: "\\ud800"', "a.yaml:1: not YAML: found invalid Unicode character escape code"),
    ],
)
def test_what_is_not_plain_data_is_one_line(text: str, said: str) -> None:
    (line,) = problems(text)
    assert said in line
    assert "\n" not in line


def test_every_problem_of_a_file_is_found_and_the_rest_is_read() -> None:
    found, wrong = document.parse("a: !x 1\nb: 2\nb: 3\nc: !y {d: 1}\n", "a.yaml")
    assert [problem.line for problem in wrong] == [1, 3, 4]
    assert found is not None
    assert found.value["b"] == 2


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        "[" * 20_000 + "]" * 20_000,
        "{a: " * 50_000,
        "\n".join(" " * depth + "a:" for depth in range(1300)),
        "- " * 2000,
        "x0: &a0 [1]\n" + "\n".join(f"x{i}: &a{i} [*a{i - 1}]" for i in range(1, 2000)),
    ],
    ids=["open", "closed", "mappings", "block", "dashes", "aliases"],
)
def test_deep_nesting_is_a_problem_and_not_a_crash(text: str) -> None:
    assert any("nested too deeply" in line for line in problems(text))


def test_billion_laughs_end_quickly() -> None:
    rows = ["a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]" for i in range(1, 12)]
    begun = time.monotonic()
    found, wrong = document.parse("\n".join(rows), "a.yaml")
    assert any("expands to too many values" in problem.what for problem in wrong)
    assert found is not None
    assert len(found.places) < 101_000
    assert time.monotonic() - begun < 10


def test_a_file_of_ten_megabytes_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_bytes(b"a: " + b"x" * 10_000_000)
    found, (problem,) = document.read(path)
    assert found is None
    assert problem == Problem("larger than 1000 KB", "a spec holds no data", str(path))
    path.write_bytes(b"a: " + b"x" * (MAX_BYTES - 3))
    found, wrong = document.read(path)
    assert found is not None
    assert not wrong


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"name: \xff\xfe", "not UTF-8 text (byte 6); save it as UTF-8"), (None, "No such file")],
)
def test_what_cannot_be_read_is_one_line(tmp_path: Path, content: bytes | None, said: str) -> None:
    path = tmp_path / "a.yaml"
    if content is not None:
        path.write_bytes(content)
    found, (problem,) = document.read(path)
    assert found is None
    assert said in str(problem)
    assert str(problem).startswith(str(path))


def test_what_a_file_says_cannot_break_a_message_into_lines() -> None:
    (line,) = problems('"a\\nb\\e[31m": !x 1')
    assert line.startswith(r"a.yaml:1: a\nb\x1b[31m: the YAML tag")


def test_overlay_merges_mappings_and_keeps_the_place_of_what_won() -> None:
    below = document.parse("gates:\n  max_size_mb: 1\n  max_latency_ms: 2\ntags: [a, b]\n", "low")[
        0
    ]
    above = document.parse("# one\n# two\ngates: {max_size_mb: 9}\ntags: [c]\n", "high")[0]
    assert below is not None
    assert above is not None
    both = document.overlay(below, above)
    assert both.value == {"gates": {"max_size_mb": 9, "max_latency_ms": 2}, "tags": ["c"]}
    assert both.place(("gates", "max_size_mb")) == Place("high", 3)
    assert both.place(("gates", "max_latency_ms")) == Place("low", 3)
    assert both.place(("gates",)) == Place("high", 3)
    assert both.place(("tags", 0)) == Place("high", 4)
    assert both.place(("tags", 1)) == Place("high", 4)  # b is gone, and so is its place
    assert both.place(("absent",)) == Place("high", 1)


def test_overlay_of_a_mapping_by_a_value_forgets_what_was_inside() -> None:
    below = parsed("a: {b: {c: 1}}")
    above = parsed("x: 1\na: null")
    both = document.overlay(below, above)
    assert both.value == {"a": None, "x": 1}
    assert both.place(("a", "b", "c")) == Place("a.yaml", 2)


def test_overlay_of_many_keys_takes_no_quadratic_time() -> None:
    many = parsed("{" + ", ".join(f"k{i}: {i}" for i in range(20_000)) + "}")
    assert document.overlay(many, many) == many


def test_a_part_is_a_document_with_its_own_places() -> None:
    whole = parsed("overrides:\n  cpu:\n    gates:\n      max_size_mb: 1\n")
    part = document.part(whole, ("overrides", "cpu"))
    assert part.value == {"gates": {"max_size_mb": 1}}
    assert part.place(("gates", "max_size_mb")) == Place("a.yaml", 4)
    assert part.place(()) == Place("a.yaml", 2)
