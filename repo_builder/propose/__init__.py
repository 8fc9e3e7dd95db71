"""A first spec for a model: what it is, what lies beside it, and what could be done with it.

`propose` is the path: `torch_net` exports a PyTorch net, `foreign` refuses what is neither it nor
ONNX, `look` runs the model, `tasks` tells what it is for, `bring` makes data of what the user has,
`beside` finds data, `measure` tries metrics, `fits` asks the tables of support, `render` writes it
down. What was found by looking or running is said so; what is a guess is a comment. Building
belongs to `build/`.
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from repo_builder.propose.request import Request

if TYPE_CHECKING:
    from repo_builder.propose.look import Look
    from repo_builder.spec.types import Precision
    from repo_builder.targets import Target


@dataclass(frozen=True)
class Proposal:
    """The text of the spec; in words what was found (`said`) and what to look at (`warnings`)."""

    text: str
    said: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def propose(request: Request, targets: Mapping[str, Target]) -> Proposal:
    """A spec for the model of `request`, which loads and builds as it is.

    ModelError where there is no such ONNX model or it cannot be run, with the way to ONNX for other
    formats; DataError, UsageError and OutputError for what was asked and cannot be.
    """
    from repo_builder.base.errors import ModelError
    from repo_builder.propose import foreign, torch_net

    if request.net is not None:
        with tempfile.TemporaryDirectory() as scratch:
            net, onnx = torch_net.exported(request.net, Path(scratch))
            return _proposal(dataclasses.replace(request, net=net, onnx=onnx), targets)
    if not request.onnx.exists():
        raise ModelError(f"{request.onnx}: no such file")
    foreign.refuse(request.onnx)
    if not request.onnx.is_file():
        raise ModelError(f"{request.onnx} is a folder; name the .onnx file in it")
    return _proposal(request, targets)


def _proposal(request: Request, targets: Mapping[str, Target]) -> Proposal:
    from repo_builder.base.errors import DataError
    from repo_builder.propose import beside, bring, fits, recipes, render, tasks, usable

    look = _look(request.onnx)
    task = tasks.of(look)
    able_in_int8 = look.has_scales or fits.quantizable(look.contents)
    wanted: Precision = "int8" if request.int8 and able_in_int8 else "fp32"
    fits.choose(
        request.targets, fits.fits(look.contents, targets, int8=able_in_int8), targets, wanted
    )
    brought = None
    folders = list(dict.fromkeys([request.spec.parent, request.file.parent]))
    if request.data is not None and bring.is_ready(request.data):
        folders = [request.data]
    elif request.data is not None:
        brought = bring.bring(request, look, task)
    found = beside.find(request.name if brought else request.file.stem, folders)
    data = usable.check(request.onnx, found, look, task)
    task = tasks.judged(look, task, data.measured.metric)
    labels, unused = usable.labels(found, task)
    scales = look.has_scales or data.calibration is not None
    if wanted == "int8" and not scales:
        raise DataError(
            "--int8 needs calibration data, and none that fits lies beside the model; bring some"
            f" with --data{': ' + data.problems[0] if data.problems else ''}"
        )
    able = fits.fits(look.contents, targets, int8=scales and able_in_int8)
    chosen = fits.choose(request.targets, able, targets, wanted)
    tried = brought.recipe if brought else None
    recipe = tried or recipes.of_shape(look)
    parts = render.Parts(
        request, look, task, data, able, chosen, labels, recipe, used=tried is not None
    )
    said = [*(brought.said() if brought else ()), *usable.said(task, data)]
    notes = brought.made.notes if brought else ()
    floating = fits.NOTHING if request.int8 and not able_in_int8 else ""
    doubts = filter(None, [unused, usable.by_chance(data, task), floating])
    warnings = (*notes, *data.problems, *doubts)
    return Proposal(render.spec(parts), tuple(said), warnings)


def _look(onnx: Path) -> Look:
    from repo_builder.propose import look
    from repo_builder.run import isolated
    from repo_builder.run.pin import without_links

    with tempfile.TemporaryDirectory() as scratch:
        return isolated.call(onnx, look.look, without_links(onnx, Path(scratch)))


__all__ = ["Proposal", "Request", "propose"]
