"""What a spec's `optimize.prune` means, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Callable

from repo_builder.base import machine
from repo_builder.spec.pruning import Pruning
from repo_builder.spec.raw import RawSpec
from repo_builder.spec.types import Source, TorchSource
from repo_builder.targets import Target

Tell = Callable[[tuple[str, ...], str, str], None]
"""Told a problem: the field, what is wrong, what to write."""

_AT = ("optimize", "prune")


def resolve(raw: RawSpec, source: Source, target: Target, tell: Tell) -> Pruning | None:
    """The resolved pruning; `tell` is told what is wrong with it."""
    asked, train = raw.optimize.prune, raw.optimize.train
    if asked is None:
        return None
    if not isinstance(source, TorchSource):
        what = (
            "an ONNX model cannot be pruned: its batch norms are part of the weights and nothing "
            "is left to train it with, so that it would answer by chance"
        )
        fix = "write `source: {torch: ...}` with the net that it was exported from"
        tell(_AT, what, f"{fix}, or leave it out")
        return None
    if train is None or train.validation is None:
        what = "needs fine-tuning, and rows that tell whether it beats training from scratch"
        tell(_AT, what, "add `train: {data: train.npz, validation: validation.npz, epochs: 20}`")
    elif train.epochs < asked.iterations:
        what = f"{asked.iterations} parts of pruning share {train.epochs} epochs of training"
        tell((*_AT, "iterations"), what, "give `train` as many epochs at least")
    if asked.of == "latency" and (why := _not_measured(target)):
        tell((*_AT, "of"), why, "write `of: macs`")
    return Pruning(**{**asked.model_dump(), "keep": tuple(asked.keep)})


def _not_measured(target: Target) -> str:
    """Why the latency on a target cannot be measured while its model is made; "" where it can."""
    if not target.on_cpu:
        return f"the latency on {target.name} cannot be measured here"
    if (here := machine.architecture()) not in target.architectures:
        return f"the latency on {target.name} cannot be measured on {here}"
    return ""
