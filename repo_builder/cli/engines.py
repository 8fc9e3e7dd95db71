"""`repo-builder engines`: build TensorRT plans on the device, at its first start."""

from __future__ import annotations

from pathlib import Path

import click


@click.command()
@click.argument("models", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--cache",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    help="Folder that keeps plans from start to start.",
)
@click.option(
    "--status",
    type=click.Path(dir_okay=False, path_type=Path),
    help="JSON file to keep the progress in.",
)
@click.option(
    "--triton", default="", help="HOST:PORT (HTTP) of the Triton that shall serve the plans."
)
def command(models: Path, cache: Path, status: Path | None, triton: str) -> None:
    """Build the TensorRT plans that the repository MODELS asks for, on this device."""
    from repo_builder.trt import first_start

    first_start.run(models, cache, status=status, triton=triton)
