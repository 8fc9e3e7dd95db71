"""What Triton is shown of a repository: the repository itself wherever that does no harm."""

from __future__ import annotations

import shlex
from pathlib import Path


def of(models_dir: Path, place: Path) -> Path:
    """The folder that Triton is given for `models_dir`: that, or the new folder `place` of links.

    Triton hands paths to its Python stubs through a shell, unquoted. And Python writes bytecode
    beside the `model.py` of a model: that must not happen in a published repository, whose files
    are those of its signed manifest and never change. Such a model gets folders of its own, with
    links to its files; a repository that nobody published is shown as it is, and may change.
    """
    in_python = set()
    if (models_dir.parent / "manifest.json").is_file():
        in_python = {path.parents[1].name for path in models_dir.glob("*/*/model.py")}
    if not in_python:
        if shlex.quote(str(models_dir)) == str(models_dir):
            return models_dir
        place.symlink_to(models_dir)
        return place
    place.mkdir()
    for model in models_dir.iterdir():
        if model.name in in_python:
            _linked(model, place / model.name)
        else:
            (place / model.name).symlink_to(model)
    return place


def _linked(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        if path.is_dir():
            _linked(path, target / path.name)
        else:
            (target / path.name).symlink_to(path)
