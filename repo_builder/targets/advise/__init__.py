"""Choosing a device: what a model costs, how devices would do it, and which one fits a need.

`read` turns an ONNX file into a `Workload`; `rank` judges every device and power mode against a
`Need`. Estimates are a roofline (`roofline`) and are right within a factor of `BAND` on most
published figures (docs/roofline.md); they rank devices, they do not replace a measurement.
"""

from __future__ import annotations

from repo_builder.targets.advise.energy import battery_hours, yearly_cost
from repo_builder.targets.advise.rank import Candidate, Need, rank
from repo_builder.targets.advise.roofline import BAND, Machine
from repo_builder.targets.advise.workload import Workload, read

__all__ = [
    "BAND",
    "Candidate",
    "Machine",
    "Need",
    "Workload",
    "battery_hours",
    "rank",
    "read",
    "yearly_cost",
]
