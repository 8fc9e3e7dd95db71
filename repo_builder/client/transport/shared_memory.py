"""System shared memory with a server on the same host: a pool of regions, and who may use them.

A region belongs to one server and, while leased, to one call. A region whose call did not come back
may still be read or written by the server: it is retired, never lent again.

Crashes: every region is a file in /dev/shm under an exclusive lock that the kernel drops with its
owner, whatever becomes of that. Whoever opens a pool next removes the files that nobody holds, and
has the server forget them.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import secrets
import threading
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient.grpc import service_pb2

from repo_builder.client.metrics import Metrics
from repo_builder.client.models.model import Model
from repo_builder.client.models.tensors import DTYPES, Batch
from repo_builder.client.options import SharedMemory, is_local
from repo_builder.client.rules.attempts import PreparedRequest
from repo_builder.client.rules.effects import Effects, Send
from repo_builder.client.rules.failure import Failure
from repo_builder.client.rules.routing import Endpoint
from repo_builder.client.transport.wire import (
    RegionSlice,
    decode_outputs,
    infer_request,
    with_row_axis,
)

Array = npt.NDArray[Any]

_FOLDER = Path("/dev/shm")  # noqa: S108 - where shm_open keeps its objects on Linux
_PREFIX = "repo-builder-"
_ALIGN = 64
# After this many failures in a row that shared memory has to do with, a server gets none any more:
# it runs in another container, or does not allow it.
_MAX_FAILURES = 3


class Region:
    """One mapped file."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.name = f"{_PREFIX}{os.getpid()}-{secrets.token_hex(8)}"
        self.registered = False
        self._file = os.open(_FOLDER / self.name, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX)
            # Reserved at once: a full /dev/shm is an error here, not a SIGBUS when it is written.
            os.posix_fallocate(self._file, 0, size)
            self.memory = mmap.mmap(self._file, size)
        except BaseException:
            self.remove()
            raise

    def view(self, offset: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Array:
        """The array at `offset`, in place."""
        return np.ndarray(shape, dtype, self.memory, offset)

    def remove(self) -> None:
        """Take it out of the file system; the memory goes when the server has let go of it too."""
        (_FOLDER / self.name).unlink(missing_ok=True)
        os.close(self._file)


class RegionPool:
    """The regions of one client."""

    def __init__(self, options: SharedMemory, metrics: Metrics) -> None:
        self._options, self._metrics = options, metrics
        self._lock = threading.Lock()
        self._free: dict[Endpoint, list[Region]] = {}
        self._bytes = 0
        self._failures: dict[Endpoint, int] = {}
        self._to_unregister: list[str] = []
        self._swept = False

    def accepts(self, endpoint: Endpoint, batch: Batch) -> bool:
        """Whether this call should go through shared memory."""
        if not self._options.enabled or batch.nbytes < self._options.minimum:
            return False
        if not is_local(endpoint.address) or self._failures.get(endpoint, 0) >= _MAX_FAILURES:
            return False
        return all(tensor.datatype not in ("BYTES", "BF16") for tensor in batch.signature.tensors)

    def prepare(
        self, endpoint: Endpoint, model: Model, version: str, batch: Batch, timeout: float
    ) -> Effects[PreparedRequest | None]:
        """The call through a region, made ready; None where there is none to be had."""
        known = batch.signature.outputs
        big = {k: v for k, v in known.items() if v >= self._options.minimum}
        sizes = [array.nbytes for array in batch.arrays] + list(big.values())
        offsets, end = [], 0
        for size in sizes:
            offsets.append(end)
            end += -(-size // _ALIGN) * _ALIGN
        region = yield from self._lease(endpoint, end, timeout)
        if region is None:
            return None
        slices: list[RegionSlice] = []
        for array, offset, size in zip(batch.arrays, offsets, sizes, strict=False):
            region.view(offset, array.dtype, array.shape)[...] = array
            slices.append((region.name, offset, size))
        into: dict[str, RegionSlice] = {}
        for (name, size), offset in zip(big.items(), offsets[len(slices) :], strict=False):
            into[name] = (region.name, offset, size)
        wanted = tuple((name, into.get(name)) for name in known) if into else ()
        self._metrics.count("shared_memory_bytes_total", (), sum(sizes))

        def parse(response: Any) -> tuple[dict[str, Array], str]:
            outputs = decode_outputs(response, into)
            for output in response.outputs:
                if output.name in into:
                    shape, dtype = tuple(output.shape), DTYPES[output.datatype]
                    outputs[output.name] = region.view(into[output.name][1], dtype, shape).copy()
            self._failures.pop(endpoint, None)
            self._release(endpoint, region)
            record_output_sizes(batch, outputs)
            return with_row_axis(model.name, outputs, batch.signature.rows), response.model_version

        def discard(running: bool) -> None:
            if running:
                self._retire(region)
            else:
                self._release(endpoint, region)

        def outdated(failure: Failure) -> bool:
            # The server was restarted and has forgotten the region, or an output has grown.
            if "shared memory" not in failure.details:
                return False
            region.registered = False
            known.clear()
            self._failures[endpoint] = self._failures.get(endpoint, 0) + 1
            return True

        body = infer_request(model.name, version, batch, timeout, tuple(slices), wanted)
        return PreparedRequest("ModelInfer", body, parse, discard, outdated)

    def close(self) -> Effects[None]:
        """Have the servers forget all regions, and remove them."""
        with self._lock:
            free, self._free = self._free, {}
        for endpoint, regions in free.items():
            for region in regions:
                self._retire(region)
            yield from self._unregister(endpoint)

    def _lease(self, endpoint: Endpoint, size: int, timeout: float) -> Effects[Region | None]:
        self._sweep()
        if self._to_unregister:
            yield from self._unregister(endpoint)
        with self._lock:
            free = self._free.setdefault(endpoint, [])
            fitting = [one for one in free if one.size >= size]
            region = min(fitting, key=lambda one: one.size, default=None)
            if region is not None:
                free.remove(region)
            else:
                # Powers of two, so that calls of similar size share regions.
                rounded = 1 << (size - 1).bit_length()
                while free and self._bytes + rounded > self._options.max_bytes:
                    self._drop(free.pop(0))
                if self._bytes + rounded > self._options.max_bytes:
                    return None
                try:
                    region = Region(rounded)
                except OSError:
                    self._failures[endpoint] = self._failures.get(endpoint, 0) + 1
                    return None
                self._bytes += rounded
        if not region.registered:
            body = service_pb2.SystemSharedMemoryRegisterRequest(
                name=region.name, key=f"/{region.name}", byte_size=region.size
            ).SerializeToString()
            try:
                said = yield Send(endpoint, "SystemSharedMemoryRegister", body, timeout)
            except BaseException:
                self._retire(region)
                raise
            if isinstance(said, Failure) and "already" not in said.details:
                self._retire(region)
                if said.kind not in ("unreachable", "broken", "late"):
                    self._failures[endpoint] = self._failures.get(endpoint, 0) + 1
                return None
            region.registered = True
        return region

    def _release(self, endpoint: Endpoint, region: Region) -> None:
        with self._lock:
            self._free.setdefault(endpoint, []).append(region)

    def _retire(self, region: Region) -> None:
        with self._lock:
            self._drop(region)

    def _drop(self, region: Region) -> None:
        self._bytes -= region.size
        if region.registered:
            self._to_unregister.append(region.name)
        region.remove()

    def _unregister(self, endpoint: Endpoint) -> Effects[None]:
        with self._lock:
            names, self._to_unregister = self._to_unregister, []
        for name in names:
            body = service_pb2.SystemSharedMemoryUnregisterRequest(name=name).SerializeToString()
            # A region in use is refused, and goes with the server.
            yield Send(endpoint, "SystemSharedMemoryUnregister", body, 0.5)

    def _sweep(self) -> None:
        """Remove what dead owners left behind, once."""
        if self._swept:
            return
        self._swept = True
        for path in _FOLDER.glob(f"{_PREFIX}*"):
            try:
                file = os.open(path, os.O_RDWR)
            except OSError:
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink(missing_ok=True)
                self._to_unregister.append(path.name)
            except OSError:
                continue
            finally:
                os.close(file)


def record_output_sizes(batch: Batch, outputs: dict[str, Array]) -> None:
    """Remember how large the outputs of such a call are, to have them in shared memory too."""
    known = batch.signature.outputs
    if not known:
        known.update({k: v.nbytes for k, v in outputs.items() if v.dtype != object})
        if len(known) < len(outputs):
            known.clear()
