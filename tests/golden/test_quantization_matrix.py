"""docs/quantization-matrix.md is what the tables of support say, and they say all."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from repo_builder import targets
from repo_builder.targets import matrix, support
from repo_builder.targets.support.quantization import ACTIVATIONS, WEIGHTS

PAGE = Path(__file__).parents[2] / "docs" / "quantization-matrix.md"


def test_the_matrix_is_current(golden: Callable[[Path, str], None]) -> None:
    golden(PAGE, matrix.page(targets.load().values()))


@pytest.mark.parametrize("target", targets.load().values(), ids=lambda target: target.name)
def test_every_combination_is_computed_or_refused_with_a_way_out(target: Any) -> None:
    for weights in WEIGHTS:
        for activations in ACTIVATIONS:
            row = support.combination(target, weights, activations)
            assert (row.weights, row.activations) == (weights, activations)
            assert list(row.broken_rules()) == []
    plain = support.combination(target, "int8", "int8")
    assert plain.computed
    assert ("asymmetric" in plain.lacks) == (target.runtime == "tensorrt")
    assert target.int8 == "u8s8" or plain.symmetric
