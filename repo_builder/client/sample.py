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
    """One row, with its answer. `sequence` in the name of its file is the order.

    model       its name
    version     that answered, "1.2.0"
    source      who answered, as in `Result.sources`
    reason      `unsure`, or `audit` for one taken by chance; only those are a fair sample of what
                the model meets
    confidence  how sure the edge was; None without a policy
    inputs      name -> array without the batch axis
    outputs     name -> array without the batch axis
    share       of samples that were taken as this one was; 1 for the unsure
    time        seconds since 1970 by the device's clock, which may be wrong
    """

    model: str
    version: str
    source: str
    reason: Literal["unsure", "audit"]
    confidence: float | None
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    share: float = 1.0
    time: float = field(default_factory=time.time)
