"""The shapes of an ONNX model's outputs as ONNX Runtime infers them, which its backend compares.

A file may leave a size open that follows from its operators. Where that decides, ONNX Runtime is
asked, without optimization, so that nothing of the model runs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from repo_builder.repository.lint.onnx_io import Border, Io

ALWAYS_BELOW = 1_000_000
"""Bytes of a file for which a doubt is always settled; of a larger one, before it is refused."""
LARGEST = 256_000_000
"""Bytes of a file that is not loaded at all."""

Shapes = dict[str, tuple[int, ...]]


def settled(io: Io, path: Path, listed: Mapping[str, Sequence[int]]) -> Io:
    """`io` with the outputs' shapes as ONNX Runtime has them, where the config leaves a doubt.

    `listed` are the config's outputs and their full shapes; `path` is the model's file.
    """
    size = path.stat().st_size
    small = size <= ALWAYS_BELOW
    doubts = (
        _doubt(io.outputs[name], shape, small)
        for name, shape in listed.items()
        if name in io.outputs
    )
    if size > LARGEST or not any(doubts):
        return io
    shapes = output_shapes(path)
    outputs = {
        name: replace(border, shape=shapes.get(name, border.shape))
        for name, border in io.outputs.items()
    }
    return replace(io, outputs=outputs)


def _doubt(border: Border, shape: Sequence[int], small: bool) -> bool:
    """Whether what the file leaves open decides; an open first dimension is taken for a batch."""
    if border.shape is None:
        return True
    if len(border.shape) != len(shape):
        return False
    open_ones = [i for i, size in enumerate(border.shape) if size == -1]
    return any(shape[i] != -1 or (i > 0 and small) for i in open_ones)


def output_shapes(path: Path) -> Shapes:
    """Output -> shape, -1 for any size; {} where ONNX Runtime is missing or does not load it.

    What it refuses it may refuse here alone, for an operator of a GPU or of the user's own, so that
    is no finding.
    """
    try:
        import onnxruntime as ort
    except ImportError:
        return {}
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - see above; its exceptions share no base class
        return {}
    return {
        tensor.name: tuple(d if isinstance(d, int) and d >= 0 else -1 for d in tensor.shape or ())
        for tensor in session.get_outputs()
    }
