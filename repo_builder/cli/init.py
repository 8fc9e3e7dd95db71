"""`repo-builder init`: a first spec for a model."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from repo_builder.base import console
from repo_builder.cli import _options

if TYPE_CHECKING:
    from repo_builder.base.artifact import Signature, Tensor


@click.command()
@click.argument("model", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The file to write. [default: the model's name with .yaml, in this folder]",
)
@click.option("--force", is_flag=True, help="Replace the file where it exists.")
def command(model: Path, out: Path | None, force: bool) -> None:
    """Write a commented spec for an ONNX model.

    Inputs, outputs and the batch dimension are found by looking into MODEL and by running it.
    """
    _options.need_build_extra("init")
    from repo_builder.base.errors import ModelError, OutputError

    name = re.sub(r"[^A-Za-z0-9_.-]+", "-", model.stem).strip("-_.") or "model"
    path = out or Path(f"{name}.yaml")
    if path.exists() and not force:
        raise OutputError(
            f"{path} exists; name another file with --out, or replace it with --force"
        )
    if not model.is_file():
        raise ModelError(f"{model}: no such file")
    text = _render(name, model, path, _signature(model))
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as failure:
        raise OutputError(f"{path}: {failure.strerror}") from None
    console.say(f"wrote {path}; build it: repo-builder build {path}")


def _signature(model: Path) -> Signature:
    """Look into the model and run it, in a process of its own: a model may crash its runtime."""
    import tempfile

    from repo_builder import introspect
    from repo_builder.base.errors import ModelError, RepoBuilderError
    from repo_builder.introspect.runtime import reason_of
    from repo_builder.run.pin import without_links
    from repo_builder.run.processes import StepProcesses, WorkerDied

    with tempfile.TemporaryDirectory() as scratch, StepProcesses(1) as processes:
        plain = without_links(model, Path(scratch))
        try:
            signature: Signature = processes.submit(introspect.signature, plain).result()
        except RepoBuilderError:
            raise
        except WorkerDied as failure:
            raise ModelError(f"{model}: running it {failure}") from None
        except Exception as failure:  # noqa: BLE001 - the runtime's own, told as one line
            what = reason_of(failure)
            raise ModelError(f"{model}: running it failed: {what}") from None
    return signature


def _render(name: str, model: Path, path: Path, signature: Signature) -> str:
    import os

    from repo_builder.base import templates
    from repo_builder.introspect import states

    source = os.path.relpath(model, path.parent)
    return templates.load("spec.yaml.j2").render(
        name=_scalar(name),
        file=path,
        source=_scalar(source),
        signature=signature,
        sizes=_sizes(signature),
        scores=_scores(signature),
        detections=_detections(signature),
        states=states.pairs(signature.inputs, signature.outputs),
        shape=_shape,
        scalar=_scalar,
    )


def _scores(signature: Signature) -> str:
    """The output that a metric would read: of a classifier its table, not the labels beside it."""
    floating = [t for t in signature.outputs if t.dtype in ("FP16", "BF16", "FP32", "FP64")]
    tables = [t for t in floating if len(t.shape) > 1]
    return (tables or floating or list(signature.outputs))[0].name


def _detections(signature: Signature) -> str:
    """The output that looks like that of a detector as Ultralytics exports it, "" for none."""
    from repo_builder.base import detections

    images = len(signature.inputs) == 1 and len(signature.inputs[0].shape) == 4
    found = [t.name for t in signature.outputs if detections.looks_like(t.shape)]
    return found[0] if images and len(found) == len(signature.outputs) == 1 else ""


def _sizes(signature: Signature) -> dict[str, object]:
    """What `sizes` of a spec would say: open dimensions by name, whole inputs where it has none."""
    sizes: dict[str, object] = {}
    for tensor in signature.inputs:
        skipped = ["null"] if signature.batched else []
        ran = [
            size if isinstance(size, int) else signature.dynamic_axes.get(_axis(tensor, axis), 1)
            for axis, size in enumerate(tensor.shape)
        ]
        named = [
            (size, ran[axis])
            for axis, size in enumerate(tensor.shape)
            if isinstance(size, str) and axis >= len(skipped)
        ]
        if all(name for name, _ in named):
            sizes.update(named)
        else:
            said = [*skipped, *map(str, ran[len(skipped) :])]
            sizes[tensor.name] = f"[{', '.join(said)}]"
    return sizes


def _axis(tensor: Tensor, axis: int) -> str:
    return str(tensor.shape[axis]) or f"{tensor.name}[{axis}]"


def _shape(tensor: Tensor) -> str:
    return "[" + ", ".join(str(d) or "?" for d in tensor.shape) + "]"


def _scalar(text: str) -> str:
    """As a YAML scalar on one line: quoted where a plain one would mean something else."""
    import json

    import yaml

    plain = re.fullmatch(r"[A-Za-z0-9_./-]+", text) and yaml.safe_load(text) == text
    return text if plain else json.dumps(text)
