"""`fix-shapes`: a model with sizes in place of open dimensions, for toolchains of one shape."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base.errors import ModelError
from repo_builder.steps import _onnx


@dataclass(frozen=True)
class Params:
    """`sizes`: open dimensions -> their size: see `introspect.signature`. Others stay open."""

    sizes: Mapping[str, int]


@dataclass(frozen=True)
class Inputs:
    """`model`: an imported model."""

    model: Path


@dataclass(frozen=True)
class Facts:
    """The shapes of the inputs and outputs now."""

    inputs: Mapping[str, tuple[int | str, ...]]
    outputs: Mapping[str, tuple[int | str, ...]]


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write `model.onnx` with these sizes; shapes behind them follow anew.

    It is shown to answer as the model does that takes any size. ModelError where it does not.
    """
    from repo_builder import introspect

    source = inputs.model / _onnx.MODEL
    model, (taken, given) = introspect.fix_inputs(source, params.sizes)
    _onnx.save(model, out)
    if why := introspect.why_not_same(source, out / _onnx.MODEL):
        said = ", ".join(f"{name} {size}" for name, size in params.sizes.items())
        raise ModelError(f"with the sizes {said} it is another model: {why}")
    return Facts(taken, given)
