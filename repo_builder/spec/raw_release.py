"""The raw shape of `release`. As in `raw.py`, docstrings of fields are help texts."""

from __future__ import annotations

from repo_builder.spec.raw_base import Raw


class RawRelease(Raw):
    """How the new version is brought near the one that devices have."""

    near: str | None = None
    """The ONNX file that devices serve now, relative to this spec. Weights are rounded to its own
    plus a small number of steps, so that the delta takes a tenth of the file or so."""
