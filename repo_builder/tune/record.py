"""What was measured, kept in the store, so that a tuning that was killed goes on where it was.

    tunings/<key>/<number>.json   an observation each, in the order in which they were made

The key is made of the model's bytes and config in each runtime, the machine, and Triton: figures of
another model or machine are never taken for these.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from repo_builder.base import digest, machine
from repo_builder.run.store import Store
from repo_builder.tune.rules.types import Observation

_FORMAT = 1


def machine_facts(cores: int) -> dict[str, Any]:
    """What figures depend on: the processor, its cores in use and there, its kind."""
    return {
        "cpu": machine.cpu_name(),
        "cores": cores,
        "all_cores": len(os.sched_getaffinity(0)),
        "architecture": machine.architecture(),
    }


class Record:
    """The observations of one model on one machine; `shaped_by` is all that they depend on."""

    def __init__(self, store: Store, shaped_by: Mapping[str, Any]) -> None:
        self._store = store
        self.key = digest.of_json([_FORMAT, dict(shaped_by)])
        self._folder: Path = store.root / "tunings" / self.key

    def read(self) -> list[Observation]:
        """What was measured before and is in no doubt, in its order; without what is damaged."""
        found = []
        for path in sorted(self._folder.glob("*.json")):
            raw = self._store.read_json(path)
            try:
                one = Observation.of_json(raw)
            except (TypeError, KeyError, ValueError, AttributeError):
                continue  # not whole, or of another format: measured again
            if not one.doubt:
                found.append(one)
        return found

    def add(self, one: Observation) -> None:
        """Keep an observation, after all others."""
        numbers = [int(path.stem) for path in self._folder.glob("*.json") if path.stem.isdigit()]
        number = max(numbers, default=0) + 1
        self._store.write_json(self._folder / f"{number:06}.json", one.as_json())

    def forget(self) -> None:
        """Drop all of them, to measure anew."""
        shutil.rmtree(self._folder, ignore_errors=True)
