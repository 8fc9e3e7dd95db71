"""The JSON Schema says what the loader says, wherever a schema can say it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from repo_builder import targets
from repo_builder.base import document, validate
from repo_builder.spec import schema
from repo_builder.spec.raw import RawSpec

ROOT = Path(__file__).parents[3]
SPECS = Draft202012Validator(schema.of_specs())
DEFAULTS = Draft202012Validator(schema.of_defaults())
FULL = yaml.safe_load(
    """
    kind: model
    name: digits
    version: 1.2.3
    source: {onnx: m.onnx}
    targets: [cpu, cpu-openvino]
    data:
      calibration: {path: c.npz, samples: 200}
      evaluation:
        path: e.npz
        metric: accuracy
        labels: {label: digit}
        outputs: {scores: logits}
        samples: 9
      confidence: {path: h.npz, label: digit}
    optimize:
      simplify: true
      precision: int8
      quantization: {method: entropy, percentile: 99.9, per_channel: false, exclude: [a]}
    gates: {max_accuracy_drop: 0.1, max_size_mb: 1.5, max_latency_ms: 3}
    fallback: {policy: margin, max_error: 0.02, confidence_level: 0.9, cloud: big, cloud_cost: 2}
    preprocess: {input: image, size: [8, 8], color: gray, mean: [0.5], std: [0.5]}
    serving:
      objective: throughput
      max_batch_size: 8
      labels: {logits: l.txt}
      dynamic_batching: {max_queue_delay_microseconds: 100}
      instance_group: [{count: 2, kind: KIND_CPU}]
    overrides:
      cpu-openvino:
        optimize: {precision: fp16}
        data: {evaluation: {samples: 5}, calibration: {samples: 3}}
        gates: {max_size_mb: null}
        fallback: {threshold: 0.5, max_error: null}
    """
)


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict):
        for key, inner in value.items():
            found += places(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            found += places(inner, (*path, index))
    return found


TORCH = {
    **FULL,
    "source": {
        "torch": {
            "factory": "nets.py:make",
            "kwargs": {"width": 8, "names": ["a"], "more": {"x": None}},
            "weights": "w.safetensors",
            "inputs": {"x": [1, 40], "ids": {"shape": [1, 3], "dtype": "int64"}},
            "outputs": ["logits"],
            "batch": True,
        }
    },
}
CHANGES = [(FULL, place) for place in places(FULL)[1:]] + [
    (TORCH, place) for place in places(TORCH) if place[:1] == ("source",)
]


def loads(value: Any) -> bool:
    read = document.Document(value, {(): document.Place("f", 1)})
    return not validate.check(RawSpec, read)[1]


def test_a_full_spec_fits() -> None:
    for whole in (FULL, TORCH):
        assert SPECS.is_valid(whole)
        assert loads(whole)
    both = {**FULL, "source": {**FULL["source"], **TORCH["source"]}}
    assert not SPECS.is_valid(both)
    assert not loads(both)


@pytest.mark.parametrize("path", sorted((ROOT / "model_specs").glob("*.yaml")), ids=str)
def test_the_examples_fit(path: Path) -> None:
    assert list(SPECS.iter_errors(yaml.safe_load(path.read_text()))) == []
    assert (path.parent / path.read_text().split("$schema=")[1].split()[0]).is_file()


def test_defaults_may_hold_any_part_but_what_each_spec_says_itself() -> None:
    shared = {key: value for key, value in FULL.items() if key not in schema.OWN}
    assert DEFAULTS.is_valid(shared)
    assert DEFAULTS.is_valid({"data": {"calibration": {"samples": 5}}})
    assert DEFAULTS.is_valid({})
    for key in schema.OWN:
        assert not DEFAULTS.is_valid({key: FULL[key]})
    assert not DEFAULTS.is_valid({"gatse": {}})


WRONG = [None, True, -1, 0, 1, 1.5, 10**6, "", "x", "cpu", "1.0", "int8", [], ["x"], {}, {"x": 1}]


@given(st.sampled_from(CHANGES), st.sampled_from([*WRONG, "drop", "extra"]))
@settings(max_examples=1000)
def test_schema_and_loader_agree_on_a_spec_with_one_change(
    change: tuple[Any, tuple[Any, ...]], wrong: Any
) -> None:
    whole, place = change
    changed = copy.deepcopy(whole)
    inside = changed
    for step in place[:-1]:
        inside = inside[step]
    if wrong == "drop":
        del inside[place[-1]]
    elif wrong == "extra" and isinstance(inside, dict):
        inside["extra"] = 1
    else:
        inside[place[-1]] = wrong
    if place == ("targets",) and wrong == "drop":
        return  # may come from defaults.yaml
    assert SPECS.is_valid(changed) == loads(changed), (place, wrong)


@pytest.mark.parametrize("make", [schema.of_specs, schema.of_defaults])
def test_every_property_says_what_it_is(make: Callable[[], dict[str, Any]]) -> None:
    whole = make()
    shapes = {"": whole, **whole["$defs"]}
    silent = [
        f"{name}.{field}"
        for name, shape in shapes.items()
        for field, value in shape.get("properties", {}).items()
        if not value.get("description")
    ]
    assert silent == []


def test_the_catalogs_targets_are_offered_and_others_allowed() -> None:
    items = schema.of_specs()["$defs"]["Model"]["properties"]["targets"]["items"]["anyOf"]
    assert items == [{"enum": sorted(targets.load(None))}, {"type": "string"}]
