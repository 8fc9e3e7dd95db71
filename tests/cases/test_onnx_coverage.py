"""A sample of the onnx package's models goes all the way; see tests/onnx_coverage.py."""

from __future__ import annotations

import importlib.util
import random
from collections.abc import Callable
from typing import NoReturn

from tests.onnx_coverage import check, light, nodes


def test_a_sample_of_onnx_models(unavailable: Callable[[str], NoReturn]) -> None:
    if importlib.util.find_spec("pytriton") is None:
        unavailable("the package pytriton is not installed")
    squeezenet = [example for example in light() if "squeezenet" in example.name]
    sample = random.Random(7).sample(nodes(), 20)  # noqa: S311
    results = check(squeezenet + sample)
    assert [r for r in results if r.outcome == "failed"] == []
    outcomes = {r.name: r.outcome for r in results}
    assert outcomes["light_squeezenet"] == "equal"
    assert sum(outcome == "equal" for outcome in outcomes.values()) >= 15
