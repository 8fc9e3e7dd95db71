"""Models in another version of ONNX's operators, with the rules that onnx's converter forgets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from repo_builder.introspect import walk

if TYPE_CHECKING:
    import onnx

_COORDINATES = 11
"""The opset whose Resize says how it finds the source of a pixel; before, one rule held."""


def converted(model: onnx.ModelProto, version: int) -> onnx.ModelProto:
    """`model`, whose weights are in memory, in another opset, with the same border.

    That it is still the same model is for the caller to show. RuntimeError where ONNX knows no way.
    """
    from onnx import version_converter

    written = walk.opset(model)
    result = version_converter.convert_version(model, version)
    for field in ("input", "output"):
        kept = getattr(result.graph, field)
        del kept[:]
        kept.extend(getattr(model.graph, field))
    if written < _COORDINATES <= version:
        _say_coordinates(result)
    result.ir_version = max(result.ir_version, _ir_version(version))
    return result


def _say_coordinates(model: onnx.ModelProto) -> None:
    """Write out the rule of Upsample and of Resize in opset 10: pixel i comes from i / scale.

    onnx's converter leaves it to Resize-11's default, half pixels. Nearest is the pixel before in
    ONNX Runtime, or the one after where the image gets smaller (`UpsampleBase`, its mode SIMPLE).
    """
    from onnx import helper

    scales = _constants(model)
    for node in walk.nodes(model):
        if node.op_type != "Resize" or node.domain not in ("", "ai.onnx"):
            continue
        said = {attribute.name for attribute in node.attribute}
        smaller = len(node.input) > 2 and any(s < 1 for s in scales.get(node.input[2], ()))
        for name, value in (
            ("coordinate_transformation_mode", "asymmetric"),
            ("nearest_mode", "ceil" if smaller else "floor"),
        ):
            if name not in said:
                node.attribute.append(helper.make_attribute(name, value))


def _constants(model: onnx.ModelProto) -> dict[str, list[float]]:
    """The values of all small stored tensors and constants."""
    from onnx import numpy_helper

    found: dict[str, list[float]] = {}
    for graph in walk.graphs(model):
        for tensor in getattr(graph, "initializer", ()):  # a function has none
            if len(tensor.dims) == 1 and tensor.dims[0] <= 8:
                found[tensor.name] = numpy_helper.to_array(tensor).tolist()
        for node in graph.node:
            values: list[Any] = [a.t for a in node.attribute if a.HasField("t")]
            if node.op_type == "Constant" and values and len(values[0].dims) == 1:
                found[node.output[0]] = numpy_helper.to_array(values[0]).tolist()
    return found


def _ir_version(version: int) -> int:
    """The IR version that came with an opset; onnx.helper.VERSION_TABLE, where it knows it."""
    from onnx import helper

    return next((row[1] for row in helper.VERSION_TABLE if row[2] == version), 0)
