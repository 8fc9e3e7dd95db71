"""Documents against types: every finding in words for users, with place and suggestion."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from repo_builder.base import document, validate


class Leaf(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    count: int = 0
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    deep: bool = False
    kind: Literal["edge", "cloud"] = "edge"
    given: Annotated[str, Field(alias="global")] = ""
    text: str = ""

    @field_validator("text")
    @classmethod
    def _not_bad(cls, value: str) -> str:
        if value == "bad":
            raise ValueError("bad is not good; write good")
        return value


class Tree(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    leaf: Leaf = Leaf()
    maybe: Annotated[Leaf | None, Field(description="x")] = None
    many: Annotated[list[Leaf], Field(min_length=1, max_length=2)] = [Leaf()]
    by_name: dict[str, Leaf] = {}


def said(text: str) -> list[str]:
    found, wrong = document.parse(text, "f")
    assert found is not None
    assert not wrong
    model, problems = validate.check(Tree, found)
    assert (model is None) == bool(problems)
    return [str(problem) for problem in problems]


def test_what_fits_becomes_the_model() -> None:
    found = document.parse("name: x\nby_name: {a: {count: 3}}", "f")[0]
    assert found is not None
    model, problems = validate.check(Tree, found)
    assert isinstance(model, Tree)
    assert model.by_name["a"].count == 3
    assert not problems


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("leaf: {}", "f:1: name: is missing; write `name: ...`"),
        ("", "f:1: name: is missing; write `name: ...`"),
        ("nam: x\nname: y", "f:1: nam: unknown key; did you mean 'name'?"),
        ("name: x\nleaf: {coumt: 1}", "f:2: leaf.coumt: unknown key; did you mean 'count'?"),
        ("name: x\nleaf: {glbal: 1}", "f:2: leaf.glbal: unknown key; did you mean 'global'?"),
        ("name: x\nmaybe:\n  dep: 1", "f:3: maybe.dep: unknown key; did you mean 'deep'?"),
        ("name: x\nmany:\n- {}\n- {shar: 1}", "f:4: many[1].shar: unknown key; did you mean"),
        (
            "name: x\nby_name: {leaf: {knd: 1}}",
            "by_name.leaf.knd: unknown key; did you mean",
        ),
        ("name: x\nleaf: {zz: 1}", "unknown key; one of: count, deep, global, kind, share, text"),
        ("name: 1.5", "f:1: name: must be text, not 1.5; write it in quotes"),
        ("name: no", "f:1: name: must be text, not false; write it in quotes"),
        ("name:", "f:1: name: must be text, not empty"),
        ("name: [x]", "f:1: name: must be text, not a list"),
        ("name: x\nleaf: 3", "f:2: leaf: must be a mapping of keys to values, not 3"),
        ("name: x\nby_name: [a]", "f:2: by_name: must be a mapping of keys to values, not a list"),
        ("name: x\nmany: {a: 1}", "f:2: many: must be a list, not a mapping"),
        ("name: x\nmany: []", "f:2: many: must have at least 1 items, not a list"),
        ("name: x\nleaf: {count: '3'}", "leaf.count: must be a whole number, not '3'"),
        ("name: x\nleaf: {count: 3.5}", "leaf.count: must be a whole number, not 3.5"),
        ("name: x\nleaf: {deep: 1}", "leaf.deep: must be true or false, not 1"),
        ("name: x\nleaf: {share: 0}", "leaf.share: must be more than 0.0, not 0"),
        ("name: x\nleaf: {share: 2}", "leaf.share: must be at most 1.0, not 2"),
        ("name: x\nleaf: {share: .nan}", "leaf.share: must be a finite number, not nan"),
        ("name: x\nleaf: {kind: egde}", "leaf.kind: unknown value 'egde'; did you mean 'edge'?"),
        ("name: x\nleaf: {kind: 3}", "leaf.kind: must be 'edge' or 'cloud', not 3"),
        ("name: x\nleaf: {text: bad}", "f:2: leaf.text: bad is not good; write good"),
        ("[1, 2]", "f:1: must be a mapping of keys to values"),
        ("just words", "f:1: must be a mapping of keys to values"),
    ],
)
def test_a_finding_is_one_line_with_place_and_fix(text: str, line: str) -> None:
    (found,) = said(text)
    assert line in found


def test_all_findings_come_at_once() -> None:
    lines = said("leaf: {coumt: 1, share: 9}\nmany:\n- {deep: 1}\n- {text: bad}\n")
    assert len(lines) == 5


def test_a_huge_value_is_cut() -> None:
    (line,) = said("name: x\nleaf: {count: " + "y" * 500_000 + "}")
    assert len(line) < 200
    (line,) = said("x: &a " + "y" * 5_000 + "\nname: [" + "*a, " * 5_000 + "]")[:1]
    assert len(line) < 200


def test_a_pattern_with_braces_is_told() -> None:
    class Named(BaseModel):
        digest: Annotated[str, Field(pattern="^[0-9a-f]{12}$")]

    read, _ = document.parse("digest: x\n", "f.yaml")
    assert read is not None
    _, problems = validate.check(Named, read)
    assert [problem.what for problem in problems] == ["must match ^[0-9a-f]{12}$, not 'x'"]
