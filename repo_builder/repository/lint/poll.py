"""Rules of repositories that change while Triton runs: it goes by names and times of files.

With --model-control-mode=poll Triton loads a model anew where the newest time in its folder has
grown (ModelTimestamp in model_repository_manager.cc); a load request of mode explicit does nothing
where it has not. Seen with genuine Triton 2.51.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Hit

_MANAGER = "core/src/model_repository_manager/model_repository_manager.cc"
_DOCS = "server/docs/user_guide/model_management.md#model-control-mode-poll"
_SLACK_S = 60
"""Clocks of machines that share a folder differ by some seconds."""
_UNFINISHED = re.compile(
    r".*\.(part|partial|filepart|crdownload|download|tmp|temp|swp)|.*~|\..+\.[A-Za-z0-9]{6}"
)
"""Names that downloads, editors and, last, rsync give to files they have not finished."""


def name_hides(model: Model) -> Iterator[Hit]:
    """A name that `config.pbtxt` starts with keeps Triton from seeing any change of the model."""
    with os.scandir(model.folder) as entries:
        names = sorted(entry.name for entry in entries)
    first = model.config_file.split("/")[0]
    for name in names:
        if model.config_file.startswith(name) and name != first:
            what = f"{model.config_file} starts with this name, so Triton takes both for the config"
            yield Hit(what + " and sees no change of the model", fix="rename it", file=name)


def from_the_future(model: Model) -> Iterator[Hit]:
    """A file of a later time than now hides all changes until then."""
    now = time.time()
    for path in _inside(model.folder):
        try:
            ahead = path.stat().st_mtime - now
        except OSError:
            continue  # a link to nowhere or in a circle: Triton passes over it too
        if ahead > _SLACK_S:
            what = f"is dated {ahead:.0f} s ahead, and hides changes from Triton until then"
            yield Hit(what, fix="touch it", file=str(path.relative_to(model.folder)))


def unfinished(model: Model) -> Iterator[Hit]:
    """A copy into the folder seems to go on: a Triton that polls loads what is there so far."""
    for path in _inside(model.folder):
        if _UNFINISHED.fullmatch(path.name):
            fix = "remove it; copy beside the repository, then rename the folder into it"
            what = "looks like a copy that is not finished"
            yield Hit(what, fix=fix, file=str(path.relative_to(model.folder)))


def _inside(folder: Path) -> Iterator[Path]:
    """All files and folders in a folder."""
    for place, folders, files in os.walk(folder):
        yield from (Path(place, name) for name in sorted([*folders, *files]))


RULES = (
    Rule("poll-name", "warning", "core", _MANAGER, name_hides),
    Rule("poll-future", "warning", "core", _MANAGER, from_the_future),
    Rule("poll-unfinished", "warning", "sense", _DOCS, unfinished),
)
