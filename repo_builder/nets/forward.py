"""Calls a net with arrays by name, and names what it returns."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from repo_builder.base.errors import ModelError, did_you_mean
from repo_builder.nets.types import Net

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module


def call(module: Module, net: Net, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What `module` answers, by the names of `net.outputs` and in their order.

    Outputs are the items of a tuple or list in order, the values of a dict by key, or a single
    tensor. ModelError where they are not what `net` names; what `forward` itself raises comes as it
    is.
    """
    return _named(answer(module, net, inputs), net)


def answer(module: Module, net: Net, inputs: Mapping[str, Tensor]) -> Any:
    """What `module` returns, just as it does.

    Where every input is called as a parameter of `forward`, they go in by name, else in the order
    of `net.inputs`.
    """
    names = [tensor.name for tensor in net.inputs]
    parameters = inspect.signature(module.forward).parameters
    if all(name in parameters and parameters[name].kind in _BY_NAME for name in names):
        return module(**{name: inputs[name] for name in names})
    return module(*(inputs[name] for name in names))


_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


def _named(result: Any, net: Net) -> dict[str, Tensor]:
    if isinstance(result, Mapping):
        for name in net.outputs:
            if name not in result:
                hint = did_you_mean(name, map(str, result))
                raise ModelError(f"{net.factory} returns a dict without '{name}'; {hint}")
        return {name: _tensor(result[name], name, net) for name in net.outputs}
    items = list(result) if isinstance(result, (tuple, list)) else [result]
    if len(items) != len(net.outputs):
        gives = f"{len(items)} output{'s' if len(items) != 1 else ''}"
        named = f"`outputs` names {len(net.outputs)}"
        raise ModelError(f"{net.factory} returns {gives}, and {named}; name each, in order")
    return {name: _tensor(item, name, net) for name, item in zip(net.outputs, items, strict=True)}


def _tensor(value: Any, name: str, net: Net) -> Tensor:
    import torch

    if not isinstance(value, torch.Tensor):
        kind = type(value).__name__
        raise ModelError(f"{net.factory} returns a {kind} as '{name}', no tensor; return tensors")
    if value.device.type != "cpu":
        what = f"{net.factory} wants a GPU: '{name}' is on {value.device}"
        raise ModelError(f"{what}; compute on the device of the input, where it is exported")
    return value
