"""Weights in safetensors, the one form that is read: it holds numbers and runs nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repo_builder.base.errors import MissingExtra, ModelError
from repo_builder.nets.types import Net

if TYPE_CHECKING:
    from torch.nn import Module

_SHOWN = 3


def load(module: Module, file: Path, net: Net) -> None:
    """Give `module` the weights in `file`, which must name just its state, shapes included.

    ModelError where the file cannot be read, and with the names of both sides where they differ.
    Tensors that the net shares under several names may be in the file once.
    """
    given = read(file)
    own = module.state_dict()
    lacking = sorted(name for name in own.keys() - given.keys() if not _shared(name, own, given))
    unknown = sorted(given.keys() - own.keys())
    other = [
        f"{name} (net {list(own[name].shape)}, file {list(given[name].shape)})"
        for name in sorted(own.keys() & given.keys())
        if own[name].shape != given[name].shape
    ]
    said = []
    if lacking:
        said.append(f"the file lacks {_some(lacking)} of the net")
    if unknown:
        said.append(f"the net has no {_some(unknown)} of the file")
    if other:
        said.append(f"shapes differ: {_some(other)}")
    if said:
        fix = _prefix(lacking, unknown) or "give other `kwargs`, or the weights of this net"
        raise ModelError(f"{file.name} does not fit {net.factory}: {'; '.join(said)}; {fix}")
    module.load_state_dict(given, strict=False)  # all but what is shared was found to be there


def read(file: Path) -> dict[str, Any]:
    """The tensors in a safetensors file by name, on the CPU. ModelError where it cannot be read."""
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError:
        raise MissingExtra("torch", f"reading {file.name}") from None

    try:
        tensors: dict[str, Any] = load_file(file)
    except SafetensorError as failure:
        what = f"{file.name} is cut short, or no safetensors file"
        raise ModelError(f"{what} ({failure}); copy or write it again") from None
    return tensors


def _shared(name: str, own: Mapping[str, Any], given: Mapping[str, Any]) -> bool:
    """Whether the file has this tensor of the net under another name."""
    this = own[name]
    return any(
        other in given
        and tensor.data_ptr() == this.data_ptr()
        and tensor.numel() > 0
        and (tensor.shape, tensor.stride()) == (this.shape, this.stride())
        for other, tensor in own.items()
        if other != name
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more


def _prefix(lacking: Iterable[str], unknown: Iterable[str]) -> str:
    """What to do where names differ by what stands before them, as wrappers put it there."""
    wanted = set(lacking)
    for name in unknown:
        before, dot, after = name.partition(".")
        if after in wanted:
            return f"take '{before}{dot}' off its names"
    return ""
