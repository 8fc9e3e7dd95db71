"""`repo-builder compose`: the compose files that serve on a device, in the cloud, or here."""

from __future__ import annotations

from pathlib import Path

import click

from repo_builder.base import console, resources
from repo_builder.base.errors import OutputError, disk_fix

_FILES = ("edge", "cloud", "dev")
_BESIDE = "prometheus.yml"


@click.command()
@click.argument("name", type=click.Choice(_FILES))
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Write it there, with the files that it names, instead of printing it.",
)
def command(name: str, out: Path | None) -> None:
    """Print the compose file that serves at the edge, in the cloud, or here for development."""
    source = resources.folder("compose")
    text = (source / f"{name}.yaml").read_text(encoding="utf-8")
    if out is None:
        console.out(text.rstrip("\n"))
        return
    written = {f"{name}.yaml": text}
    if _BESIDE in text:
        written[_BESIDE] = (source / _BESIDE).read_text(encoding="utf-8")
    for file, content in written.items():
        path = out / file
        try:
            out.mkdir(parents=True, exist_ok=True)
            with path.open("x", encoding="utf-8") as opened:
                opened.write(content)
        except OSError as failure:
            raise OutputError(f"{path}: {failure.strerror}; {disk_fix(failure)}") from failure
        console.out(str(path))
