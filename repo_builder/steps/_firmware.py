"""The firmware bundle of a TFLite model: C array, header, README with arena and usage."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repo_builder.base import templates
from repo_builder.base.errors import ModelError
from repo_builder.tflite.arena import Estimate, inspect
from repo_builder.tflite.layout import CHANNELS_LAST
from repo_builder.tflite.ports import Port, Ports

_BYTES_PER_LINE = 16

# Operators that TensorFlow Lite Micro names otherwise than by capitals in its resolver
# (tensorflow/lite/micro/micro_mutable_op_resolver.h).
_ADDERS = {
    "CONV_2D": "AddConv2D",
    "DEPTHWISE_CONV_2D": "AddDepthwiseConv2D",
    "MAX_POOL_2D": "AddMaxPool2D",
    "AVERAGE_POOL_2D": "AddAveragePool2D",
    "PADV2": "AddPadV2",
    "ethos-u": "AddEthosU",
}


@dataclass(frozen=True)
class Bundle:
    """What a bundle says of its model; sizes in bytes."""

    size: int
    arena: Estimate
    ops: tuple[str, ...]
    nodes: int


def write(
    data: bytes,
    ports: Ports,
    out: Path,
    *,
    model: str,
    device: str,
    link: str = "",
    facts: Sequence[str] = (),
    extra_files: Mapping[str, str] | None = None,
) -> Bundle:
    """Write `NAME_model.cc`, `NAME_model.h` and `README.md` into `out`.

    `model` is the spec's identifier (`digits:1.2.0`), `device` the target's title. `link` ends the
    sentence on what the firmware links, `facts` and `extra_files` go into the README.
    """
    contents = inspect(data)
    name = identifier(model)
    context: dict[str, Any] = {
        "title": model,
        "name": name,
        "macro": name.upper(),
        "source": "its quantized ONNX model",
        "device": device,
        "size": len(data),
        "arena": contents.arena,
        "adders": [adder(op) for op in contents.ops],
        "ports": [
            *(_port("input", i, port) for i, port in enumerate(ports.inputs)),
            *(_port("output", i, port) for i, port in enumerate(ports.outputs)),
        ],
        "rows": _rows(data),
        "link": link,
        "facts": facts,
        "files": [
            (f"{name}_model.cc", "the model as a C array; compiles as C and as C++"),
            (f"{name}_model.h", "its declaration, arena size, scales and operators"),
            *(extra_files or {}).items(),
        ],
    }
    for template, file in (
        ("model.cc.j2", f"{name}_model.cc"),
        ("model.h.j2", f"{name}_model.h"),
        ("README.md.j2", "README.md"),
    ):
        text = templates.load(f"firmware/{template}").render(context)
        (out / file).write_text(text, encoding="utf-8")
    return Bundle(len(data), contents.arena, contents.ops, contents.nodes)


def identifier(model: str) -> str:
    """A model's name as a C identifier: `key-words:1.0.0` -> `key_words`."""
    name = re.sub(r"\W", "_", model.split(":", maxsplit=1)[0], flags=re.ASCII)
    return f"m_{name}" if name[:1].isdigit() else name


def adder(op: str) -> str:
    """The method of MicroMutableOpResolver that adds an operator: CONV_2D -> AddConv2D."""
    return _ADDERS.get(op) or "Add" + "".join(part.capitalize() for part in op.split("_"))


def _port(kind: str, index: int, port: Port) -> dict[str, Any]:
    if re.search(r"[*/\\`|\n]", port.name):
        raise ModelError(f"the {kind} '{port.name}' has a name that C comments cannot hold")
    return {
        "kind": kind,
        "index": index,
        "title": port.name,
        "macro": f"{kind.upper()}{index}",
        "dims": list(port.dims),
        "note": " (channels last)" if port.order == CHANNELS_LAST else "",
        "size": math.prod(port.dims),
        "scale": f"{port.scale:.9g}" if "." in f"{port.scale:.9g}" else f"{port.scale:.9e}",
        "zero_point": port.zero_point,
    }


def _rows(data: bytes) -> str:
    lines = (data[i : i + _BYTES_PER_LINE] for i in range(0, len(data), _BYTES_PER_LINE))
    return ",\n".join("  " + ", ".join(f"0x{byte:02x}" for byte in line) for line in lines)
