"""`prune`: take the least important channels out of a trained PyTorch net."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from repo_builder.nets.dependencies import Losses
from repo_builder.nets.prune import Pruned
from repo_builder.nets.types import Net
from repo_builder.spec.pruning import Criterion, Of
from repo_builder.steps import _onnx, _time_saved, _training
from repo_builder.steps._time_saved import Runtime, Saving

EXAMPLES = 2
"""Made-up rows that the net is run on: two, since one may not tell rows from other dimensions."""

GRADIENTS = 128
"""Training rows that taylor and hessian take gradients of, one by one."""


@dataclass(frozen=True)
class Params:
    """`share` (0..1) of the channels, multiplications, parameters or time goes, of the dense net.

    See `repo_builder.nets.prune.Request` for the rest. `runtime` and `threads` are those in which
    a share of the latency is measured, in fp32. `training` says what taylor and hessian
    differentiate.
    """

    net: Net
    share: float
    of: Of = "channels"
    criterion: Criterion = "magnitude"
    round_to: int = 16
    keep: tuple[str, ...] = ()
    runtime: Runtime = "onnxruntime"
    threads: int = 0
    training: _training.Training | None = None


@dataclass(frozen=True)
class Inputs:
    """`code`: the factory's file, and what it imports. `weights`: the trained ones, which may be
    those of a net that was pruned before. `data`: training rows, for taylor and hessian.
    """

    code: Path
    weights: Path
    data: Path | None = None


@dataclass(frozen=True)
class Facts:
    """Counts of the dense net and of what is left; multiply-accumulates are of one row.

    `ratio` is the share of each layer's channels before rounding, `achieved` the share that was
    asked for, as it came out. `layers` has, of each layer that was cut, how many channels it gave
    and how many it gives. `left` are layers that keep all of theirs, and why. `time`: where a share
    of the latency was asked for.
    """

    ratio: float
    achieved: float
    macs: tuple[int, int]
    parameters: tuple[int, int]
    channels: tuple[int, int]
    layers: Mapping[str, tuple[int, int]]
    left: Mapping[str, str] = field(default_factory=dict)
    time: Saving | None = None


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Write the weights that are left, and `pruned.json`, which says of which channels.

    ModelError: see `nets.factory.make` and `nets.prune.prune`. DataError: rows that do not fit.
    """
    from repo_builder.nets import channels, checkpoint, costs, factory, forward, prune, rows

    net, stored = params.net, inputs.weights / _onnx.WEIGHTS
    trained = factory.make(inputs.code, net, stored)
    before = channels.read(inputs.weights)
    dense = factory.make(inputs.code, net, None) if before else trained
    examples = rows.tensors(net, EXAMPLES, seed=0)
    one = rows.tensors(net, 1, seed=0)
    request = prune.Request(params.share, params.of, params.criterion, params.round_to, params.keep)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        watch = None
        if params.of == "latency":
            watch = _time_saved.Stopwatch(
                dense, net, inputs.code, params.runtime, params.threads, Path(scratch) / "timed"
            )
        made = prune.prune(
            trained,
            lambda module: forward.call(module, net, examples),
            request,
            dense=dense,
            before=before,
            losses=_losses(inputs, params, Path(scratch)),
            time_saved=watch.saved if watch else None,
        )
    state = checkpoint.state(made.net)
    (out / _onnx.WEIGHTS).write_bytes(checkpoint.dump(state))
    channels.write(made.cuts, out)
    counted = [
        costs.count(module, lambda module: forward.call(module, net, one))
        for module in (dense, made.net)
    ]
    return Facts(
        ratio=made.ratio,
        achieved=made.achieved,
        macs=(counted[0].macs, counted[1].macs),
        parameters=(counted[0].parameters, counted[1].parameters),
        channels=(counted[0].channels, counted[1].channels),
        layers=_widths(made),
        left=made.left,
        time=next((s for s in watch.savings if s.saved == made.achieved), None) if watch else None,
    )


def _widths(made: Pruned) -> dict[str, tuple[int, int]]:
    """How many channels the convolutions and linear layers gave, and give."""
    layers = dict(made.net.named_modules())
    cuts = {layer: sides["out"] for layer, sides in made.cuts.items() if "out" in sides}
    return {
        layer: (cut.of, len(cut.kept))
        for layer, cut in cuts.items()
        if layer in layers and layers[layer].weight.ndim > 1
    }


def _losses(inputs: Inputs, params: Params, scratch: Path) -> Losses | None:
    """The loss of each of the first training rows, with their labels alone."""
    if params.training is None or inputs.data is None or params.criterion == "magnitude":
        return None
    from repo_builder.nets import forward
    from repo_builder.nets.losses import Answers, tensors

    alone = dataclasses.replace(params.training, distillation=None)
    prepared = _training.prepare(inputs.data, None, params.net, alone, scratch)
    rows, objective = prepared.rows, prepared.objective

    def losses(module: Any) -> Iterator[Any]:
        import torch

        for row in range(min(GRADIENTS, len(rows.train[rows.inputs[0]]))):
            arrays = tensors(rows.train, np.array([row]))
            answers = Answers(tuple(forward.call(module, params.net, arrays).values()))
            yield objective.loss(answers, arrays, 1.0, torch.nn.ModuleDict())

    return losses
