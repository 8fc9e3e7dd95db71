"""The numbers that packed weights stand for, worked out from the bytes of a file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper


def unpacked(folder: Path) -> list[Any]:
    """The weights [inputs, outputs] of every MatMulNBits, worked out from its bytes alone."""
    model = onnx.load(folder / "model.onnx")
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    found = []
    for node in model.graph.node:
        if node.op_type != "MatMulNBits":
            continue
        made = {a.name: a.i for a in node.attribute}
        k, n, bits, block = (made[key] for key in ("K", "N", "bits", "block_size"))
        blocks = -(-k // block)
        data = stored[node.input[1]]
        zeros = np.full((n, blocks), 1 << (bits - 1))
        if len(node.input) > 3 and node.input[3]:
            zeros = stored[node.input[3]].reshape(n, -1)
        if bits == 4:
            low, high = data & 15, data >> 4
            data = np.stack([low, high], axis=-1).reshape(n, blocks, block)
            if len(node.input) > 3 and node.input[3]:
                zeros = np.stack([zeros & 15, zeros >> 4], axis=-1).reshape(n, -1)[:, :blocks]
        scales = stored[node.input[2]].reshape(n, blocks)
        values = (data.astype(np.int64) - zeros[..., None]) * scales[..., None].astype(np.float64)
        found.append(values.reshape(n, -1)[:, :k].T)
    return found


def in_8_bits(folder: Path, name: str) -> Any:
    """A weight that a Cast, a Sub where there is a zero point, and a Mul unpack."""
    model = onnx.load(folder / "model.onnx")
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    zero = stored.get(f"{name}_zero", np.float32(0))
    return (stored[f"{name}_int8"].astype(np.float64) - zero) * stored[f"{name}_scale"]
