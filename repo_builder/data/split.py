"""Which row goes into which file: disjoint, stratified, the same on every machine.

Rows with equal inputs stay together, so that no file holds what another one was fitted to. The
order comes from digests of the rows and the seed, not from a random generator: it depends on
neither numpy's version nor the order of the files.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from repo_builder.base.errors import DataError, UsageError, did_you_mean
from repo_builder.data.rows import Array, Rows

KINDS = ("calibration", "evaluation", "confidence")
_CALIBRATION = 200


def parse(text: str) -> dict[str, int | None]:
    """`calibration=200,evaluation=rest` -> rows of each file; None is what the others leave.

    UsageError for another file, a number below 1, a file named twice, or two that get the rest.
    """
    sizes: dict[str, int | None] = {}
    for part in text.split(","):
        kind, _, size = part.strip().partition("=")
        if kind not in KINDS:
            raise UsageError(f"--split: no file '{kind}'; {did_you_mean(kind, KINDS)}")
        if kind in sizes:
            raise UsageError(f"--split: '{kind}' is there twice; name it once")
        if size != "rest" and not (size.isascii() and size.isdigit() and int(size) > 0):
            raise UsageError(f"--split: {kind}={size}; write a number of rows, or rest")
        sizes[kind] = None if size == "rest" else int(size)
    if list(sizes.values()).count(None) > 1:
        raise UsageError("--split: two files get the rest; give one of them a number")
    return sizes


def default(rows: int, *, labelled: bool) -> dict[str, int | None]:
    """200 rows to calibrate, or a fifth of fewer than 1000; the rest to evaluate if labelled."""
    if not labelled:
        return {"calibration": None}
    return {"calibration": max(1, min(_CALIBRATION, rows // 5)), "evaluation": None}


def split(rows: Rows, sizes: Mapping[str, int | None], seed: int) -> dict[str, list[int]]:
    """The rows of each file, so ordered that the first n of them are stratified for any n.

    A file may get fewer rows than asked where copies, which stay together, do not fit. DataError
    where there are too few rows, or a file stays empty.
    """
    asked = sum(size or 0 for size in sizes.values())
    rest = None in sizes.values()
    if asked + rest > rows.count:
        raise DataError(
            f"{rows.count} rows cannot give {asked}{' and a rest' if rest else ''};"
            " bring more data, or ask for less with --split"
        )
    waiting = _ordered(rows, seed)
    found: dict[str, list[int]] = {}
    for kind, size in sorted(sizes.items(), key=lambda item: item[1] is None):
        taken: list[int] = []
        left = []
        for group in waiting:
            if size is None or len(taken) + len(group) <= size:
                taken += group
            else:
                left.append(group)
        if not taken:
            raise DataError(f"no row is left for {kind}; equal rows go into one file: see --split")
        found[kind], waiting = taken, left
    return {kind: found[kind] for kind in KINDS if kind in found}


def _ordered(rows: Rows, seed: int) -> list[list[int]]:
    """Groups of equal rows: shuffled within their class, and the classes spread evenly."""
    groups: dict[bytes, list[int]] = {}
    for row, digest in enumerate(rows.digests):
        groups.setdefault(digest, []).append(row)
    strata: dict[object, list[tuple[bytes, list[int]]]] = {}
    labels = stratum_labels(rows)
    for digest, group in groups.items():
        place = hashlib.sha256(b"%d:" % seed + digest).digest()
        stratum = None if labels is None else labels[group[0]].item()
        strata.setdefault(stratum, []).append((place, group))
    spread = [
        ((number + 0.5) / len(members), place, group)
        for members in strata.values()
        for number, (place, group) in enumerate(sorted(members))
    ]
    return [group for _, _, group in sorted(spread)]


def stratum_labels(rows: Rows) -> Array | None:
    """The class of each row: the only array of labels, if it holds one whole number or word."""
    arrays: Sequence[Array] = list(rows.labels.values())
    if len(arrays) == 1 and arrays[0].ndim == 1 and arrays[0].dtype.kind in "iubUS":
        return arrays[0]
    return None
