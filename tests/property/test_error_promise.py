"""The promise of a fallback for the example as it is deployed: quantized, compiled, calibrated.

Its answers to the 800 labelled images stand for the population. Samples are drawn from it 200 times
with replacement, each gives a policy, and the promise is broken where that policy's error on the
whole population is above `max_error`.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from repo_builder import steps
from repo_builder.client.models.confidence import score
from repo_builder.steps import _answers, _data, _runtimes
from repo_builder.steps import _confidence as confidence
from repo_builder.steps.calibrate_confidence import Params, classify

SPECS = Path(__file__).parents[2] / "model_specs"
MAX_ERROR = 0.02
SPLITS, SIZE = 200, 800

BROKEN_AT_MOST = 18
"""P(X > 18) < 0.006 for X ~ Binomial(200, 0.05): what a kept promise gives by chance at most."""

Values = npt.NDArray[Any]


@pytest.fixture(scope="module")
def population(tmp_path_factory: pytest.TempPathFactory) -> tuple[Values, Values]:
    """Logits of the int8 model in the runtime that serves it, and labels."""
    folder = tmp_path_factory.mktemp("int8")
    (folder / "source").mkdir()
    shutil.copy(SPECS / "digits/digits.onnx", folder / "source/model.onnx")
    made = folder / "source"
    for step, params, inputs in (
        (
            "quantize",
            {"scheme": "u8s8", "method": "percentile", "samples": 200},
            {"calibration": SPECS / "digits"},
        ),
        ("compile-onnxruntime", {"precision": "int8"}, {}),
    ):
        out = folder / step
        out.mkdir()
        module = steps.load(step)
        module.run(module.Inputs(model=made, **inputs), module.Params(**params), out)
        made = out
    runner = _runtimes.load(made, "onnxruntime")
    data = _data.read(SPECS / "digits/evaluation.npz")
    values = _answers.run_all(runner, _data.check(data, runner.inputs, "evaluation.npz"))
    return values["logits"], data["label"]


def broken(population: tuple[Values, Values], choose: Callable[..., Any]) -> tuple[int, float]:
    """How often the rows that a choice calls sure are too often wrong, and its mean coverage.

    `choose(values, labels)` of a sample returns which rows of the population are sure.
    """
    values, labels = population
    wrong = values.argmax(axis=1) != labels
    random = np.random.default_rng(11)
    count, coverage = 0, []
    for _ in range(SPLITS):
        rows = random.integers(0, len(labels), SIZE)
        sure = choose(values[rows], labels[rows])
        coverage.append(sure.mean())
        count += bool(sure.any() and wrong[sure].mean() > MAX_ERROR)
    return count, float(np.mean(coverage))


@pytest.mark.parametrize("policy", ["max_probability", "entropy"])
def test_the_promise_is_kept(population: tuple[Values, Values], policy: Any) -> None:
    values, _ = population
    params = Params("onnxruntime", policy, "logits", "logits", max_error=MAX_ERROR)

    def choose(sample: Values, labels: Values) -> Any:
        found = classify(sample, labels, None, params, "digest").policy
        return found.sure(found.scores({"logits": values}))

    count, coverage = broken(population, choose)
    assert count <= BROKEN_AT_MOST
    assert coverage > 0.5


def test_the_threshold_that_looks_best_breaks_it(population: tuple[Values, Values]) -> None:
    """So the test above can fail."""
    values, _ = population
    scores = score("max_probability", values, "logits")

    def choose(sample: Values, labels: Values) -> Any:
        own = score("max_probability", sample, "logits")
        wrong = sample.argmax(axis=1) != labels
        good = [t for t in np.unique(own) if wrong[own >= t].mean() <= MAX_ERROR]
        return scores >= min(good)

    count, _ = broken(population, choose)
    assert count > 3 * BROKEN_AT_MOST


def test_the_bound_of_the_slack() -> None:
    assert 1 - confidence.binomial_cdf(BROKEN_AT_MOST, SPLITS, 0.05) < 0.006
