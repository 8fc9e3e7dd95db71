"""Threads of ONNX Runtime: they spin where a time is measured, and nowhere else."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnxruntime
import pytest
from workbench import Bench

from repo_builder.steps import _data, _inner, _onnx, _runtimes

SPINNING = "session.intra_op.allow_spinning"


@pytest.fixture
def spins(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Of every session that is made, whether its threads spin."""
    seen: list[bool] = []
    session = onnxruntime.InferenceSession

    def watched(model: Any, options: onnxruntime.SessionOptions, **more: Any) -> Any:
        try:
            seen.append(options.get_session_config_entry(SPINNING) != "0")
        except RuntimeError:  # it was not set, and ONNX Runtime's own is to spin
            seen.append(True)
        return session(model, options, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", watched)
    return seen


def test_answers_are_the_same_without_spinning(bench: Bench, spins: list[bool]) -> None:
    model = bench.example("shapes", "shapes.onnx")
    image = np.random.default_rng(0).random((4, 3, 96, 96), np.float32)
    answers = []
    for spin in (False, True):
        runner = _runtimes.load(model, "onnxruntime", _runtimes.Options(2, spin=spin))
        (name,) = (tensor.name for tensor in runner.inputs)
        answers.append(runner.run({name: image}))
    assert spins == [False, True]
    for name, array in answers[0].items():
        np.testing.assert_array_equal(array, answers[1][name], strict=True)


def test_profile_spins_as_the_server_does(bench: Bench, spins: list[bool]) -> None:
    model = bench.example("digits", "digits.onnx")
    (tensor,) = _runtimes.load(model, "onnxruntime").inputs
    shape = [size if isinstance(size, int) else 2 for size in tensor.shape]
    inputs = bench.data("inputs", **{tensor.name: np.zeros(shape, np.float32)})
    bench.run(
        "profile",
        params={"runtime": "onnxruntime", "batch_sizes": (1,), "seconds": 0.01},
        model=model,
        reference=inputs,
    )
    assert spins == [False, True]


def test_looking_at_inner_tensors_spins_never(bench: Bench, spins: list[bool]) -> None:
    model = _onnx.load(bench.example("digits", "digits.onnx"))
    (given,) = model.graph.input
    shape = [size.dim_value or 1 for size in given.type.tensor_type.shape.dim]
    image = np.ones(shape, np.float32)
    assert _inner.peaks(model, _data.Samples({given.name: image}, {given.name: 1}, 1))
    assert spins == [False, False]  # one for the types of tensors, one for their values
