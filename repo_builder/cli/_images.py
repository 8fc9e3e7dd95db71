"""The images that `build` makes at its end."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from repo_builder.base import console
from repo_builder.base.errors import ImageError, RepoBuilderError

if TYPE_CHECKING:
    from repo_builder.images.engine import Engine


def make(targets: Iterable[str], out: Path, *, required: bool) -> None:
    """Make an image of each repository `out/<target>`, for targets that have images.

    Unless they are `required`, failures are warnings, and nothing is built where no engine answers
    or for another machine's architecture, whose base would be pulled and could not be tried, or
    whose base a user must make, or is NVIDIA's and not here, 10 GB and more to pull:
    `repo-builder images build` is for those.
    """
    from repo_builder.images import engine

    if not required and (find_spec("docker") is None or not engine.listening()):
        return
    from repo_builder.images import pins

    try:
        running = engine.connect()
    except ImageError:
        if required:
            raise
        return
    table = pins.load(None)
    here = f"linux/{running.architecture()}"
    for target in sorted(set(targets) & set(table.targets)):
        _, family = table.family(target)
        if not required and (
            not family.base
            or table.platform(target, None) != here
            or (family.large and not running.has(family.base))
        ):
            continue
        try:
            _make(out, target, running)
        except RepoBuilderError as failure:
            if required:
                raise
            console.warn(f"no image for {target}: {failure}")


def _make(out: Path, target: str, running: Engine) -> None:
    from repo_builder.cli import images as commands
    from repo_builder.images.build import Request

    request = Request(out / target, out / "images" / target)
    (context,) = commands.write_contexts([request])
    commands.make(request, context, running)
