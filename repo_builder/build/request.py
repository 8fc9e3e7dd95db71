"""What a build is asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True)
class Request:
    """What to build, from what, and where to.

    `measure_again`: latencies are measured once more, whatever the store has.
    """

    specs: tuple[Path, ...]
    out: Path
    store: Path
    only: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    targets_dir: Path | None = None
    jobs: int = 1
    keep_going: bool = True
    keep: int = 1
    multi_target: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    scheduler: str = ""
    measure_again: bool = False
