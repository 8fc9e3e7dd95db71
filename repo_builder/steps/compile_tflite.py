"""`compile-tflite`: int8 TFLite from a QDQ ONNX model, compared with ONNX Runtime's int8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import StepError
from repo_builder.steps import _onnx, _rows
from repo_builder.steps._data import Array

if TYPE_CHECKING:
    import onnx

    from repo_builder.tflite import Written

MODEL = "model.tflite"
MINIMUM_AGREEMENT = 0.9
"""Share of outputs within one step below which the written model is wrong, not just rounded.

Asked of LiteRT's own kernels, which round as ONNX Runtime does. The reference kernels round twice,
which adds up in deep nets with outputs of a small range, so their share is only told.
"""

_Feeds = Sequence[dict[str, Array]]


@dataclass(frozen=True)
class Params:
    """`rows`: how many rows of data both models are run on."""

    rows: int = 200


@dataclass(frozen=True)
class Inputs:
    """`model`: a folder with `model.onnx` in QDQ form.

    `evaluation`: one with `evaluation.npz`, an array for each input; noise where there is none.
    """

    model: Path
    evaluation: Path | None = None


@dataclass(frozen=True)
class Agreement:
    """How far outputs lie from ONNX Runtime's in steps of their scales: at most, share within 1."""

    max_steps: int
    within_one_step: float


@dataclass(frozen=True)
class Facts:
    """`litert` is LiteRT with its own kernels, `reference` with those that TFLite Micro shares.

    `data` says on what they were compared: "evaluation" or "noise". `size` is in bytes.
    """

    size: int
    ops: tuple[str, ...]
    data: str
    rows: int
    litert: Agreement
    reference: Agreement


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `model.tflite` and `ports.json`.

    ModelError names every operator that cannot be written; StepError where the two disagree.
    """
    from repo_builder.tflite import write

    model = _onnx.load(inputs.model)
    written = write(model)
    (out / MODEL).write_bytes(written.data)
    written.ports.write(out)
    tensors = [Tensor(port.name, "FP32", port.shape) for port in written.ports.inputs]
    feeds = _rows.feeds(inputs.evaluation, tensors, params.rows)
    expected = _run_onnx(model, feeds)
    litert = _compare(written, feeds, expected, reference=False)
    reference = _compare(written, feeds, expected, reference=True)
    if litert.within_one_step < MINIMUM_AGREEMENT:
        raise StepError(
            f"TFLite and ONNX Runtime disagree: {litert.within_one_step:.1%} of outputs within one "
            f"step, {litert.max_steps} steps at worst; report this with the model"
        )
    data = "evaluation" if inputs.evaluation else "noise"
    return Facts(len(written.data), written.ops, data, len(feeds), litert, reference)


def _run_onnx(model: onnx.ModelProto, feeds: _Feeds) -> list[list[Array]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return [session.run(None, feed) for feed in feeds]


def _compare(
    written: Written,
    feeds: _Feeds,
    expected: list[list[Array]],
    *,
    reference: bool,
) -> Agreement:
    from repo_builder.tflite.runner import Runner

    runner = Runner(written.data, written.ports, reference=reference)
    largest, near, count = 0, 0, 0
    for feed, wanted in zip(feeds, expected, strict=True):
        results = runner.run(feed)
        for port, theirs in zip(written.ports.outputs, wanted, strict=True):
            steps = np.rint(np.abs(results[port.name] - theirs) / port.scale)
            largest = max(largest, int(steps.max(initial=0)))
            near += int((steps <= 1).sum())
            count += steps.size
    return Agreement(largest, near / max(count, 1))
