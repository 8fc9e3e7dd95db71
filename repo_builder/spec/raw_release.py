"""The raw shape of `release`. As in `raw.py`, docstrings of fields are help texts."""

from __future__ import annotations

from repo_builder.spec.raw_base import Raw


class RawRelease(Raw):
    """How the new version is brought near the one that devices have."""

    near: str | None = None
    """The ONNX file that devices serve now, relative to this spec, or NAME:VERSION of a release.
    Weights are rounded to its own plus a few steps, so that a delta takes a tenth of the file."""
    registry: str | None = None
    """The folder of the registry that has the release, relative to this spec."""
