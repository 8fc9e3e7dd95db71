"""Devices a model can be built for: one data file each in `catalog/`, read into a frozen `Target`.

`loader.load` reads them, with the user's own; `rules` says which cannot be. A target says what is
true of the device, with its source; it never compiles anything. Which device fits a need is
answered by `advise/`, how its power is set by `power_tuning`, its page for readers by `page`. How a
model is compiled for a device belongs to `plan/recipes.py` and `steps/`.
"""

from __future__ import annotations

from repo_builder.targets.loader import load, pick
from repo_builder.targets.types import Precision, Runtime, Target

__all__ = ["Precision", "Runtime", "Target", "load", "pick"]
