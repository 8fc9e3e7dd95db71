"""What may be tried: only what the target can compute."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from repo_builder import targets
from repo_builder.build.search import candidates
from repo_builder.spec.pruning import Pruning
from repo_builder.spec.types import Gates, Optimize, Quantization, Serving, Spec, Version

ASKED = Optimize(quantization=Quantization(exclude=("/head/*",)))


def _spec(target: str) -> Spec:
    here = Path("m")
    return Spec(
        "m", Version(1, 0, 0), target, here, here, None, None, ASKED, Gates(), Serving(), None
    )


FOUR = ["int8", "int8 weights, dynamic activations", "int8 weights"]
CPU = [*FOUR, "int4 weights, dynamic activations", "int4 weights"]
MIXED = ["int8 mixed 0.05", "int8 mixed 0.01"]


@pytest.mark.parametrize(
    ("target", "kinds"),
    [
        ("cpu", [*CPU, *MIXED, "fp32"]),
        ("cpu-openvino", [*CPU, *MIXED, "fp16", "fp32"]),
        ("movidius-myriad-x", ["fp16"]),
        ("tflite-micro", ["int8"]),
    ],
)
def test_kinds_are_those_of_the_target(target: str, kinds: list[str]) -> None:
    found = candidates.of(_spec(target), targets.load()[target])
    assert list(dict.fromkeys(one.kind for one in found)) == kinds
    assert len({one.name for one in found}) == len(found)


def test_ways_to_quantize_are_those_of_the_table() -> None:
    found = candidates.of(_spec("cpu"), targets.load()["cpu"])
    ways = {one.name: one.optimize.quantization for one in found if one.kind == "int8"}
    assert [*ways] == [
        "int8 minmax",
        "int8 percentile 99.99",
        "int8 percentile 99.9",
        "int8 mse",
        "int8 entropy",
        "int8 all repairs",
    ]
    assert ways["int8 all repairs"].repair == ("equalize", "smooth", "bias", "round")
    (weights,) = [one.optimize.quantization for one in found if one.kind == "int4 weights"]
    assert (weights.weights, weights.activations) == ("int4", "none")


def test_zero_points_are_those_that_a_spec_would_get() -> None:
    for target in ("cpu", "jetson-orin-nx"):
        found = candidates.of(_spec(target), targets.load()[target])
        asked = {one.optimize.quantization.symmetric for one in found if one.kind == "int8"}
        assert asked == {target != "cpu"}


def test_what_the_spec_says_beside_auto_stays() -> None:
    for one in candidates.of(_spec("cpu"), targets.load()["cpu"]):
        assert one.optimize.quantization.exclude == ("/head/*",)
        assert one.optimize.auto is None
        assert one.optimize.precision == ("fp32" if one.kind == "fp32" else "int8")


def test_pruning_is_tried_whole_half_and_not_at_all() -> None:
    pruning = Pruning(share=0.5, round_to=8)
    spec = replace(_spec("cpu"), optimize=replace(ASKED, prune=pruning))
    found = candidates.of(spec, targets.load()["cpu"])
    assert len(found) == 3 * len(candidates.of(_spec("cpu"), targets.load()["cpu"]))
    plain = {one.name: one for one in found}
    shares = [
        plain[name].optimize.prune
        for name in ("int8 minmax, pruned 0.5", "int8 minmax, pruned 0.25", "int8 minmax")
    ]
    assert shares == [pruning, Pruning(share=0.25, round_to=8), None]
    assert plain["fp32, pruned 0.5"].expected == 0.25
