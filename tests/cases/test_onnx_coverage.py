"""Samples of the onnx package's models go all the way: onnx_coverage.py and onnx_builds.py."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from tests import onnx_builds
from tests.onnx_coverage import check, light, nodes

EMPTY = {
    "test_slice_start_out_of_bounds",
    "test_triu_zero",
    "test_string_split_empty_tensor",
    "test_reduce_sum_default_axes_keepdims_example",
    "test_castlike_FLOAT_to_DOUBLE",
}
"""Models that declare a dimension of size 0; the first three give an output without elements."""

CARRIED = {"test_castlike_BFLOAT16_to_FLOAT", "test_quantizelinear", "test_not_2d"}
"""A type that numpy lacks, and models whose opset ONNX Runtime lacks: too new, too old."""


def test_a_sample_of_onnx_models(unavailable: Callable[[str], NoReturn]) -> None:
    if importlib.util.find_spec("pytriton") is None:
        unavailable("the package pytriton is not installed")
    some = nodes()
    squeezenet = [example for example in light() if "squeezenet" in example.name]
    sample = random.Random(7).sample(some, 20)  # noqa: S311
    more = [e for e in some if e.name in EMPTY and e not in sample]
    more += [e for e in some if e.name in CARRIED and e not in sample]
    results = check(squeezenet + sample + more)
    assert [r for r in results if r.outcome == "failed"] == []
    outcomes = {r.name: r.outcome for r in results}
    assert outcomes["light_squeezenet"] == "equal"
    assert {outcomes[name] for name in EMPTY | CARRIED} == {"equal"}
    assert {r.name for r in results if r.converted} >= CARRIED - {"test_castlike_BFLOAT16_to_FLOAT"}
    assert sum(outcome == "equal" for outcome in outcomes.values()) >= 20


BUILT = {
    "test_castlike_BFLOAT16_to_FLOAT": onnx_builds.EQUAL,
    "test_col2im_pads": onnx_builds.WITH_DATA,
    "test_mod_uint8": onnx_builds.EQUAL,
    "test_quantizelinear": onnx_builds.EQUAL,
    "test_reshape_reordered_last_dims": onnx_builds.EQUAL,
    "test_unsqueeze_axis_2": onnx_builds.EQUAL,
}
"""Models that once stopped a build: their type, inputs that random ones are not, a division by a
random 0, their opset, the simplifier, an output whose shape follows the data."""


def test_models_that_are_hard_to_build(
    tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> None:
    if importlib.util.find_spec("pytriton") is None:
        unavailable("the package pytriton is not installed")
    assert onnx_builds.run([e for e in nodes() if e.name in BUILT], tmp_path) == BUILT
