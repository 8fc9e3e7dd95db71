"""Data and labels that lie beside a model under names that tell what they are for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

KINDS = ("calibration", "evaluation", "confidence")
_LABELS = ("labels.txt", "classes.txt", "names.txt")


@dataclass(frozen=True)
class Beside:
    """The files of a model: of each kind the first that was found, None where there is none."""

    calibration: Path | None = None
    evaluation: Path | None = None
    confidence: Path | None = None
    labels: Path | None = None


def find(stem: str, folders: Sequence[Path]) -> Beside:
    """Files of the model with this file name (less its suffix) in `folders`, the first first.

    `NET-calibration.npz` wins over `NET/calibration.npz`, and that over `calibration.npz`, which
    may be another model's.
    """
    npz = {kind: _first(stem, folders, (f"{kind}.npz",)) for kind in KINDS}
    return Beside(**npz, labels=_first(stem, folders, _LABELS))


def _first(stem: str, folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    return next((path for path in _places(stem, folders, names) if path.is_file()), None)


def _places(stem: str, folders: Sequence[Path], names: Sequence[str]) -> Iterator[Path]:
    for folder in folders:
        for name in names:
            yield from (folder / f"{stem}{mark}{name}" for mark in "-_.")
        yield from (folder / stem / name for name in names)
    for folder in folders:
        yield from (folder / name for name in names)


def lines(file: Path) -> int | None:
    """How many labels a file has, one a line; None where it is no text."""
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    return len(text.splitlines())
