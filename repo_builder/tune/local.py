"""A genuine Triton of our own that candidates are loaded into, on a scratch repository."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import TracebackType

from repo_builder import serve
from repo_builder.base import http_request
from repo_builder.base.errors import ServeError
from repo_builder.serve import stubs
from repo_builder.spec.candidate import Candidate
from repo_builder.tune import process
from repo_builder.tune.configured import configured
from repo_builder.tune.server import ASK_S, LOAD_S, START_S, Client, Counters, Servable

MOST_LOADED = 4
"""Candidates that stay loaded at a time; so turns of two need no loading in between."""

_LOOK_S = 0.02


class Local:
    """A genuine Triton of our own while its `with` block runs, on a scratch repository.

    Each candidate is a model there with a name of its own, made from the same files, so several can
    be loaded at a time. Triton keeps to `cores` where the machine has more.
    """

    def __init__(self, cores: int | None = None, triton: Path | None = None) -> None:
        self._cores = cores
        self._triton = triton

    def __enter__(self) -> Local:
        self._scratch = Path(tempfile.mkdtemp(prefix="repo-builder-tune-"))
        self._server: serve.Triton | None = None
        self._stubs: stubs.Stubs | None = None
        self._loaded: dict[str, int] = {}
        self._entered = contextlib.ExitStack()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        try:
            self._entered.close()
        finally:
            shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def _running(self) -> serve.Triton:
        if self._server is None:
            raise ServeError("Triton is not running: load something first")
        return self._server

    @property
    def url(self) -> str:
        """host:port of its gRPC."""
        return self._running.grpc_url

    @property
    def pid(self) -> int:
        """The process id of Triton, which is that of its process group."""
        return self._running.pid

    @property
    def version(self) -> str:
        """Triton's version."""
        return self._client.version()

    def load(self, model: Servable, candidate: Candidate) -> str:
        """Serve `model` so, if it is not yet; returns the name to ask for."""
        candidate = replace(candidate, shared_memory=False)  # which Triton needs not know
        name = f"{model.name}.{candidate.label}"
        if name in self._loaded:
            self._loaded[name] = self._loaded.pop(name)  # the last used
            return name
        self._write(model, candidate, name)
        if self._server is None:
            self._start()
        while len(self._loaded) >= MOST_LOADED:
            self._unload(next(iter(self._loaded)))
        before = process.memory_bytes(self.pid)
        try:
            self._post(f"/v2/repository/models/{name}/load", LOAD_S)
        except ServeError:
            self._post(f"/v2/repository/models/{name}/unload", ASK_S)
            raise
        self._loaded[name] = max(0, process.memory_bytes(self.pid) - before)
        if self._stubs is not None:
            self._stubs.dead()  # remembers those that live
        return name

    def _write(self, model: Servable, candidate: Candidate, name: str) -> None:
        """The candidate's folder in the repository: links to the files, and its config."""
        from google.protobuf import json_format, text_format
        from tritonclient.grpc import model_config_pb2

        folder = self._scratch / "models" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for path in model.folders[candidate.runtime].iterdir():
            if path.name not in ("config.pbtxt", "configs"):
                (folder / path.name).symlink_to(path.resolve())
        config = configured(model.configs[candidate.runtime], candidate, name)
        message = json_format.ParseDict(config, model_config_pb2.ModelConfig())
        (folder / "config.pbtxt").write_text(text_format.MessageToString(message))

    def _start(self) -> None:
        with _on(self._cores):
            self._server = self._entered.enter_context(
                serve.Triton(
                    self._scratch / "models",
                    triton=self._triton,
                    models=[],
                    drain_s=1,
                    timeout_s=START_S,
                )
            )
        self._stubs = stubs.Stubs(self.pid)
        self._client = Client(self.url)

    def _unload(self, name: str) -> None:
        del self._loaded[name]
        self._post(f"/v2/repository/models/{name}/unload", ASK_S)
        end = time.monotonic() + ASK_S
        while any(
            entry["name"] == name and entry.get("state") in ("READY", "UNLOADING")
            for entry in json.loads(self._post("/v2/repository/index", ASK_S))
        ):
            if time.monotonic() > end:
                raise ServeError(f"Triton did not unload '{name}' within {ASK_S:.0f} s")
            time.sleep(0.02)

    def _post(self, path: str, timeout_s: float) -> bytes:
        try:
            status, body = http_request.send(
                self._running.http_url, "POST", path, timeout_s=timeout_s
            )
        except (OSError, http.client.HTTPException) as failure:
            raise ServeError(f"Triton did not answer {path}: {failure}") from None
        if status != http.client.OK:
            said = body.decode(errors="replace")
            with contextlib.suppress(ValueError):
                said = json.loads(body)["error"]
            raise ServeError(" ".join(said.split()))
        return body

    def counters(self, name: str) -> Counters:
        """What was counted of `name`."""
        return self._client.counters(name)

    def cpu_seconds(self) -> float | None:
        """CPU time of Triton and the processes that run models."""
        return process.cpu_seconds(self.pid)

    def memory_bytes(self, name: str) -> int | None:
        """What Triton and its processes grew by when `name` was loaded and warmed up."""
        return self._loaded.get(name)

    def lost(self) -> str:
        """Whether Triton, or a process that runs a model for it, has died."""
        try:
            status, _ = http_request.send(
                self._running.http_url, "GET", "/v2/health/live", timeout_s=ASK_S
            )
        except (OSError, http.client.HTTPException):
            return "Triton has ended"
        if status != http.client.OK:
            return "Triton is not live"
        if self._stubs is not None:
            # A process is told dead at the second look: one that Triton ends is so for an instant.
            dead = self._stubs.dead()
            time.sleep(_LOOK_S)
            if dead := dead or self._stubs.dead():
                return f"a process of {' and '.join(dead) or 'a model'} has died"
        return ""

    def restore(self) -> None:
        """Start Triton anew, with nothing loaded."""
        self._entered.close()
        self._loaded.clear()
        self._server = None


@contextlib.contextmanager
def _on(cores: int | None) -> Iterator[None]:
    """What is started in here runs on so many of the machine's cores; None: on all."""
    before = os.sched_getaffinity(0)
    if cores is not None and cores < len(before):
        os.sched_setaffinity(0, sorted(before)[:cores])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
