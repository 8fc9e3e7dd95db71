"""A version that devices have, as a registry of releases knows it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}:\d+\.\d+\.\d+")
"""NAME:VERSION."""


@dataclass(frozen=True)
class Released:
    """What NAME:VERSION of the registry in a folder serves on a target."""

    id: str
    registry: Path
    target: str
