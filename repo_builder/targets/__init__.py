"""Devices a model can be built for: one data file each in `catalog/`, read into a frozen `Target`.

A target says what is true of the device; it never compiles anything.
"""

from __future__ import annotations

from repo_builder.targets.loader import load, pick
from repo_builder.targets.types import Precision, Runtime, Target

__all__ = ["Precision", "Runtime", "Target", "load", "pick"]
