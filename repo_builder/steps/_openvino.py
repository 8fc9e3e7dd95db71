"""What OpenVINO's devices other than the CPU ask of an IR: one shape, and operators they know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from repo_builder.base.errors import ModelError, Problem
from repo_builder.steps._failures import explained
from repo_builder.steps._level import Level


def fix_shapes(model: Any, device: str) -> None:
    """Make a varying first dimension 1; ModelError with every other one that varies."""
    shapes, problems = {}, []
    for port in model.inputs:
        shape = port.get_partial_shape()
        for number, dim in enumerate(shape):
            if dim.is_static:
                continue
            if number == 0:
                shape[0] = 1
                continue
            fix = "this device takes one shape only: export the model with a fixed size here"
            place = f"input '{port.get_any_name()}'"
            problems.append(Problem(f"dimension {number} is dynamic", fix, field=place))
        shapes[port] = shape
    if problems:
        raise ModelError(f"cannot compile for OpenVINO's {device}", problems)
    model.reshape(shapes)


def newest_opset(model: Any, readable: int | None, release: str) -> int:
    """The newest operation set in `model`.

    ModelError names every operator beyond `readable`, which is all that OpenVINO `release` reads.
    """
    newest, problems = 1, []
    for op in model.get_ordered_ops():
        number = op.get_type_info().version_id.removeprefix("opset")
        if not number.isdigit():
            continue
        newest = max(newest, int(number))
        if readable is not None and int(number) > readable:
            what = f"is of opset {number}; OpenVINO {release} reads up to opset {readable}"
            place = f"{op.get_type_name()} '{op.get_friendly_name()}'"
            problems.append(Problem(what, "replace it, or export with an older opset", field=place))
    if problems:
        raise ModelError(f"OpenVINO {release} cannot read all of the model", problems)
    return newest


def ask(ir: Path, device: str, release: str) -> Level:
    """How far the IR was checked for `device`: OpenVINO asks the device itself where it is here.

    ModelError names the operators that the device refuses.
    """
    import openvino as ov

    core = ov.Core()
    if device not in {name.split(".")[0] for name in core.available_devices}:
        absent = f"no {device} was here; it compiles the IR at first start"
        if release:
            absent = f"OpenVINO {release}, the last that knows {device}, was not here"
        return Level("prepared", f"the IR ran on OpenVINO's CPU device; {absent}")
    model = core.read_model(ir)
    taken = core.query_model(model, device)
    problems = [
        Problem("the device does not run it", field=f"{op.get_type_name()} '{name}'")
        for op in model.get_ordered_ops()
        if (name := op.get_friendly_name()) not in taken
    ]
    if problems:
        raise ModelError(f"OpenVINO's {device} does not take all of the model", problems)
    with explained(f"OpenVINO's {device} refuses the model", "update its driver", ModelError):
        core.compile_model(model, device)
    name = core.get_property(device, "FULL_DEVICE_NAME")
    return Level("compiled", f"OpenVINO compiled the IR for {name}; it ran on the CPU device only")
