"""Small files of the kernel, read as numbers, with a reason in words where they cannot be."""

from __future__ import annotations

from pathlib import Path

from repo_builder.base.energy.types import CannotRead


def number(path: Path) -> int:
    """The whole number in a file. CannotRead where there is none, or it may not be read."""
    said = text(path)
    try:
        return int(said)
    except ValueError:
        raise CannotRead(f"{path}: not a number: '{said[:40]}'") from None


def text(path: Path) -> str:
    """A file's text, stripped. CannotRead where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except PermissionError:
        raise CannotRead(
            f"{path}: permission denied; make it readable (chmod a+r), as root"
        ) from None
    except OSError as failure:
        why = (failure.strerror or "cannot be read").lower()
        raise CannotRead(f"{path}: {why}") from None


def text_or(path: Path, otherwise: str) -> str:
    """As `text`, or `otherwise` where there is no such file."""
    return text(path) if path.is_file() else otherwise


def natural(path: Path) -> tuple[str | int, ...]:
    """A key that sorts `hwmon10` behind `hwmon2`."""
    name = path.name
    digits = len(name) - len(name.rstrip("0123456789"))
    return (name[: len(name) - digits], int(name[-digits:]) if digits else -1)
