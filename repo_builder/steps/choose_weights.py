"""`choose`: of a pruned, fine-tuned net and its twin trained from scratch, the better one goes on.

The twin has the same shape and was trained as long, on the same rows with the same teacher. What
pruning is worth is what it is better than that.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from repo_builder.nets.types import Net
from repo_builder.steps import _onnx, _training

BATCH = 256
"""Rows that are scored at once."""


@dataclass(frozen=True)
class Params:
    """As in `train`, of which the objective scores."""

    net: Net
    training: _training.Training


@dataclass(frozen=True)
class Inputs:
    """`code`, `data`: as in `train`, with validation rows. The others are folders of weights, the
    dense net's, the pruned and fine-tuned one's, and those of its twin.
    """

    code: Path
    data: Path
    dense: Path
    tuned: Path
    scratch: Path


@dataclass(frozen=True)
class Facts:
    """Scores on `rows` validation rows; `chosen` is fine-tuned where both are equally good."""

    dense: float
    fine_tuned: float
    from_scratch: float
    rows: int
    higher_is_better: bool
    chosen: Literal["fine-tuned", "from scratch"]


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    """Copy the weights of the better net. ModelError, DataError: as in `train`."""
    folders = (inputs.dense, inputs.tuned, inputs.scratch)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        prepared = _training.prepare(inputs.data, None, params.net, params.training, Path(scratch))
        scores = [_score(inputs.code, folder, params.net, prepared) for folder in folders]
        rows = len(prepared.rows.validation[prepared.rows.inputs[0]])
    dense, tuned, twin = scores
    higher = prepared.objective.higher_is_better
    good = tuned >= twin if higher else tuned <= twin
    shutil.copytree(inputs.tuned if good else inputs.scratch, out, dirs_exist_ok=True)
    return Facts(dense, tuned, twin, rows, higher, "fine-tuned" if good else "from scratch")


def _score(code: Path, weights: Path, net: Net, prepared: _training.Prepared) -> float:
    from repo_builder.nets import factory, forward
    from repo_builder.nets.losses import Answers, mean_score

    module = factory.make(code, net, weights / _onnx.WEIGHTS)

    def answer(arrays: Mapping[str, Any]) -> Answers:
        return Answers(tuple(forward.call(module, net, arrays).values()))

    return mean_score(prepared.objective, answer, prepared.rows.validation, BATCH)
