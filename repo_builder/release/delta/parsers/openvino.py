"""Tensors of an OpenVINO `.bin`, by the constants of its `.xml`."""

from __future__ import annotations

from xml.etree import ElementTree

from repo_builder.release.delta.parsers.tensor import Tensor

_TYPES = {"f32": "f4", "f16": "f2", "bf16": "f2", "i32": "i4", "u32": "i4", "i16": "i2"}


def tensors(description: bytes) -> list[Tensor]:
    """Constants that share their bytes are there once for each."""
    found = []
    for layer in ElementTree.fromstring(description).iter("layer"):  # noqa: S314  the builder's own file
        data = layer.find("data")
        if layer.get("type") != "Const" or data is None:
            continue
        shape = tuple(int(dim) for dim in data.get("shape", "").replace(" ", "").split(",") if dim)
        place = int(data.attrib["offset"]), int(data.attrib["size"])
        kind = _TYPES.get(data.get("element_type", ""), "i1")
        found.append(Tensor(layer.get("name", ""), kind, shape, *place))
    return found
