"""A slow runtime answers as many rows as settle the gate: the interval, and its step."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats
from workbench import Bench, cnn

from repo_builder.steps._sampling import BLOCK, LEAST_BLOCKS, settled

ACCURACY = {"metric": "accuracy", "labels": {"label": "label"}, "outputs": {"scores": "y"}}


@pytest.mark.parametrize("count", [4, 7, 20, 28, 200])
def test_the_interval_is_students(count: int) -> None:
    drops = np.random.default_rng(count).normal(0.01, 0.02, count).tolist()
    half = stats.t.ppf(0.995, count - 1) * np.std(drops, ddof=1) / math.sqrt(count)
    mean = float(np.mean(drops))
    near = 0.07 * half  # beyond the table the interval is a little wider than needed
    assert settled(drops, mean + half + near)
    assert settled(drops, mean - half - near)
    assert not settled(drops, mean + half - near)
    assert not settled(drops, mean - half + near)


def test_few_blocks_settle_nothing_and_a_narrow_interval_does_without_a_gate() -> None:
    assert not settled([0.0] * (LEAST_BLOCKS - 1), 0.5)
    assert settled([0.0] * LEAST_BLOCKS, 0.5)
    assert settled([0.2, 0.2, 0.2, 0.2], None)
    assert not settled([0.0, 0.2, 0.0, 0.2], None)


def _verify(bench: Bench, *, limit: float | None, wrong: float, rows: int = 400) -> Any:
    """Verify a model that, on a share of the rows, answers with another class than the source."""
    random = np.random.default_rng(3)
    x = random.standard_normal((rows, 3, 16, 16)).astype(np.float32)
    source = bench.model(cnn())
    reference, _ = bench.run("reference", model=source, evaluation=bench.data("evaluation", x=x))
    from repo_builder.steps import _data

    label = _data.read(reference / "outputs.npz")["y"].argmax(axis=1)
    turned = random.random(rows) < wrong
    evaluation = bench.data("evaluation", x=x, label=np.where(turned, (label + 1) % 5, label))
    reference, _ = bench.run("reference", params=ACCURACY, model=source, evaluation=evaluation)
    params = {"runtime": "onnxruntime", "threads": 1, "sampled": True, "limit": limit, **ACCURACY}
    _, facts = bench.run(
        "verify",
        params=params,
        model=bench.model(cnn()),
        source=source,
        reference=reference,
        evaluation=evaluation,
    )
    return facts


def test_equal_models_are_settled_after_the_least_blocks(bench: Bench) -> None:
    facts = _verify(bench, limit=0.01, wrong=0.3)
    assert facts.rows == BLOCK * LEAST_BLOCKS
    assert facts.score.drop == 0
    assert 0.55 < facts.score.source < 0.85  # of the same rows
    assert facts.outputs[0].relative < 1e-6


def test_all_rows_run_where_a_gate_of_zero_is_never_settled(bench: Bench) -> None:
    facts = _verify(bench, limit=0.0, wrong=0.3)
    assert facts.rows == 400


def test_fewer_rows_than_blocks_are_all_run(bench: Bench) -> None:
    assert _verify(bench, limit=0.5, wrong=0.0, rows=50).rows == 50
