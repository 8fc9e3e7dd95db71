"""Mechanical repairs of config.pbtxt: each writes one value, and keeps all else as it is."""

from __future__ import annotations

import os
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from repo_builder.repository import render
from repo_builder.repository.lint.positions import Positions
from repo_builder.repository.lint.types import Edit, Finding


def apply(findings: Sequence[Finding]) -> list[Finding]:
    """Write the repairs of those findings that have one, and return these.

    Each file is replaced in one step, and only where the result is still a config.
    """
    by_file: dict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        if finding.edit is not None:
            by_file[finding.file].append(finding)
    for file, repairs in by_file.items():
        path = Path(file)
        content = path.read_bytes().decode()
        for finding in repairs:
            assert finding.edit is not None  # noqa: S101 - chosen so above
            content = edited(content, finding.edit)
        render.parse(content)
        _replace(path, content)
    return [finding for repairs in by_file.values() for finding in repairs]


def edited(text: str, edit: Edit) -> str:
    """`text` with the edit's value in its field, which is added where it is not written."""
    positions = Positions(text)
    span = positions.span(edit.field)
    if span is not None:
        return text[: span.start] + edit.value + text[span.end :]
    parent, _, name = edit.field.rpartition(".")
    outer = positions.span(parent) if parent else None
    if outer is None:
        return text.rstrip("\n") + f"\n{edit.field}: {edit.value}\n"
    indent = positions.indent(outer)
    opening = outer.start + 1
    rest = text[opening:]
    if "\n" not in text[outer.start : outer.end]:
        return f"{text[:opening]} {name}: {edit.value}{rest}"
    return f"{text[:opening]}\n{indent}  {name}: {edit.value}{rest}"


def _replace(path: Path, content: str) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".lint-")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode())
        temporary.chmod(path.stat().st_mode & 0o777)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
