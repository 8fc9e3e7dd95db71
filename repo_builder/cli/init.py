"""`repo-builder init`: a first spec for a model."""

from __future__ import annotations

import re
from pathlib import Path

import click

from repo_builder.base import console
from repo_builder.cli import _complete, _options

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=_PATH)
@click.option(
    "--out",
    type=_PATH,
    help="The file to write. [default: the model's name with .yaml, in this folder]",
)
@click.option(
    "--target",
    "on",
    multiple=True,
    metavar="NAME",
    shell_complete=_complete.targets,
    help="Build for this target; '*' for all that can. Repeatable. [default: cpu]",
)
@click.option("--int8", is_flag=True, help="Build in int8; needs calibration data.")
@click.option(
    "--data",
    type=_PATH,
    help="Images in a folder per class, or a .csv, .npy or .npz file: makes calibration and"
    " evaluation data. Or a folder that has them.",
)
@click.option(
    "--label",
    metavar="NAME|FILE",
    help="The labels in --data: a column, an array, y.npy, or a table name,label of images.",
)
@_options.targets_dir_option
@click.option("--force", is_flag=True, help="Replace files that exist.")
def command(
    model: Path,
    out: Path | None,
    on: tuple[str, ...],
    int8: bool,
    data: Path | None,
    label: str | None,
    targets_dir: Path | None,
    force: bool,
) -> None:
    """Write a commented spec for an ONNX model, which builds as it is.

    What MODEL is for is found by looking into it and by running it; calibration.npz,
    evaluation.npz and labels.txt beside it are tried. For a model of another framework: how to
    export it.
    """
    _options.need_build_extra("init")
    from repo_builder import propose
    from repo_builder.base.errors import OutputError, UsageError

    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", model.stem).strip("-_.") or "model"
    path = out or Path(f"{name}.yaml")
    if path.exists() and not force:
        raise OutputError(
            f"{path} exists; name another file with --out, or replace it with --force"
        )
    if label is not None and data is None:
        raise UsageError("--label says which labels --data has; give --data too")
    request = propose.Request(
        name, model, path, on or ("cpu",), int8=int8, data=data, label=label, force=force
    )
    proposal = propose.propose(request, _options.load_targets(targets_dir))
    try:
        path.write_text(proposal.text, encoding="utf-8")
    except OSError as failure:
        raise OutputError(f"{path}: {failure.strerror}") from None
    for line in proposal.said:
        console.say(line)
    for line in proposal.warnings:
        console.warn(line)
    console.say(f"wrote {path}; build it: repo-builder build {path}")
