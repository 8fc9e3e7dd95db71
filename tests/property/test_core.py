"""Properties of keys, versions, documents and specs, on whatever Hypothesis comes up with."""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from repo_builder import targets
from repo_builder.base import digest, document
from repo_builder.base.artifact import Artifact, Blob
from repo_builder.base.errors import Problem, SpecError
from repo_builder.spec.load import load
from repo_builder.spec.types import Spec, Version

CATALOG = targets.load()

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
texts = st.text(st.characters(codec="utf-8"))
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)
parts = st.integers(0, 999)


@given(json_values)
def test_canonical_json_is_json_and_says_the_same(value: Any) -> None:
    assert json.loads(digest.canonical(value)) == value


def shuffled(value: Any, reverse: bool) -> Any:
    if isinstance(value, dict):
        items = [(key, shuffled(inner, not reverse)) for key, inner in value.items()]
        return dict(reversed(items) if reverse else items)
    return [shuffled(item, not reverse) for item in value] if isinstance(value, list) else value


@given(json_values)
def test_the_order_of_keys_does_not_change_a_digest(value: Any) -> None:
    assert digest.of_json(shuffled(value, True)) == digest.of_json(value)


@given(json_values, json_values)
def test_digests_differ_where_values_do(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (digest.of_json(one) == digest.of_json(other)) == same


@given(st.dictionaries(texts, st.binary(max_size=9), max_size=5))
def test_equal_trees_have_equal_digests(files: dict[str, bytes]) -> None:
    blobs = {name: Blob(digest.of_bytes(data), len(data)) for name, data in files.items()}
    artifact = Artifact(blobs)
    assert artifact.digest == Artifact(shuffled(blobs, True)).digest
    assert artifact.size == sum(len(data) for data in files.values())


@given(st.tuples(parts, parts, parts), st.tuples(parts, parts, parts))
def test_triton_versions_are_exact_both_ways_and_keep_the_order(
    numbers: tuple[int, int, int], others: tuple[int, int, int]
) -> None:
    one, other = Version(*numbers), Version(*others)
    assert Version.from_triton(one.triton) == one
    assert (one.triton < other.triton) == (numbers < others)
    assert 0 <= one.triton <= 999_999_999


@given(st.integers(0, 999_999_999))
def test_every_number_of_tritons_is_one_version(number: int) -> None:
    assert Version.from_triton(number).triton == number


yaml_like = st.text(st.sampled_from("ab:- \n[]{},&*!|>'\"#?%0159.<~=@"), max_size=60) | st.text(
    max_size=60
)


@given(yaml_like)
@settings(max_examples=400)
def test_any_text_is_read_or_told_with_a_line_of_it(text: str) -> None:
    found, problems = document.parse(text, "f")
    lines = text.count("\n") + text.count("\r") + 1
    for problem in problems:
        assert problem.file == "f"
        assert 0 <= problem.line <= lines
        assert "\n" not in str(problem)
    assert found is not None or problems
    if found is not None:
        for place in found.places.values():
            assert 1 <= place.line <= lines


plain = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs", "Cn")), max_size=8)
yaml_values = st.recursive(
    st.none() | st.booleans() | st.integers() | plain,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(plain, inner, max_size=3),
    max_leaves=10,
)


@given(st.dictionaries(plain, yaml_values, max_size=4))
def test_what_yaml_writes_is_read_the_same(value: dict[str, Any]) -> None:
    found, problems = document.parse(yaml.safe_dump(value, allow_unicode=True), "f")
    assert not problems
    assert found is not None
    assert found.value == value


@given(
    st.dictionaries(plain, yaml_values, max_size=4), st.dictionaries(plain, yaml_values, max_size=4)
)
def test_overlay_knows_a_place_for_all_it_has(low: dict[str, Any], high: dict[str, Any]) -> None:
    below, _ = document.parse(yaml.safe_dump(low), "low")
    above, _ = document.parse(yaml.safe_dump(high), "high")
    assert below is not None
    assert above is not None
    both = document.overlay(below, above)

    def walk(value: Any, path: tuple[str | int, ...]) -> None:
        assert path in both.places
        if isinstance(value, (dict, list)):
            for key, item in value.items() if isinstance(value, dict) else enumerate(value):
                walk(item, (*path, key))

    walk(both.value, ())
    for key, value in high.items():
        if not isinstance(value, dict):
            assert both.value[key] == value
            assert both.places[(key,)].file == "high"
    assert document.overlay(both, above).value == both.value


EXAMPLE = Path(__file__).parents[2] / "model_specs" / "digits.yaml"
words = st.sampled_from(
    sorted(
        {*re.findall(r"[\w.-]+", EXAMPLE.read_text())}
        | {"overrides", "dynamic_batching", "instance_group", "model_warmup", "m.onnx"}
    )
)
spec_values = st.recursive(
    scalars | words,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=5),
    max_leaves=25,
)
right = {
    "name": "digits",
    "version": "1.0.0",
    "source": {"onnx": "m.onnx"},
    "targets": ["cpu", "cpu-openvino"],
}


@given(st.dictionaries(words, spec_values, max_size=6), st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_spec_of_any_shape_is_loaded_or_told(
    value: dict[str, Any], complete: bool, as_defaults: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "m.onnx").write_bytes(b"x")
        below, above = ({}, {**right, **value} if complete else value)
        if as_defaults:
            below, above = value, right
        (folder / "defaults.yaml").write_text(yaml.safe_dump(below), encoding="utf-8")
        (folder / "a.yaml").write_text(yaml.safe_dump(above), encoding="utf-8")
        specs, problems = loaded(folder)
        assert specs or problems
        for problem in problems:
            assert problem.file.endswith(("a.yaml", "defaults.yaml"))
            assert problem.line >= 1
            assert "\n" not in str(problem)


def loaded(folder: Path) -> tuple[list[Spec], tuple[Problem, ...]]:
    try:
        return load([folder], CATALOG), ()
    except SpecError as failure:
        return [], failure.problems
