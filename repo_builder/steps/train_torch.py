"""`train`: train the user's PyTorch net on rows of theirs; its weights are what `export` reads."""

from __future__ import annotations

import dataclasses
import tempfile
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base import digest
from repo_builder.nets.train import Epoch
from repo_builder.nets.types import Net
from repo_builder.steps import _onnx, _training


@dataclass(frozen=True)
class Params:
    """`net`: how the net is made, and what it takes and returns. `training`: how it is trained.

    With `fresh` the net has the shape of the one whose weights are given, and new weights.
    """

    net: Net
    training: _training.Training
    fresh: bool = False


@dataclass(frozen=True)
class Inputs:
    """`code`: the factory's file, and what it imports from beside it.

    `weights`: a folder with `weights.safetensors` to start from; None where the factory gives them.
    `data`: `train.npz`, and where there are such `validation.npz` and `loss.py`. `soft`: what
    `soft-targets` made of `train.npz`.
    """

    code: Path
    data: Path
    weights: Path | None = None
    soft: Path | None = None


@dataclass(frozen=True)
class Facts:
    """How training went: see `repo_builder.nets.train.Trained`.

    `parameters` are those that were trained; `rounded` are layers whose weights lie on the grid on
    which they are quantized later.
    """

    history: tuple[Epoch, ...]
    best_epoch: int
    score: float | None
    higher_is_better: bool
    stopped: str
    diverged: bool
    parameters: int
    rounded: tuple[str, ...] = ()


def run(inputs: Inputs, params: Params, out: Path, kept: Path) -> Facts:
    """Write `weights.safetensors`, those of the best epoch, with `pruned.json` of a pruned net.

    In the folder `kept` lies, until it is done, what a run that was killed goes on from.
    ModelError, DataError: see `nets.factory.make`, `_training.prepare` and `nets.train.fit`.
    """
    from repo_builder.nets import channels, checkpoint, factory, fake_quant, forward
    from repo_builder.nets.train import fit

    net, recipe = params.net, params.training.recipe
    weights = inputs.weights / _onnx.WEIGHTS if inputs.weights else None
    cuts = channels.read(inputs.weights) if inputs.weights else {}
    module = factory.make(inputs.code, net, None if params.fresh else weights, seed=recipe.seed)
    if params.fresh:
        channels.apply(module, cuts)
        channels.forget(module, cuts, recipe.seed)
    aware = params.training.aware
    rounded = fake_quant.attach(module, aware.grid) if aware else ()
    identity: digest.Json = {
        "params": digest.of_bytes(repr(params).encode()),
        "inputs": [_contents(folder) for folder in dataclasses.astuple(inputs) if folder],
    }
    file = _training.checkpoint(kept, identity)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        prepared = _training.prepare(inputs.data, inputs.soft, net, params.training, Path(scratch))
        trained = fit(
            module,
            prepared.rows,
            recipe,
            objective=prepared.objective,
            checkpoint=file,
            progress=lambda epoch: _training.tell(epoch, recipe),
            call=lambda arrays: tuple(forward.call(module, net, arrays).values()),
        )
    fake_quant.bake(module, rounded)
    checkpoint.write(out / _onnx.WEIGHTS, checkpoint.state(module), {})
    if cuts:
        channels.write(cuts, out)
    file.unlink(missing_ok=True)
    return Facts(
        history=trained.history,
        best_epoch=trained.best_epoch,
        score=trained.score,
        higher_is_better=prepared.objective.higher_is_better,
        stopped=trained.stopped,
        diverged=trained.diverged,
        parameters=sum(p.numel() for p in module.parameters() if p.requires_grad),
        rounded=rounded,
    )


def _contents(folder: Path) -> digest.Json:
    """Name -> sha256 of the files of an input."""
    return {
        path.relative_to(folder).as_posix(): digest.of_file(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
