"""How much RAM TensorFlow Lite Micro will want for a model: an estimate, made of stated parts.

The interpreter keeps everything in one arena. Its head holds activations and scratch buffers that
share room when they do not live at the same time; its tail holds what stays: the interpreter's
structures and each kernel's data. The head is planned here the way its greedy planner does; the
tail is counted from the sizes of its structures on a 32-bit core, which change between releases.
Only the device knows the exact figure (`MicroInterpreter::arena_used_bytes()`), hence the margin.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from repo_builder.tflite.flatbuffer import schema

ALIGNMENT = 16
"""tensorflow/lite/micro/micro_arena_constants.h: MicroArenaBufferAlignment()."""

MARGIN = 0.25
"""Added to planned and counted bytes, for what differs between releases and kernels."""

# Bytes on a 32-bit core, rounded up: TfLiteEvalTensor, NodeAndRegistration with its TfLiteNode,
# a kernel's OpData, the TfLiteTensor of an input or output, the interpreter and its allocators.
_TENSOR, _NODE, _KERNEL, _PORT, _FIXED = 16, 64, 96, 64, 1536
_PER_CHANNEL = 8  # a multiplier and a shift for each output channel
_CHANNELWISE = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED")


@dataclass(frozen=True)
class Buffer:
    """Bytes needed from operator `first` to operator `last`, both included.

    `offset` is where the compiler has placed them in the arena already; -1 where it has not.
    """

    size: int
    first: int
    last: int
    offset: int = -1


@dataclass(frozen=True)
class Estimate:
    """Bytes: `planned` + `overhead` + `margin` = `total`, a multiple of the alignment."""

    planned: int
    overhead: int
    margin: int
    total: int


@dataclass(frozen=True)
class Contents:
    """A .tflite file's operators by name, how many run, and its arena."""

    ops: tuple[str, ...]
    nodes: int
    arena: Estimate


def plan(buffers: Iterable[Buffer]) -> int:
    """Bytes that hold all buffers: placed ones first, then largest first into the first gap.

    The rule of tensorflow/lite/micro/memory_planner/greedy_memory_planner.h.
    """
    placed: list[tuple[int, int, Buffer]] = []
    for buffer in sorted(buffers, key=lambda b: (b.offset < 0, -b.size, b.first)):
        size = aligned(buffer.size)
        start = max(buffer.offset, 0)
        for begin, end, other in placed:
            if buffer.offset >= 0:
                break
            if other.last < buffer.first or buffer.last < other.first:
                continue
            if begin - start >= size:
                break
            start = max(start, end)
        placed.append((start, start + size, buffer))
        placed.sort(key=lambda item: item[:2])
    return max((end for _, end, _ in placed), default=0)


def aligned(size: int) -> int:
    """`size` rounded up to the arena's alignment."""
    return -(-size // ALIGNMENT) * ALIGNMENT


def inspect(data: bytes) -> Contents:
    """What a .tflite file needs; works for Vela's output too."""
    s = schema()
    model = s.ModelT.InitFromPackedBuf(data)
    graph = model.subgraphs[0]
    names = {
        number: name for name, number in vars(s.BuiltinOperator).items() if isinstance(number, int)
    }
    codes = [_code(code, names) for code in model.operatorCodes]
    constant = [
        model.buffers[tensor.buffer].data is not None and len(model.buffers[tensor.buffer].data) > 0
        for tensor in graph.tensors
    ]
    offsets = _offsets(model)
    first = {int(index): 0 for index in graph.inputs}
    last = {int(index): len(graph.operators) for index in graph.outputs}
    buffers = []
    overhead = _FIXED + _TENSOR * len(graph.tensors)
    overhead += _PORT * (len(graph.inputs) + len(graph.outputs))
    for number, operator in enumerate(graph.operators):
        code = codes[operator.opcodeIndex]
        for index in map(int, operator.inputs):
            if index >= 0:
                last[index] = max(last.get(index, 0), number)
                first.setdefault(index, number)
        for index in map(int, operator.outputs):
            first.setdefault(index, number)
            last.setdefault(index, number)
        overhead += _NODE + _KERNEL
        if code in _CHANNELWISE:
            overhead += _PER_CHANNEL * int(graph.tensors[int(operator.outputs[0])].shape[-1])
        scratch = _scratch(code, operator, graph.tensors)
        if scratch:
            buffers.append(Buffer(scratch, number, number))
    for index, tensor in enumerate(graph.tensors):
        if not constant[index] and index in first:
            size = math.prod(int(n) for n in tensor.shape) * _bytes(s, tensor.type)
            lives = first[index], last.get(index, first[index])
            buffers.append(Buffer(size, *lives, offsets[index]))
    planned = plan(buffers)
    margin = math.ceil((planned + overhead) * MARGIN)
    total = aligned(planned + overhead + margin)
    used = sorted({codes[operator.opcodeIndex] for operator in graph.operators})
    estimate = Estimate(planned, overhead, total - planned - overhead, total)
    return Contents(tuple(used), len(graph.operators), estimate)


def _offsets(model: Any) -> list[int]:
    """Where each tensor lies, as Vela writes it: version, subgraph, count, then the offsets."""
    for entry in model.metadata or []:
        if entry.name in (b"OfflineMemoryAllocation", "OfflineMemoryAllocation"):
            content = np.asarray(model.buffers[entry.buffer].data, np.uint8).tobytes()
            return [int(offset) for offset in np.frombuffer(content, "<i4")[3:]]
    return [-1] * len(model.subgraphs[0].tensors)


def _code(code: Any, names: dict[int, str]) -> str:
    if code.customCode:
        custom = code.customCode
        return custom.decode() if isinstance(custom, bytes) else str(custom)
    return names[max(int(code.builtinCode), int(code.deprecatedBuiltinCode))]


def _bytes(s: Any, kind: int) -> int:
    wide = {s.TensorType.INT32: 4, s.TensorType.FLOAT32: 4, s.TensorType.INT16: 2}
    return wide.get(kind, 1)


def _scratch(code: str, operator: Any, tensors: list[Any]) -> int:
    """Scratch of a kernel, in bytes, as CMSIS-NN asks for it.

    `arm_convolve_s8_get_buffer_size`: two columns of int16 inputs; the depthwise kernel one. The
    transposed convolution's reference kernel accumulates its whole output in int32.
    """
    if code == "TRANSPOSE_CONV":
        return 4 * math.prod(int(n) for n in tensors[int(operator.outputs[0])].shape)
    if code not in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        return 0
    _, height, width, channels = (int(n) for n in tensors[int(operator.inputs[1])].shape)
    return (4 if code == "CONV_2D" else 2) * height * width * channels
