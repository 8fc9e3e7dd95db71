"""The path from rows to files: split, check against the model, write, and say what was done."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base.errors import DataError, OutputError
from repo_builder.data import model, split, write
from repo_builder.data.rows import Rows
from repo_builder.spec.metrics import REQUIRES

_FEW = 5
"""Rows of a class in a file below which its share of a score means little."""


@dataclass(frozen=True)
class Made:
    """Rows of each file, notes for people, and the part of a spec that names the files."""

    files: Mapping[Path, int]
    classes: tuple[str, ...]
    notes: tuple[str, ...]
    spec: str


def files(out: Path, sizes: Mapping[str, int | None]) -> list[Path]:
    """Where the files go."""
    return [out / f"{kind}.npz" for kind in sizes]


def make(
    rows: Rows,
    wanted: model.Purpose,
    out: Path,
    *,
    sizes: Mapping[str, int | None] | None = None,
    seed: int = 0,
    force: bool = False,
    runs: model.Runs | None = None,
) -> Made:
    """Write `rows` into `out`, one `.npz` for each of `sizes` (None: see `split.default`).

    `runs`: see `model.check`. DataError where they do not fit the model or a file needs labels and
    there are none; OutputError where a file exists and not `force`, or a disk refuses.
    """
    sizes = sizes or split.default(rows.count, labelled=bool(rows.labels))
    if not rows.labels and set(sizes) != {"calibration"} and wanted.metric != "own":
        raise DataError(
            "only calibration can do without labels; give labels, or --split calibration=rest"
        )
    write.refuse_existing(files(out, sizes), force=force)
    model.check(rows, wanted, runs)
    parts = split.split(rows, sizes, seed)
    block = model.block(rows, wanted)
    parts = {kind: part[: len(part) // block * block] for kind, part in parts.items()}
    if not all(parts.values()):
        raise DataError(f"the model takes {block} rows at once; give each file as many, or more")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as failure:
        raise OutputError(f"{out}: {failure.strerror}; name a folder with --out") from None
    write.write(
        {
            out / f"{kind}.npz": (
                rows.inputs if kind == "calibration" else {**rows.inputs, **rows.labels},
                part,
            )
            for kind, part in parts.items()
        }
    )
    return Made(
        {out / f"{kind}.npz": len(part) for kind, part in parts.items()},
        rows.classes,
        tuple(_notes(rows, parts, sizes)),
        _spec(out, parts, wanted),
    )


def _notes(
    rows: Rows, parts: Mapping[str, list[int]], sizes: Mapping[str, int | None]
) -> list[str]:
    notes = []
    copies = rows.count - len(set(rows.digests))
    if copies:
        notes.append(f"{copies} rows equal an earlier one; equal rows are in one file")
    for kind, part in parts.items():
        if (asked := sizes[kind]) is not None and len(part) < asked:
            notes.append(f"{kind} has {len(part)} rows, not {asked}: equal rows and runs are whole")
    labels = split.stratum_labels(rows)
    if labels is None:
        return notes
    seen: dict[bytes, set[object]] = {}
    for digest, label in zip(rows.digests, labels.tolist(), strict=True):
        seen.setdefault(digest, set()).add(label)
    if torn := sum(len(found) > 1 for found in seen.values()):
        notes.append(f"{torn} inputs have more than one label; look at them: no model can be right")
    names = sorted(set(labels.tolist()))
    for kind, part in parts.items():
        if kind == "calibration":
            continue
        counts = Counter(labels[part].tolist())
        few = [f"{_name(rows, n)} {counts[n]}" for n in names if counts[n] < _FEW]
        if few:
            more = f" and {len(few) - 10} more" if len(few) > 10 else ""
            notes.append(f"{kind} has few rows of some classes: {', '.join(few[:10])}{more}")
    return notes


def _name(rows: Rows, label: object) -> str:
    return rows.classes[label] if rows.classes and isinstance(label, int) else str(label)


def _spec(out: Path, parts: Mapping[str, list[int]], wanted: model.Purpose) -> str:
    """The lines `data: ...` for the spec, with paths relative to it."""
    found = wanted.model
    base = Path(found.spec.place(()).file).parent if found and found.spec else out
    lines = ["data:"]
    for kind, part in parts.items():
        path = _relative(out / f"{kind}.npz", base)
        more = {
            "calibration": f", samples: {len(part)}",
            "confidence": "" if wanted.label == "label" else f", label: {wanted.label}",
            "evaluation": f", metric: {wanted.metric}{_reads(wanted)}",
        }[kind]
        lines.append(f"  {kind}: {{path: {json.dumps(path)}{more}}}")
    return "\n".join(lines)


def _relative(file: Path, base: Path) -> str:
    import os

    return Path(os.path.relpath(file, base)).as_posix()


def _reads(wanted: model.Purpose) -> str:
    needs = next((r for name, r in REQUIRES.items() if name == wanted.metric), None)
    if needs is None:
        return ""
    text = ""
    if len(needs.labels) == 1 and wanted.label != needs.labels[0]:
        text += f", labels: {{{needs.labels[0]}: {wanted.label}}}"
    if len(needs.outputs) == 1 and wanted.model:
        output = wanted.model.output  # "" where the file declares none with a type
        if output not in ("", needs.outputs[0]):
            text += f", outputs: {{{needs.outputs[0]}: {json.dumps(output)}}}"
    return text
