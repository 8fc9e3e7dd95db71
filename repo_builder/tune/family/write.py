"""Members as spec files, beside the spec that describes the family."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from repo_builder.base.errors import OutputError, UsageError, disk_fix
from repo_builder.tune.family.members import Family, Member

_BY = "# Written by `repo-builder family` from "


def write(family: Family, members: Sequence[Member]) -> tuple[Path, ...]:
    """Write each member's spec, `NAME-TAG.yaml`: the family's own with other kwargs.

    UsageError where a file of that name was not written by this function, before any is written;
    OutputError where the folder cannot be written to.
    """
    import yaml

    files = [family.file.with_name(f"{member.name}.yaml") for member in members]
    first = f"{_BY}{family.file.name}"
    for file in files:
        if file.exists() and not file.read_text(encoding="utf-8").startswith(_BY):
            raise UsageError(f"{file} is a file of yours and not replaced; rename it or the model")
    whole = yaml.safe_load(family.file.read_text(encoding="utf-8"))
    del whole["family"]
    for member, file in zip(members, files, strict=True):
        source = {**whole["source"], "torch": {**whole["source"]["torch"]}}
        source["torch"]["kwargs"] = dict(member.kwargs)
        text = yaml.safe_dump({**whole, "name": member.name, "source": source}, sort_keys=False)
        part = file.with_name(f".{file.name}.{os.getpid()}")
        try:
            part.write_text(f"{first}\n{text}", encoding="utf-8")
            part.replace(file)
        except OSError as failure:
            part.unlink(missing_ok=True)
            raise OutputError(f"{file}: {failure.strerror}; {disk_fix(failure)}") from None
    return tuple(files)
