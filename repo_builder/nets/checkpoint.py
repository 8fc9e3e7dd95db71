"""Tensors on disk: safetensors only, never a pickle; one file, there whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from repo_builder.base.errors import ModelError

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import Module

_ABOUT = "about"
"""The one key of the file's metadata: safetensors writes several in an order of its own."""


def state(net: Module) -> dict[str, Tensor]:
    """A copy of all weights and buffers of a net, by name; tied ones are there under each name."""
    return {name: tensor.detach().clone() for name, tensor in net.state_dict().items()}


def dump(tensors: Mapping[str, Tensor], about: Mapping[str, Any] | None = None) -> bytes:
    """A safetensors file; equal contents give equal bytes. `about` is JSON."""
    from safetensors import torch as safetensors

    metadata = {_ABOUT: json.dumps(about, sort_keys=True, allow_nan=False)} if about else None
    plain = {name: tensors[name].contiguous() for name in sorted(tensors)}
    content: bytes = safetensors.save(plain, metadata)
    return content


def write(file: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write what `dump` gives to `file`, or leave what was there."""
    content = dump(tensors, about)
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    with beside.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    beside.replace(file)


def read(file: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and `about` of a file that `write` wrote. ModelError where it is no such file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="pt") as opened:
            about: dict[str, Any] = json.loads((opened.metadata() or {}).get(_ABOUT, "{}"))
            return {name: opened.get_tensor(name) for name in opened.keys()}, about  # noqa: SIM118
    except (SafetensorError, json.JSONDecodeError) as failure:
        what = " ".join(str(failure).split())
        raise ModelError(f"{file.name} is no whole safetensors file: {what}") from failure
