"""A way to serve a model on a CPU: what `tune` tries, and what a `tuning.yaml` records.

Only the standard library: tuning runs with the bare install.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from repo_builder.base.digest import Json

Runtime = Literal["onnxruntime", "openvino"]
RUNTIMES: tuple[Runtime, ...] = ("onnxruntime", "openvino")


@dataclass(frozen=True)
class Candidate:
    """`instances` of a model with `threads` each, in one runtime.

    `delay_us` None: requests are not joined into batches; else the dynamic batcher waits that many
    microseconds for more, up to `max_batch` rows (0 or 1: none). `shared_memory`: clients on the
    same machine hand tensors over in shared memory.
    """

    runtime: Runtime
    instances: int
    threads: int
    max_batch: int = 0
    delay_us: int | None = None
    shared_memory: bool = False

    @property
    def batches(self) -> bool:
        """Whether requests are joined into batches."""
        return self.delay_us is not None and self.max_batch > 1

    @property
    def cores(self) -> int:
        """The cores that it can keep busy."""
        return self.instances * self.threads

    @property
    def label(self) -> str:
        """The same name for the same candidate, always: `onnxruntime-2x1-b16-d100-shm`."""
        parts = [f"{self.runtime}-{self.instances}x{self.threads}"]
        if self.max_batch > 1:
            parts.append(f"b{self.max_batch}")
        if self.delay_us is not None:
            parts.append(f"d{self.delay_us}")
        if self.shared_memory:
            parts.append("shm")
        return "-".join(parts)

    def __str__(self) -> str:
        """In words: `ONNX Runtime, 2 instances x 1 thread, batches of up to 16 within 100 us`."""
        runtime = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}[self.runtime]
        instances = f"{self.instances} instance{'s' * (self.instances > 1)}"
        parts = [runtime, f"{instances} x {self.threads} thread{'s' * (self.threads > 1)}"]
        if self.batches:
            parts.append(f"batches of up to {self.max_batch} within {self.delay_us} us")
        if self.shared_memory:
            parts.append("shared memory")
        return ", ".join(parts)

    @property
    def order(self) -> tuple[int | str, ...]:
        """To sort by: simpler first. Of two that are equal the first one is kept.

        No batcher before one, the network before shared memory, fewer instances (each holds
        weights), fewer threads, shorter delays.
        """
        return (
            self.batches,
            self.shared_memory,
            self.instances,
            self.threads,
            -1 if self.delay_us is None else self.delay_us,
            self.max_batch,
            RUNTIMES.index(self.runtime),
        )

    def as_json(self) -> dict[str, Json]:
        """Plain JSON types; `of_json` reads them."""
        return asdict(self)

    @classmethod
    def of_json(cls, record: Mapping[str, object]) -> Candidate:
        """What `as_json` gave; TypeError or ValueError of anything else."""
        made = cls(**record)  # type: ignore[arg-type]
        if made.runtime not in RUNTIMES:
            raise ValueError(f"no runtime: {made.runtime}")
        return made
