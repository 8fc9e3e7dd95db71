"""System shared memory with a server on the same host: a pool of regions, and who may use them.

A region belongs to one server and, while leased, to one call. A region whose call did not come back
may still be read or written by the server: it is retired, never lent again. The server does not
forget a region that it uses, so it is asked again later.

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
from collections.abc import Callable
from dataclasses import dataclass, replace
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
from repo_builder.client.rules.effects import Effects, Send, Sleep
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
# After how many seconds a server that still used a region is asked again to forget it, and how long
# a client that is closed waits for that.
_AGAIN_S = 1.0
_CLOSE_S = 2.0


@dataclass(frozen=True)
class _Retired:
    """A region that a server is to forget, from `due` on; `endpoint` None: whichever has it.

    `used`: the server has refused, and holds its memory still.
    """

    name: str
    endpoint: Endpoint | None
    size: int
    due: float = 0.0
    used: bool = False


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

    def __init__(self, options: SharedMemory, metrics: Metrics, clock: Callable[[], float]) -> None:
        self._options, self._metrics, self._clock = options, metrics, clock
        self._lock = threading.Lock()
        self._free: dict[Endpoint, list[Region]] = {}
        self._bytes = 0
        self._failures: dict[Endpoint, int] = {}
        self._retired: list[_Retired] = []
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
            try:
                outputs = decode_outputs(model.name, response, into)
                for output in response.outputs:
                    if output.name in into:
                        view = region.view(
                            into[output.name][1], DTYPES[output.datatype], tuple(output.shape)
                        )
                        outputs[output.name] = view.copy()
            finally:
                self._release(endpoint, region)
            self._failures.pop(endpoint, None)
            record_output_sizes(batch, outputs)
            return with_row_axis(model.name, outputs, batch.signature.rows), response.model_version

        def discard(running: bool) -> None:
            if running:
                self._retire(endpoint, region)
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
                    self._drop(endpoint, region)
        end = self._clock() + _CLOSE_S
        while True:
            for holder in {one.endpoint for one in self._retired if one.endpoint}:
                yield from self._unregister(holder, every=True)
            if self._clock() >= end or not any(one.endpoint for one in self._retired):
                return
            yield Sleep(0.05)

    def _lease(self, endpoint: Endpoint, size: int, timeout: float) -> Effects[Region | None]:
        self._sweep()
        if self._retired:
            yield from self._unregister(endpoint)
        with self._lock:
            room = self._options.max_bytes - sum(one.size for one in self._retired if one.used)
            free = self._free.setdefault(endpoint, [])
            fitting = [one for one in free if one.size >= size]
            region = min(fitting, key=lambda one: one.size, default=None)
            if region is not None:
                free.remove(region)
            else:
                # Powers of two, so that calls of similar size share regions.
                rounded = 1 << (size - 1).bit_length()
                while free and self._bytes + rounded > room:
                    self._drop(endpoint, free.pop(0))
                if self._bytes + rounded > room:
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
                self._retire(endpoint, region)
                raise
            if isinstance(said, Failure) and "already" not in said.details:
                self._retire(endpoint, region)
                if said.kind not in ("unreachable", "broken", "late"):
                    self._failures[endpoint] = self._failures.get(endpoint, 0) + 1
                return None
            region.registered = True
        return region

    def _release(self, endpoint: Endpoint, region: Region) -> None:
        with self._lock:
            self._free.setdefault(endpoint, []).append(region)

    def _retire(self, endpoint: Endpoint, region: Region) -> None:
        with self._lock:
            self._drop(endpoint, region)

    def _drop(self, endpoint: Endpoint, region: Region) -> None:
        self._bytes -= region.size
        if region.registered:
            self._retired.append(_Retired(region.name, endpoint, region.size))
        region.remove()

    def _unregister(self, endpoint: Endpoint, *, every: bool = False) -> Effects[None]:
        """Have the server forget what is due, or `every` region; what it still uses is kept."""
        now = self._clock()
        with self._lock:
            due = [
                one
                for one in self._retired
                if one.endpoint in (None, endpoint) and (every or one.due <= now)
            ]
            self._retired = [one for one in self._retired if one not in due]
        for one in due:
            body = service_pb2.SystemSharedMemoryUnregisterRequest(name=one.name)
            said = yield Send(
                endpoint, "SystemSharedMemoryUnregister", body.SerializeToString(), 0.5
            )
            # A server that is gone holds nothing.
            if isinstance(said, Failure) and said.kind != "unreachable" and one.endpoint:
                again = replace(one, due=self._clock() + _AGAIN_S, used=True)
                with self._lock:
                    self._retired.append(again)

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
                self._retired.append(_Retired(path.name, None, 0))
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
