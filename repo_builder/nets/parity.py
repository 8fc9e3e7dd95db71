"""Whether the exported model answers as the net does in PyTorch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from repo_builder.base.errors import ModelError
from repo_builder.nets import rows
from repo_builder.nets.export import check
from repo_builder.nets.types import Net

if TYPE_CHECKING:
    from torch.nn import Module

BATCHES = (1, 5)
"""Sizes of batch that are tried; the exporter saw neither."""

LIMITS = {"f2": 1e-2, "f4": 1e-4, "f8": 1e-9}
"""The largest difference, by type, as the norm of the difference over that of the net's answer.

ONNX Runtime adds in another order. A sum of n float32 products then differs by about sqrt(n) *
6e-8 of its size, which is 6e-6 for n = 10,000, and layers add to it: nets with 2 to 100 layers
were seen to differ by 1e-7 to 2e-6. What is exported wrongly (a live Dropout, a size that was
baked in, an operator of another meaning) differs by 1e-2 and more. Half and double have the same
margin over their own rounding."""

_COLUMNS = 100.0
"""How many times more than a whole output a column of it may differ, along its second or last
dimension, by its own norm: scores beside boxes in pixels are too small to count in the whole.
What is as much less than the limit, of the whole, is rounding in any column."""

_AMPLIFIED = 8.0
"""How many times more than a change of the inputs' last bits an export may change an answer, for
nets that are steeper than `LIMITS` allow for."""


@dataclass(frozen=True)
class Parity:
    """The batches that both answered, and the largest relative difference of each output."""

    batches: tuple[int, ...]
    difference: Mapping[str, float]


def prove(module: Module, net: Net, onnx: Path, folder: Path) -> Parity:
    """Run the net and the ONNX file `onnx` on the same random rows, at two sizes of batch.

    ModelError where the net answers the same rows differently each time, or the two differ by more
    than `LIMITS`; whole numbers and truth values must be equal. `folder`: as in `export.export`.
    """
    from repo_builder.introspect import runtime

    session = runtime.session(str(onnx))
    worst = dict.fromkeys(net.outputs, 0.0)
    batches = BATCHES if net.batch else BATCHES[:1]
    for seed, count in enumerate(batches, 1):
        fed = rows.arrays(net, count, seed=seed)
        said = _eager(module, net, fed, folder)
        again = _eager(module, net, fed, folder)
        shaken = _eager(module, net, _shaken(fed), folder)
        try:
            got = dict(zip(net.outputs, session.run(list(net.outputs), fed), strict=True))
        except runtime.errors() as failure:
            what = f"{net.factory}: its ONNX does not run with {count} rows"
            raise ModelError(f"{what}: {runtime.reason_of(failure)}; {_fix(net)}") from failure
        for name in net.outputs:
            if not _equal(said[name], again[name]):
                raise ModelError(_by_chance(net, name))
            found = _difference(said[name], got[name])
            allowed = max(_limit(said[name]), _AMPLIFIED * _difference(said[name], shaken[name]))
            if not found <= allowed:
                what = f"{net.factory}: its ONNX answers otherwise than PyTorch with {count} rows"
                raise ModelError(f"{what}: '{name}' {_said(said[name], found)}; {_fix(net)}")
            worst[name] = max(worst[name], found)
    return Parity(batches, worst)


def _fix(net: Net) -> str:
    if net.batch:
        return "write it for any number of rows (x.shape[0], no fixed number), or `batch: false`"
    return "write it otherwise, or export it yourself and name the ONNX file"


def _by_chance(net: Net, output: str) -> str:
    what = f"{net.factory} answers the same rows differently each time ('{output}')"
    return f"{what}; let chance play in training only, as dropout(x, training=self.training)"


def _eager(module: Module, net: Net, fed: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    import torch

    inputs = {name: torch.from_numpy(array.copy()) for name, array in fed.items()}
    answer = check(module, net, inputs, folder)
    return {name: value.detach().numpy() for name, value in answer.items()}


def _shaken(fed: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs with every number changed by its last bit."""
    return {
        name: np.nextafter(array, np.zeros_like(array)) if array.dtype.kind == "f" else array
        for name, array in fed.items()
    }


def _equal(a: Any, b: Any) -> bool:
    return bool(np.array_equal(a, b, equal_nan=a.dtype.kind == "f"))


def _limit(answer: Any) -> float:
    return LIMITS.get(answer.dtype.str[1:], 0.0)


def _difference(said: Any, got: Any) -> float:
    """How far an answer is from the net's, relative to its norm; inf where they cannot be compared.

    The columns that differ most count where that is more. Of whole numbers, the share that is
    another.
    """
    if said.shape != got.shape or said.dtype != got.dtype:
        return float("inf")
    if said.dtype.kind != "f":
        return float(np.mean(said != got)) if said.size else 0.0
    if not np.array_equal(np.isfinite(said), np.isfinite(got)):
        return float("inf")
    a, b = (np.where(np.isfinite(each), each, 0).astype(np.float64) for each in (said, got))
    rounding = _limit(said) / _COLUMNS * float(np.linalg.norm(a))
    worst = _ratio(a, b, (), 0.0)
    for axis in {1, a.ndim - 1} & set(range(1, a.ndim)):
        others = tuple(other for other in range(a.ndim) if other != axis)
        worst = max(worst, _ratio(a, b, others, rounding) / _COLUMNS)
    return worst


def _ratio(said: Any, got: Any, axes: tuple[int, ...], rounding: float) -> float:
    """The largest norm along `axes` (all, where none are named) of a difference, beyond `rounding`,
    over that of what differs.
    """
    along = axes or None
    moved = np.maximum(np.sqrt(((said - got) ** 2).sum(along)) - rounding, 0)
    norm = np.sqrt((said**2).sum(along))
    return float(np.max(moved / np.maximum(norm, np.finfo(np.float32).tiny), initial=0.0))


def _said(answer: Any, difference: float) -> str:
    if difference == float("inf"):
        return "has another shape, another type, or NaN elsewhere"
    if answer.dtype.kind != "f":
        return f"in {difference:.2g} of its values"
    return f"by {difference:.2g} of its size"
