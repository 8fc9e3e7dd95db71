"""What the logs of failed steps end with, for a page that is read where the store is not."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from repo_builder.build.report.causes import Cause

BYTES = 8_000
"""Of one log, from its end."""

MOST = 30
"""Logs of one page; of more only the places are told."""

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b-\x1f\x7f]")


def ends(found: Iterable[Cause]) -> Mapping[str, str]:
    """The last lines of each log that is there and not empty, by its path."""
    paths = dict.fromkeys(failure.log for cause in found for failure in cause.failures)
    read = ((path, _end(Path(path))) for path in list(filter(None, paths))[:MOST])
    return {path: text for path, text in read if text}


def _end(log: Path) -> str:
    """Whole lines of at most BYTES; "" where the log cannot be read, as one that was pruned."""
    try:
        with log.open("rb") as opened:
            size = opened.seek(0, os.SEEK_END)
            opened.seek(max(0, size - BYTES))
            raw = opened.read(BYTES)
    except OSError:
        return ""
    if size > BYTES:
        raw = raw.partition(b"\n")[2] or raw
    text = raw.decode("utf-8", "replace").replace("\r\n", "\n").replace("\r", "\n")
    return _ESCAPES.sub("", text).strip()
