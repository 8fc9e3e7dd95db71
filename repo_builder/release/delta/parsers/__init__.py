"""Finds the tensors inside of model files: name, type, shape and where their bytes lie.

For the maker of deltas only, and only a hint: a file that is not understood has no tensors, and a
tensor found wrongly makes a larger delta, never a wrong one. Nothing here needs a model's library.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from repo_builder.release.delta.parsers import onnx, openvino, tflite
from repo_builder.release.delta.parsers.tensor import Tensor


def tensors(content: mmap.mmap | bytes, description: Path | None = None) -> list[Tensor]:
    """The tensors in a file's content, by their place; empty where none can be found.

    `description` is the file that tells what lies where: OpenVINO's `.xml` of a `.bin`, the
    `.onnx` of its external data.
    """
    size = len(content)
    try:
        if description is None:
            found = tflite.tensors(content) if content[4:8] == b"TFL3" else onnx.tensors(content)
        elif (described := description.read_bytes()).lstrip()[:1] == b"<":
            found = openvino.tensors(described)
        else:
            found = onnx.external(described)
    except (ValueError, IndexError, KeyError, struct.error, SyntaxError):
        return []
    found = sorted((t for t in found if t.offset >= 0 and t.end <= size), key=lambda t: t.offset)
    apart = []
    end = 0
    for tensor in found:
        if tensor.offset >= end:
            apart.append(tensor)
            end = tensor.end
    return apart
