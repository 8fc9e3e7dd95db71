"""The user's raw data for `init`: read, split, checked against the model, written down."""

from __future__ import annotations

import csv
import dataclasses
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repo_builder.base.errors import DataError, UsageError
from repo_builder.data import arrays, images, make, model, table, write
from repo_builder.data.rows import Rows, digests
from repo_builder.propose import recipes
from repo_builder.propose.look import Look
from repo_builder.propose.request import Request
from repo_builder.propose.tasks import Task, image_input
from repo_builder.spec.types import MetricName
from repo_builder.steps import _data

_OF_CLASSES = ("scores", "classes", "one-score", "value", "embedding")
"""Tasks that folders of images may be the labels of."""

_LABEL_COLUMNS = ("label", "class", "target", "y", "species", "category")


@dataclass(frozen=True)
class Brought:
    """What was made: the files and notes of `data.make`, and of images how they become inputs."""

    made: make.Made
    recipe: recipes.Recipe | None = None

    def said(self) -> list[str]:
        """What was made and found, for people."""
        lines = [f"wrote {file}: {count} rows" for file, count in self.made.files.items()]
        if self.made.classes:
            shown = ", ".join(f"{n} {name}" for n, name in enumerate(self.made.classes[:20]))
            lines.append(f"labels: {shown}{', ...' if len(self.made.classes) > 20 else ''}")
        if self.recipe is not None:
            lines.append(f"preprocess: {self.recipe.why}")
        return lines


def is_ready(data: Path) -> bool:
    """Whether `data` is a folder of `.npz` files that are named for what they are for."""
    return data.is_dir() and any(
        (data / f"{kind}.npz").is_file() for kind in ("calibration", "evaluation")
    )


def bring(request: Request, look: Look, task: Task) -> Brought:
    """Make `.npz` files in a folder of the model's name beside the spec, of `request.data`.

    That is a folder of images, a `.csv`, `.npy` or `.npz` file; `request.label` names the column of
    a table, a `.npy` file beside an array, an array of an `.npz` file, or a table name,label beside
    images. DataError, UsageError, OutputError: see `data.make`.
    """
    data, out = request.data or Path(), request.spec.parent / request.name
    of = model.Model(request.onnx, look.signature.inputs, task.output)
    kinds = ("calibration", "evaluation")
    write.refuse_existing(make.files(out, dict.fromkeys(kinds)), force=request.force)
    with tempfile.TemporaryDirectory(prefix="repo-builder-data-") as scratch:
        rows, recipe = _read(request, data, of, look, task, Path(scratch))
        rows, metric = _for_task(rows, task)
        name = next(iter(rows.labels), "label")
        made = make.make(rows, model.Purpose(metric, name, of), out, force=request.force)
    if made.classes and len(made.classes) == task.classes:
        names = "".join(f"{name}\n" for name in made.classes)
        (out / "labels.txt").write_text(names, encoding="utf-8")
    return Brought(made, recipe)


def _read(
    request: Request, data: Path, of: model.Model, look: Look, task: Task, scratch: Path
) -> tuple[Rows, recipes.Recipe | None]:
    """The rows of whatever `data` is, and of images how they become inputs."""
    label, suffix = request.label, data.suffix.lower()
    if data.is_dir():
        rows, recipe = _images(request, data, of, look, task, scratch)
        if task.kind not in _OF_CLASSES:
            rows = dataclasses.replace(rows, labels={}, classes=())
        return rows, recipe
    if not data.exists():
        raise UsageError(f"--data {data}: no such file or folder")
    if suffix == ".csv":
        return _table(data, label, of), None
    if suffix == ".npy":
        return arrays.read({_only_input(of): data}, {"label": Path(label)} if label else {}), None
    if suffix == ".npz":
        return _stored(data, label, of), None
    raise UsageError(f"--data {data}: bring a folder of images, or a .csv, .npy or .npz file")


def _only_input(of: model.Model) -> str:
    if not of.only_input:
        names = ", ".join(tensor.name for tensor in of.inputs)
        raise UsageError(f"--data: the model has several inputs ({names}); bring them in one .npz")
    return of.only_input


def _for_task(rows: Rows, task: Task) -> tuple[Rows, MetricName]:
    """The rows with the only label under the name that the likeliest metric gives it."""
    metric = task.metrics[0] if task.metrics else "accuracy"
    if len(rows.labels) != 1 or not task.metrics:
        return rows, metric
    ((name, array),) = rows.labels.items()
    if array.dtype.kind == "f" and "rmse" in task.metrics:
        metric = "rmse"
    wanted = {"rmse": "target", "accuracy": "label", "f1": "label", "recall1": "label"}.get(metric)
    if name in ("label", "target") and wanted:
        rows = dataclasses.replace(rows, labels={wanted: array})
    return rows, metric


def _images(
    request: Request, folder: Path, of: model.Model, look: Look, task: Task, scratch: Path
) -> tuple[Rows, recipes.Recipe]:
    tensor = image_input(look.signature.inputs)
    if tensor is None:
        shapes = ", ".join(f"{t.name} {list(t.shape)}" for t in look.signature.inputs)
        raise UsageError(f"--data {folder}: the model takes no images, but {shapes}")
    named = table.labels(Path(request.label)) if request.label else None
    recipe = recipes.choose(folder, named, request.onnx, look, task)
    made = images.recipe(recipe.values)
    dtype = of.types[tensor.name]
    return images.read(folder, made, dtype, named, "label", scratch), recipe


def _table(file: Path, label: str | None, of: model.Model) -> Rows:
    header = _header(file)
    if label is None:
        found = [name for name in header if name.strip().lower() in _LABEL_COLUMNS]
        if len(found) != 1:
            shown = ", ".join(header[:12]) + (", ..." if len(header) > 12 else "")
            raise UsageError(f"--data {file}: say which column is the label: --label, of {shown}")
        label = found[0]
    inputs: Mapping[str, list[str]] = {of.only_input: []}
    if not of.only_input:  # as scikit-learn's converters have it: an input a column
        inputs = {tensor.name: [tensor.name] for tensor in of.inputs}
    return table.read(file, inputs, of.types, label, "label")


def _header(file: Path) -> list[str]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            return next(csv.reader(stream), [])
    except (OSError, UnicodeDecodeError, csv.Error) as failure:
        raise DataError(f"{file}: cannot be read as a table: {failure}") from None


def _stored(file: Path, label: str | None, of: model.Model) -> Rows:
    """Arrays of an `.npz` file: those named like inputs, and the others as labels."""
    stored = _data.read(file)
    names = {tensor.name for tensor in of.inputs}
    inputs: dict[str, Any] = {name: stored[name] for name in stored if name in names}
    if not inputs:
        held = ", ".join(stored)
        raise DataError(f"{file} has no array named like an input ({', '.join(names)}), but {held}")
    if label and label not in stored:
        raise UsageError(f"--label {label}: {file.name} has no such array, but {', '.join(stored)}")
    count = min(map(len, inputs.values()))
    others = {
        name: array
        for name, array in stored.items()
        if name not in inputs and array.ndim and len(array) == count
    }
    if label:
        others = {"label": others[label]} if label in others else {}
    elif len(others) == 1:
        others = {_called(name, array): array for name, array in others.items()}
    return Rows(inputs, others, digests(inputs.values()))


def _called(name: str, array: Any) -> str:
    """A lone label is called `label`, which most metrics read, unless it is of another kind."""
    plain = array.size == len(array) and array.dtype.kind in "iubfUS"
    return "label" if plain and name not in ("anomaly", "text", "target") else name
