"""`repo-builder init`: a first spec for a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import click

from repo_builder.base import console
from repo_builder.cli import _complete, _options

_PATH = click.Path(path_type=Path)


@click.command()
@click.argument("model", type=_PATH, metavar="MODEL.onnx|NETS.py:FUNCTION")
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
@click.option("--weights", type=_PATH, help="Of a PyTorch net: its state, a .safetensors file.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="NAME=1,3,H,W[:TYPE]",
    help="Of a PyTorch net: the shape of an input, in the order of forward. Repeatable.",
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="NAME",
    help="Of a PyTorch net: a name for what it returns, in order. Repeatable.",
)
@click.option(
    "--kwarg",
    "kwargs",
    multiple=True,
    metavar="NAME=VALUE",
    help="Of a PyTorch net: what its function is called with. Repeatable.",
)
@click.option("--no-batch", is_flag=True, help="Of a PyTorch net: dimension 0 counts no rows.")
@_options.targets_dir_option
@click.option("--force", is_flag=True, help="Replace files that exist.")
def command(
    model: Path,
    out: Path | None,
    on: tuple[str, ...],
    int8: bool,
    data: Path | None,
    label: str | None,
    weights: Path | None,
    inputs: tuple[str, ...],
    outputs: tuple[str, ...],
    kwargs: tuple[str, ...],
    no_batch: bool,
    targets_dir: Path | None,
    force: bool,
) -> None:
    """Write a commented spec for a model, which builds as it is.

    That is an ONNX file, or a PyTorch net: the function that returns it, and --input.

    What MODEL is for is found by looking into it and by running it; calibration.npz,
    evaluation.npz and labels.txt beside it are tried. For a model of another framework: how to
    export it.
    """
    _options.need_build_extra("init")
    from repo_builder import propose
    from repo_builder.base.errors import OutputError, UsageError

    file, _, function = str(model).partition(".py:")
    net = None
    if function or model.suffix == ".py":
        from repo_builder.propose import torch_net

        net = torch_net.source(
            str(model),
            dict(map(_kwarg, kwargs)),
            weights,
            dict(map(_input, inputs)),
            outputs,
            batch=not no_batch,
        )
        model = Path(f"{file}.py")
    elif weights or inputs or outputs or kwargs or no_batch:
        what = "--weights, --input, --output, --kwarg and --no-batch"
        raise UsageError(f"{what} are for a PyTorch net: name it NETS.py:FUNCTION")
    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", model.stem).strip("-_.") or "model"
    path = out or Path(f"{name}.yaml")
    if path.exists() and not force:
        raise OutputError(
            f"{path} exists; name another file with --out, or replace it with --force"
        )
    if label is not None and data is None:
        raise UsageError("--label says which labels --data has; give --data too")
    request = propose.Request(
        name, model, path, on or ("cpu",), int8=int8, data=data, label=label, force=force, net=net
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


def _input(text: str) -> tuple[str, Any]:
    """`x=1,40:int64` as a spec has it."""
    from repo_builder.base.errors import UsageError

    name, _, rest = text.partition("=")
    sizes, _, dtype = rest.partition(":")
    parts = [part.strip() for part in sizes.split(",")]
    if not name or not all(part.isdecimal() for part in parts):
        raise UsageError(f"--input {text}: write NAME=1,3,224,224, or NAME=1,40:int64")
    shape = [int(part) for part in parts]
    return name, {"shape": shape, "dtype": dtype} if dtype else shape


def _kwarg(text: str) -> tuple[str, Any]:
    """`width=8` as YAML has it."""
    import yaml

    from repo_builder.base.errors import UsageError

    name, mark, value = text.partition("=")
    try:
        if name.isidentifier() and mark:
            return name, yaml.safe_load(value)
    except yaml.YAMLError:
        pass
    raise UsageError(f"--kwarg {text}: write NAME=VALUE, the value as in YAML")
