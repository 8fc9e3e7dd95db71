"""Which earlier versions of a model stay beside a new one in its folder; pure.

All versions of a model in Triton share one config.pbtxt, so only those with the same tensors stay.
Newer ones do not: a spec that goes back to an older version makes that the newest again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from repo_builder.base import digest

_OF_THE_FOLDER = ("files", "folder", "earlier")


def with_earlier(
    new: dict[str, Any], before: Mapping[str, Any], count: int
) -> tuple[dict[str, Any], list[str]]:
    """The record of a new model with up to `count` versions in all, and those that do not fit it.

    `before` is the record in the current generation. The files of earlier versions join those of
    the new one; `earlier` says what they are, newest first.
    """
    known = [before, *before.get("earlier", ())]
    older = [record for record in known if record["triton_version"] < new["triton_version"]]
    older.sort(key=lambda record: -int(record["triton_version"]))
    fitting = [record for record in older if record.get("interface") == new["interface"]]
    unfit = [str(record["version"]) for record in older if record not in fitting]
    kept = fitting[: count - 1]
    if not kept:
        return new, unfit
    names = [_folder(new, record) for record in kept]
    carried = {
        file: entry
        for file, entry in before["files"].items()
        if file.partition("/")[0] in names and "/" in file
    }
    files = dict(sorted({**new["files"], **carried}.items()))
    earlier = [
        {key: value for key, value in record.items() if key not in _OF_THE_FOLDER}
        for record in kept
    ]
    return {**new, "files": files, "digest": digest.of_json(files), "earlier": earlier}, unfit


def _folder(model: Mapping[str, Any], version: Mapping[str, Any]) -> str:
    """The folder of a version: Triton's number, or of a bundle the semantic version."""
    bundle = str(model["folder"]).startswith("bundles/")
    return str(version["version" if bundle else "triton_version"])
