"""Unsure samples, kept on disk until an uploader takes them.

One file a sample, written whole to a temporary name, synced and renamed: after a crash a sample is
there or it is not. Files are named `<sequence>-<content digest>.npz`, so that names sort by age
and the same content is kept once. `numpy.load(file, allow_pickle=False)` reads one: the inputs as
`input:<name>`, the answer as `output:<name>`, and `about`, a JSON text.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import threading
from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.client.local.write_behind import WriteBehind
from repo_builder.client.metrics import Metrics
from repo_builder.client.options import Collector
from repo_builder.client.sample import Sample

Array = npt.NDArray[Any]
_KEEP_FREE = 64 * 1024 * 1024  # bytes of the disk that are never used up


class Spool:
    """Takes samples from calls and writes them behind their backs."""

    def __init__(self, options: Collector, metrics: Metrics) -> None:
        self._options, self._metrics = options, metrics
        self._writer = WriteBehind(self._write, lambda lost: self._count("lost", lost))
        self._lock = threading.Lock()
        self._sizes: dict[str, int] | None = None
        self._sequence = 0

    def wants(self, model: str) -> bool:
        """Whether samples of `model` may be kept at all."""
        return bool(self._options.consent(model))

    def audited(self) -> bool:
        """Throw the dice for one sure row."""
        return random.random() < self._options.audit  # noqa: S311

    @property
    def share(self) -> float:
        """The share of sure rows that is kept."""
        return self._options.audit

    def offer(self, sample: Sample) -> None:
        """Keep `sample`, after redaction, soon."""
        kept: Sample | None = sample
        if self._options.redact is not None:
            kept = self._options.redact(sample)
        if kept is None:
            self._count("redacted")
        elif not self._writer.put(kept):
            self._count("lost")

    def flush(self) -> None:
        """Wait until everything is on disk."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is queued."""
        self._writer.close()

    def _write(self, samples: list[Sample]) -> None:
        for number, sample in enumerate(samples):
            try:
                self._write_one(sample)
            except OSError:
                self._count("lost", len(samples) - number - 1)
                raise

    def _write_one(self, sample: Sample) -> None:
        sizes = self._known()
        digest = _digest(sample)
        if any(name.endswith(f"-{digest}.npz") for name in sizes):
            self._count("duplicate")
            return
        data = _packed(sample)
        folder = self._options.path
        free = os.statvfs(folder)
        if free.f_bavail * free.f_frsize < _KEEP_FREE + len(data):
            raise OSError(28, "the disk is nearly full", str(folder))
        if len(data) > self._options.max_bytes:
            self._count("lost")
            return
        for name in sorted(sizes):
            if sum(sizes.values()) + len(data) <= self._options.max_bytes:
                break
            (folder / name).unlink(missing_ok=True)
            del sizes[name]
            self._count("evicted")
        self._sequence += 1
        name = f"{self._sequence:016d}-{digest}.npz"
        temporary = folder / f".{os.getpid()}-{name}"
        try:
            with temporary.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            temporary.rename(folder / name)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
        sizes[name] = len(data)
        self._count("kept")

    def _known(self) -> dict[str, int]:
        """The samples on disk by name, with sizes; what an uploader took is gone from it."""
        folder = self._options.path
        if self._sizes is None:
            folder.mkdir(parents=True, exist_ok=True)
            for stale in folder.glob(".*.npz"):
                if not _alive(stale.name):
                    stale.unlink(missing_ok=True)
        self._sizes = {entry.name: entry.stat().st_size for entry in folder.glob("[0-9]*.npz")}
        numbers = [int(name.partition("-")[0]) for name in self._sizes]
        self._sequence = max([self._sequence, *numbers])
        return self._sizes

    def _count(self, result: str, amount: int = 1) -> None:
        if amount:
            self._metrics.count("collected_total", (("result", result),), amount)


def _alive(name: str) -> bool:
    """Whether the process that writes the temporary file `name` still runs."""
    pid = name[1:].partition("-")[0]
    try:
        os.kill(int(pid), 0)
    except (ProcessLookupError, ValueError):
        return False
    except PermissionError:
        return True
    return int(pid) != os.getpid()


def _digest(sample: Sample) -> str:
    digest = hashlib.blake2b(f"{sample.model} {sample.version}".encode(), digest_size=16)
    for name, array in sorted(sample.inputs.items()):
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        plain = array.dtype != object
        digest.update(array.tobytes() if plain else repr(array.tolist()).encode())
    return digest.hexdigest()


def _packed(sample: Sample) -> bytes:
    about = {
        "model": sample.model,
        "version": sample.version,
        "source": sample.source,
        "reason": sample.reason,
        "share": sample.share,
        "confidence": sample.confidence,
        "time": sample.time,
    }
    arrays: dict[str, Any] = {"about": np.array(json.dumps(about))}
    for kind, given in (("input", sample.inputs), ("output", sample.outputs)):
        for name, array in given.items():
            # Texts as fixed-width bytes: object arrays would be pickled.
            plain = array.astype(np.bytes_) if array.dtype == object else array
            arrays[f"{kind}:{name}"] = plain
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()
