"""Runs a genuine Triton over a model repository, as a child that never outlives its parent."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType

from repo_builder.base import http_request
from repo_builder.base.errors import Problem, ServeError, UsageError, did_you_mean
from repo_builder.serve import install, stubs, view
from repo_builder.serve.log import LogReader, event, failures, no_stub

# Becomes Triton. Before that it asks the kernel to kill it when its parent goes, however that goes
# (PR_SET_PDEATHSIG = 1, SIGKILL = 9). Triton's Python stubs watch for Triton's end themselves.
_LAUNCH = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
if os.getppid() == int(sys.argv[1]):
    os.execv(sys.argv[2], sys.argv[2:])
"""
_POLL_S = 0.05
_WATCH_S = 1.0
_STUBS_END_S = 5
_REGION = re.compile(r"/dev/shm/triton_\w+_shm_region_[\w-]+")  # noqa: S108


class Triton:
    """A Triton that serves a repository while its `with` block runs.

    `repository` is a folder of models, or one that holds them in `models/` (such as build/cpu).
    With `models`, Triton is in explicit control mode and loads only those names ("*": all).
    `config_name` picks `configs/<config_name>.pbtxt` where a model has it. A port of 0 becomes a
    free one. `drain_s` is how many seconds requests in flight get at the end. `extra` goes to
    Triton as it is. `on_event` is called with what Triton loads and its warnings and errors.
    `timeout_s` limits the start; without it, it lasts as long as Triton lives, because building an
    engine can take minutes.

    Triton dies with the thread that started it. ServeError is in Triton's own words where Triton
    failed; MissingExtra where there is no Triton.
    """

    def __init__(
        self,
        repository: str | os.PathLike[str],
        *,
        triton: Path | None = None,
        models: Sequence[str] | None = None,
        config_name: str = "",
        host: str = "127.0.0.1",
        http_port: int = 0,
        grpc_port: int = 0,
        metrics_port: int = 0,
        drain_s: int = 30,
        timeout_s: float | None = None,
        extra: Sequence[str] = (),
        on_event: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.models_dir = models_directory(Path(repository))
        self.models = models
        if models is not None:
            _check_names(models, self.models_dir)
        self._install = install.find(triton)
        self._host = host
        wanted = {"http": http_port, "grpc": grpc_port, "metrics": metrics_port}
        self._ports = _claim_ports(host, wanted)
        self._config_name = config_name
        self._drain_s = drain_s
        self._timeout_s = timeout_s
        self._extra = list(extra)
        if self._is_off("http"):
            raise UsageError("--allow-http cannot be off: it tells when Triton's models are ready")
        self._on_event = on_event
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def grpc_url(self) -> str:
        """`host:port`, as tritonclient.grpc takes it."""
        return self._url("grpc")

    @property
    def http_url(self) -> str:
        """`host:port`, as tritonclient.http takes it."""
        return self._url("http")

    @property
    def metrics_url(self) -> str:
        """The address of the Prometheus metrics."""
        return f"http://{self._url('metrics')}/metrics"

    def _url(self, which: str) -> str:
        # A server that listens on every address is reached on loopback.
        reach = "127.0.0.1" if self._host == "0.0.0.0" else self._host  # noqa: S104
        return f"{reach}:{self._ports[which]}"

    def __enter__(self) -> Triton:
        """Start Triton and wait until every model is ready and has answered its warmup."""
        self._folder = Path(tempfile.mkdtemp(prefix="repo-builder-triton-"))
        self.log = self._folder / "triton.log"
        self._keep_log = False
        try:
            self._install.prepare_backends(self._folder / "backends")
            self._shown = view.of(self.models_dir, self._folder / "models")
            self.log.touch()
            self._reader = LogReader(self.log)
            self._start()
            self._wait_ready()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Drain and stop; kill at once where that is interrupted."""
        try:
            self.stop()
        finally:
            self.kill()

    def _start(self) -> None:
        command = [
            str(self._install.binary),
            f"--model-repository={self._shown}",
            f"--backend-directory={self._folder / 'backends'}",
            "--disable-auto-complete-config",
            f"--exit-timeout-secs={self._drain_s}",
            *(f"--{name}-address={self._host}" for name in self._ports),
            *(f"--{name}-port={port}" for name, port in self._ports.items()),
        ]
        if "--trace-config" not in " ".join(self._extra):
            # Off until a client asks, but a client cannot name the file.
            file = f"--trace-config=triton,file={self._folder / 'trace.json'}"
            command += ["--trace-config=mode=triton", file, "--trace-config=level=OFF"]
        if self._config_name:
            command.append(f"--model-config-name={self._config_name}")
        if self.models is not None:
            command.append("--model-control-mode=explicit")
            command += [f"--load-model={name}" for name in self.models]
        launch = [sys.executable, "-I", "-S", "-c", _LAUNCH, str(os.getpid())]
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*launch, *command, *self._extra],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # The stub puts its working directory first on sys.path: it must hold no modules.
                cwd=self._folder,
                env={**os.environ, **self._install.environment()},
                # Ctrl-C at a terminal reaches its whole process group; Triton gets it from us.
                start_new_session=True,
            )
        self._stubs = stubs.Stubs(self._process.pid)

    def _wait_ready(self) -> None:
        deadline = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        while not self._ready():
            self._check_alive("did not start")
            if any(no_stub(line) for line in self._report_events()):
                raise self._failure("Triton could not start the Python stub of a backend")
            if deadline is not None and time.monotonic() > deadline:
                raise self._failure(f"Triton was not ready after {self._timeout_s:.0f} s")
            time.sleep(_POLL_S)
        self._report_events()
        self._stubs.dead()  # remembers those that live

    def _ready(self) -> bool:
        """Whether the server and every model that it loads is ready; raises where one failed."""
        index = self._ask("POST", "/v2/repository/index")
        models = json.loads(index) if index else []
        failed = [m for m in models if m.get("state") == "UNAVAILABLE"]
        if failed:
            self._keep_log = True
            problems = [Problem(f"{m['name']}: {m.get('reason', 'unavailable')}") for m in failed]
            raise ServeError(f"Triton could not load its models; its log: {self.log}", problems)
        # A model that was not asked for (explicit mode) has no state.
        all_ready = all(m.get("state", "READY") == "READY" for m in models)
        return (
            index is not None
            and all_ready
            # Not /v2/health/ready: that is false while any version loads or drains.
            and self._ask("GET", "/v2/health/live") is not None
            # Metrics are the last of its services to start.
            and (self._is_off("metrics") or self._ask("GET", "/metrics", "metrics") is not None)
        )

    def _is_off(self, service: str) -> bool:
        """Whether Triton is told not to listen for `service`."""
        off = rf"--allow-{service}[= ](false|off|0)\b"
        return re.search(off, " ".join(self._extra), re.IGNORECASE) is not None

    def _is_explicit(self) -> bool:
        """Whether Triton loads and unloads what it is asked to."""
        asked = re.search(r"--model-control-mode[= ]explicit\b", " ".join(self._extra))
        return self.models is not None or asked is not None

    def _ask(self, method: str, path: str, service: str = "http") -> bytes | None:
        """The body of a 200 answer, or None; raises where Triton forbids the question."""
        try:
            status, body = http_request.send(self._url(service), method, path, timeout_s=5)
        except (OSError, http.client.HTTPException):
            return None
        if status in (http.client.UNAUTHORIZED, http.client.FORBIDDEN):
            self._keep_log = True
            raise ServeError(
                f"Triton forbids {path}, which tells when its models are ready: leave health "
                f"and model-repository out of --http-restricted-api; its log: {self.log}"
            )
        return body if status == http.client.OK else None

    def _report_events(self) -> list[str]:
        """Report what the new lines of the log say; returns these lines."""
        lines = self._reader.new_lines()
        for text in filter(None, map(event, lines)):
            self._on_event(text)
        return lines

    @property
    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServeError("Triton is not running: use it in a with block")
        return self._process

    @property
    def pid(self) -> int:
        """The process id of Triton."""
        return self._running.pid

    def _check_alive(self, what: str) -> None:
        if (code := self._running.poll()) is not None:
            raise self._failure(f"Triton {what} (exit code {code})")

    def _failure(self, what: str) -> ServeError:
        self._keep_log = True
        reasons = failures(self.log.read_text(errors="replace"))
        return ServeError(f"{what}; its log: {self.log}", [Problem(reason) for reason in reasons])

    def wait(self) -> None:
        """Block while Triton serves; raises ServeError when it ends by itself.

        A model whose Python process died is loaded again; where Triton does not take loads (it is
        not in explicit mode), Triton is started again.
        """
        looked = time.monotonic()
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running.wait(timeout=0.2)
            self._report_events()
            self._check_alive("ended")
            if time.monotonic() - looked >= _WATCH_S:
                dead = self._stubs.dead()
                if dead:
                    self._revive(dead)
                looked = time.monotonic()

    def _revive(self, models: Sequence[str]) -> None:
        """Bring back models that lost a process."""
        names = ", ".join(f"'{name}'" for name in models)
        died = f"a process of {names} was killed or crashed"
        if self._is_explicit() and all(models):
            self._on_event(f"{died}; loading again")
            for name in models:
                try:
                    stubs.reload(self.http_url, name)
                except ServeError as failure:
                    self._on_event(f"'{name}' is not served any more: {failure}")
            self._stubs.dead()  # remembers the new ones
            return
        self._on_event(f"{died}; starting Triton again")
        self.stop()
        _kill_group(self._running.pid)
        self._running.wait()
        self._start()
        self._wait_ready()

    def stop(self) -> None:
        """Let requests in flight end (at most `drain_s`), then end Triton and its stubs."""
        if self._running.poll() is None:
            self._running.send_signal(signal.SIGINT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._running.wait(timeout=self._drain_s + _STUBS_END_S)

    def kill(self) -> None:
        """End Triton at once, and leave nothing of it behind but the log of a failure."""
        if (process := self._process) is not None:
            _kill_group(process.pid)
            process.wait()
        shutil.rmtree(self._folder / "backends" if self._keep_log else self._folder)


def models_directory(path: Path) -> Path:
    """The folder of models at `path`: its `models/` where it has one, else itself.

    Raises ServeError where that is no folder or holds no model (a folder with a config.pbtxt).
    """
    if not path.is_dir():
        raise ServeError(f"{path}: no such folder; build it first: repo-builder build")
    folder = path / "models" if (path / "models").is_dir() else path
    if not any(folder.glob("*/config.pbtxt")):
        raise ServeError(
            f"{path}: no models in it (folders with a config.pbtxt, here or in models/); "
            "give a folder that repo-builder build wrote, such as build/cpu"
        )
    return folder.absolute()


def _check_names(names: Sequence[str], models_dir: Path) -> None:
    known = [path.parent.name for path in models_dir.glob("*/config.pbtxt")]
    unknown = [name for name in names if name != "*" and name not in known]
    if unknown:
        raise ServeError(
            f"{models_dir}: no such model",
            [Problem(name, fix=did_you_mean(name, known)) for name in unknown],
        )


def _claim_ports(host: str, wanted: dict[str, int]) -> dict[str, int]:
    """`wanted` with a free port for each 0; raises ServeError where one of them is taken."""
    with contextlib.ExitStack() as held:
        ports = {}
        for name, port in wanted.items():
            claim = held.enter_context(socket.socket())
            claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                claim.bind((host, port))
            except OSError as error:
                raise ServeError(
                    f"cannot listen on {host}:{port} for {name}: {error.strerror}; "
                    f"choose another with --{name}-port (0 takes a free one)"
                ) from None
            ports[name] = claim.getsockname()[1]
        return ports


def _kill_group(group: int) -> None:
    """Kill Triton and its stubs, and unlink the shared memory between them, which only they would.

    Does nothing where they have ended.
    """
    members = [path.parent for path in Path("/proc").glob("[0-9]*/stat") if _group(path) == group]
    regions = {region for member in members for region in _REGION.findall(_text(member / "maps"))}
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
    for region in regions:
        Path(region).unlink(missing_ok=True)


def _group(stat: Path) -> int:
    """The process group in /proc/<pid>/stat: the third field after the name in parentheses."""
    fields = _text(stat).rpartition(")")[2].split()
    return int(fields[2]) if fields else 0


def _text(file: Path) -> str:
    """The content of a file of /proc; '' where its process has ended."""
    try:
        return file.read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return ""
