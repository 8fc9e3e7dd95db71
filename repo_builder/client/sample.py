"""A sample that the collector keeps."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy.typing as npt

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Sample:
    """One row, with its answer. `reason`: `unsure`, or `audit` for one taken by chance, at the rate
    `share`; only the audited are a fair sample of what the model meets. `time` is in seconds since
    1970 by the device's clock, which may be wrong; `sequence` in the file's name is the order."""

    model: str
    version: str
    source: str
    reason: Literal["unsure", "audit"]
    confidence: float | None
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    share: float = 1.0
    time: float = field(default_factory=time.time)
