"""Worker processes that may die: an executor whose tasks crash, or are killed, one by one.

The standard library's process pool fails every task when one worker dies. Here each task holds a
worker of its own; one that dies fails its own task, and the next task gets a new worker.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

_SPAWN = multiprocessing.get_context("spawn")


class WorkerDied(Exception):
    """A worker ended without an answer; `exitcode` is -N where signal N did it."""

    def __init__(self, exitcode: int) -> None:
        super().__init__(exitcode)
        self.exitcode = exitcode

    def __str__(self) -> str:
        if self.exitcode == -signal.SIGKILL:
            return "was killed, most likely for lack of memory"
        if self.exitcode < 0:
            return f"crashed ({signal.strsignal(-self.exitcode)})"
        return f"ended its process (exit code {self.exitcode})"


class StepProcesses(Executor):
    """Runs each task in one of at most `jobs` processes; a context that an error leaves kills them.

    Workers are kept for further tasks, since importing a model runtime takes long. They do not see
    Ctrl-C (the parent decides), and end with their parent, however that ends; so do the tools that
    they run. Their stdout goes nowhere: it belongs to the parent's result.
    """

    def __init__(self, jobs: int) -> None:
        self._threads = ThreadPoolExecutor(jobs, "step", _without_interrupt)
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._stopped = False
        self._lock = threading.Lock()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `concurrent.futures.Executor.submit`; WorkerDied where the process dies."""
        return self._threads.submit(self._run, fn, args, kwargs)

    def __exit__(self, kind: object, *_: object) -> None:
        self.shutdown(cancel_futures=kind is not None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `concurrent.futures.Executor.shutdown`; with `cancel_futures`, running tasks die."""
        if cancel_futures:
            self._kill()
        self._threads.shutdown(wait, cancel_futures=cancel_futures)
        if wait:
            self._kill()  # idle by now

    def _run(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        worker = self._worker()
        try:
            answered, value = worker.call(fn, args, kwargs)
        except (EOFError, OSError):  # OSError: it died in the middle of its answer
            with self._lock:
                self._workers.discard(worker)
                raise WorkerDied(worker.end()) from None
        with self._lock:
            self._idle.append(worker)
        if not answered:
            raise value
        return value

    def _worker(self) -> _Worker:
        with self._lock:
            if self._stopped:
                raise WorkerDied(-signal.SIGKILL)
            if self._idle:
                return self._idle.pop()
            worker = _Worker()
            self._workers.add(worker)
            return worker

    def _kill(self) -> None:
        with self._lock:
            self._stopped = True
            for worker in self._workers:
                worker.end(patience=0)


class _Worker:
    """A process that answers one call after the other."""

    def __init__(self) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs,), name="step")
        self._process.start()
        theirs.close()

    def call(self, fn: Callable[..., Any], args: Any, kwargs: Any) -> tuple[bool, Any]:
        """(True, what `fn` returned) or (False, what it raised); EOFError where it died."""
        self._pipe.send((fn, args, kwargs))
        wait([self._pipe, self._process.sentinel])
        answer: tuple[bool, Any] = self._pipe.recv()
        return answer

    def end(self, patience: float = 1.0) -> int:
        """The exit code of the process, which has so many seconds to end by itself.

        The tools that it ran end with it.
        """
        self._process.join(patience)
        if self._process.pid:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()  # had it no group of its own yet
        self._process.join()
        return self._process.exitcode or 0


def _without_interrupt() -> None:
    """Block Ctrl-C in a thread, and so in the processes that it starts."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})


def _serve(pipe: Connection) -> None:
    """The life of a worker."""
    os.setpgid(0, 0)
    # As Python does by itself: else a lock that a tool makes (tqdm's, which torch imports) is told
    # as leaked when this process is killed.
    multiprocessing.set_start_method("fork", force=True)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    with contextlib.suppress(OSError):  # where memory runs out, this process goes, not the build
        Path("/proc/self/oom_score_adj").write_text("500")
    while True:
        try:
            fn, args, kwargs = pipe.recv()
        except EOFError:
            return
        answer: tuple[bool, Any]
        try:
            answer = True, fn(*args, **kwargs)
        except Exception as failure:  # noqa: BLE001 - raised again in the parent
            answer = False, failure
        pipe.send(answer)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os.killpg(0, signal.SIGKILL)
