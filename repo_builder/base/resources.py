"""Finds the files that ship beside the code: `templates/`, `dockerfiles/`,
`model_specs/` (the examples) and `compose/`.

In a checkout they lie at the top level, where they are edited; in a wheel, inside the package.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parents[1]


def folder(name: str) -> Path:
    """The folder called `name`, from the wheel or from the checkout."""
    shipped = _PACKAGE / "_data" / name
    return shipped if shipped.is_dir() else _PACKAGE.parent / name
