"""`repo-builder data`: the `.npz` files that specs name, from images, tables and arrays."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from repo_builder.base import console
from repo_builder.base.errors import UsageError
from repo_builder.cli import _options

if TYPE_CHECKING:
    from repo_builder.data.model import Purpose
    from repo_builder.data.rows import Rows
    from repo_builder.data.show import Shown

F = TypeVar("F", bound=Callable[..., Any])
_PATH = click.Path(path_type=Path)
_CLASSES = 20
"""Classes whose rows are shown."""


@click.group()
def command() -> None:
    """Make calibration, evaluation and confidence data from what you have."""
    _options.need_build_extra("data")


def _shared(function: F) -> F:
    for option in (
        _options.json_option,
        click.option("--force", is_flag=True, help="Replace files that exist."),
        _options.number_option("--seed", click.IntRange(0), 0, "Another one splits otherwise."),
        click.option(
            "--split",
            metavar="NAME=ROWS,...",
            help="Rows of calibration, evaluation, confidence; one may get the rest."
            " [default: calibration=200,evaluation=rest]",
        ),
        click.option("--out", type=_PATH, help="The folder to write. [default: the spec's, or .]"),
        click.option("--metric", help="What will be measured. [default: the spec's, or accuracy]"),
        click.option("--spec", type=_PATH, help="The spec whose model the data are for."),
    ):
        function = option(function)
    return function


@command.command("from-images")
@click.argument("folder", type=_PATH)
@click.option("--labels", type=_PATH, help="A CSV file name,label. [default: folders are classes]")
@click.option("--input", "name", help="The model's input. [default: the only one, or x]")
@click.option("--size", nargs=2, type=click.IntRange(1), metavar="HEIGHT WIDTH")
@click.option("--scale", type=_options.POSITIVE, help="Times each pixel. [default: 1/255]")
@click.option("--color", type=click.Choice(["gray", "rgb", "bgr"]), default=None)
@click.option("--layout", type=click.Choice(["NCHW", "NHWC"]), default=None)
@click.option("--mean", metavar="M,...", help="Taken off each channel, after --scale.")
@click.option("--std", metavar="S,...", help="Divides each channel, after --mean.")
@click.option("--fit", type=click.Choice(["stretch", "letterbox", "crop"]), default=None)
@_shared
def from_images(
    folder: Path,
    labels: Path | None,
    name: str | None,
    size: tuple[int, int] | None,
    scale: float | None,
    color: str | None,
    layout: str | None,
    mean: str | None,
    std: str | None,
    fit: str | None,
    **shared: Any,
) -> None:
    """Images in FOLDER/CLASS/, made into inputs by the spec's `preprocess`.

    Without one, --size, --scale, --color, --layout, --mean, --std and --fit say how; size, color
    and layout that are not given are those of the model's input.
    """
    from repo_builder.data import images, table

    wanted = _wanted(shared)
    given: dict[str, Any] = {
        "input": name,
        "size": size,
        "scale": scale,
        "color": color,
        "layout": layout,
    }
    given.update(mean=_figures("--mean", mean), std=_figures("--std", std), fit=fit)
    values = {key: value for key, value in given.items() if value is not None}
    model = wanted.model
    if model and model.preprocess:
        if values:
            said = ", ".join(f"--{key}" for key in values)
            raise UsageError(f"the spec's preprocess says how; leave {said} out, or change it")
        values = model.preprocess.model_dump()
    else:
        known = images.fitting(model.inputs) if model else {}
        values = {"input": "x", **known, **values}
        if "size" not in values:
            raise UsageError("nothing says how large the model's images are; give --size")
    recipe = images.recipe(values)
    dtype = model.types.get(recipe.input, "float32") if model else "float32"
    named = table.labels(labels) if labels else None
    with tempfile.TemporaryDirectory(prefix="repo-builder-data-") as scratch:
        _finish(
            images.read(folder, recipe, dtype, named, wanted.label, Path(scratch)),
            wanted,
            shared,
            "" if model and model.preprocess else f"preprocess: {json.dumps(values)}",
        )


@command.command("from-csv")
@click.argument("file", type=_PATH)
@click.option("--label", metavar="COLUMN", help="The column with the label.")
@click.option(
    "--input",
    "named",
    multiple=True,
    metavar="NAME=COLUMN,...",
    help="Columns of an input. Repeatable. [default: all but the label are the only input]",
)
@_shared
def from_csv(file: Path, label: str | None, named: Sequence[str], **shared: Any) -> None:
    """A table with a header; inputs of text take text, all others numbers."""
    from repo_builder.data import table

    wanted = _wanted(shared)
    model = wanted.model
    inputs: dict[str, list[str]] = {}
    for text in named:
        name, _, columns = text.partition("=")
        inputs[name] = [column for column in columns.split(",") if column]
    inputs = inputs or {(model.only_input if model else "") or "x": []}
    if sum(not columns for columns in inputs.values()) > 1:
        raise UsageError("--input: only one can do without columns; write NAME=COLUMN,...")
    types = model.types if model else {}
    _finish(table.read(file, inputs, types, label, wanted.label), wanted, shared)


@command.command("from-npy")
@click.argument("arrays", nargs=-1, required=True, metavar="[NAME=]FILE.npy...")
@click.option("--input", "name", help="Name of the input. [default: the model's, or the file's]")
@click.option("--label", "labels", multiple=True, metavar="[NAME=]FILE.npy", help="Repeatable.")
@_shared
def from_npy(arrays: Sequence[str], name: str | None, labels: Sequence[str], **shared: Any) -> None:
    """Arrays as numpy.save writes them, samples along the first dimension."""
    from repo_builder.data import arrays as reader

    wanted = _wanted(shared)
    only = name or (wanted.model.only_input if wanted.model else "")
    if name and len(arrays) > 1:
        raise UsageError("--input names one array; write NAME=FILE.npy for several")
    inputs = _named(arrays, only if len(arrays) == 1 else "")
    _finish(reader.read(inputs, _named(labels, wanted.label)), wanted, shared)


def _figures(option: str, text: str | None) -> list[float] | None:
    """`0.5,0.5,0.5` as numbers, one a channel."""
    try:
        return None if text is None else [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(f"{option} {text}: write a number a channel, as 0.5,0.5,0.5") from None


@command.command("show")
@click.argument("files", nargs=-1, required=True, type=_PATH)
@click.option("--spec", type=_PATH, help="Also check them against the model of this spec.")
@_options.json_option
def show(files: Sequence[Path], spec: Path | None, as_json: bool) -> None:
    """Names, types, shapes and ranges of .npz and .npy FILES, and rows of each class."""
    import dataclasses

    from repo_builder.data import model as purpose
    from repo_builder.data import show as reader

    found = {str(file): reader.show(file) for file in files}
    if spec is not None:
        wanted = purpose.purpose(spec, None)
        for path in files:
            purpose.check_file(path, wanted)
    if as_json:
        console.out_json(
            {file: [dataclasses.asdict(array) for array in shown] for file, shown in found.items()}
        )
        return
    for file, shown in found.items():
        if len(found) > 1:
            console.out(f"{file}:")
        rows = [
            [a.name, a.dtype, str(list(a.shape)), *map(_figure, (a.least, a.most, a.mean))]
            for a in shown
        ]
        notes = {number: "\n".join(_notes(array)) for number, array in enumerate(shown)}
        header = ["array", "type", "shape", "least", "most", "mean"]
        console.out(console.table(header, rows, (3, 4, 5), wrap=(2,), notes=notes))
    if spec is not None:
        console.say(f"fits the model of {spec}")


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _notes(array: Shown) -> list[str]:
    lines = []
    if array.not_finite:
        lines.append(f"NaN or infinity: {array.not_finite} values")
    if array.counts:
        some = [f"{name}: {count}" for name, count in list(array.counts.items())[:_CLASSES]]
        more = ", ..." if len(array.counts) > _CLASSES else ""
        lines.append(f"{len(array.counts)} classes, rows of each: {', '.join(some)}{more}")
    return lines


def _named(texts: Sequence[str], default: str) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for text in texts:
        name, given, file = text.partition("=")
        path = Path(file if given else text)
        key = name if given else default or path.stem
        if key in found:
            raise UsageError(f"two files are for '{key}'; write NAME=FILE.npy")
        found[key] = path
    return found


def _wanted(shared: dict[str, Any]) -> Purpose:
    from repo_builder.base.errors import did_you_mean
    from repo_builder.data import make, model, split, write
    from repo_builder.spec.metrics import REQUIRES

    metric, out, spec = shared["metric"], shared["out"], shared["spec"]
    if metric and metric not in REQUIRES:
        raise UsageError(f"--metric: unknown '{metric}'; {did_you_mean(metric, REQUIRES)}")
    shared["out"] = out or (spec.parent if spec else Path())
    shared["split"] = split.parse(shared["split"]) if shared["split"] else None
    planned = shared["split"] or {}
    write.refuse_existing(make.files(shared["out"], planned), force=shared["force"])
    return model.purpose(spec, metric)


def _why_not(onnx: Path, feed: Any) -> str:
    """Why the model does not run on `feed`, tried in a process of its own."""
    from repo_builder.data import model
    from repo_builder.run import isolated

    return isolated.call(onnx, model.why_not, onnx, feed)


def _finish(rows: Rows, wanted: Purpose, shared: dict[str, Any], also: str = "") -> None:
    """Make the files, and print what the spec shall say: of the data, and `also`."""
    from repo_builder.data import make, model

    model.check_labels(rows, wanted)
    made = make.make(
        rows,
        wanted,
        shared["out"],
        sizes=shared["split"],
        seed=shared["seed"],
        force=shared["force"],
        runs=_why_not,
    )
    for note in made.notes:
        console.warn(note)
    files = {str(file): count for file, count in made.files.items()}
    if shared["as_json"]:
        console.out_json({"files": files, "classes": made.classes, "notes": made.notes})
        return
    for file, count in files.items():
        console.say(f"wrote {file}: {count} rows")
    if made.classes:
        shown = [f"{number} {name}" for number, name in enumerate(made.classes[:20])]
        console.say(f"labels: {', '.join(shown)}{', ...' if len(made.classes) > 20 else ''}")
    console.say("write into the spec:")
    console.out(f"{made.spec}\n{also}".rstrip())
