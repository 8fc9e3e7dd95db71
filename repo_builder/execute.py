"""Walks a plan over an executor: what the store has is taken from it, the rest runs in parallel.

Knows no step by name. A failure stops only what depends on it. The executor is any
`concurrent.futures.Executor`; `StepProcesses` runs steps in processes of this machine, so that a
step that crashes, or is killed for lack of memory, takes nothing else with it.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import importlib.metadata
import os
import re
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from repo_builder import digest, steps
from repo_builder.artifact import Entry
from repo_builder.errors import MissingExtra, RepoBuilderError, StepError, StoreError
from repo_builder.plan import Declaration, Made, Node, Plan, Source
from repo_builder.store import Damaged, Store


class Progress(Protocol):
    """Told what happens, as it happens."""

    def planned(self, plan: Plan) -> None:
        """The plan is made; nothing runs yet."""

    def started(self, node: Node) -> None:
        """A step was given to a worker."""

    def finished(self, node: Node, entry: Entry) -> None:
        """A step ended well."""

    def failed(self, node: Node, error: RepoBuilderError) -> None:
        """A step failed."""


@dataclass(frozen=True)
class Outcome:
    """What became of a plan: entries and errors by key; `ran` are the keys that were not cached."""

    entries: Mapping[str, Entry]
    errors: Mapping[str, RepoBuilderError]
    ran: frozenset[str]


def execute(
    plan: Plan,
    wanted: Sequence[str],
    store: Store,
    executor: Executor,
    declarations: Mapping[str, Declaration],
    progress: Progress,
    *,
    keep_going: bool = True,
) -> Outcome:
    """Make the entries of the keys `wanted`, and of whatever they need that the store lacks."""
    return _Walk(plan, store, executor, declarations, progress, keep_going).run(wanted)


class _Walk:
    def __init__(
        self,
        plan: Plan,
        store: Store,
        executor: Executor,
        declarations: Mapping[str, Declaration],
        progress: Progress,
        keep_going: bool,
    ) -> None:
        self.plan = plan
        self.store = store
        self.executor = executor
        self.declarations = declarations
        self.progress = progress
        self.keep_going = keep_going
        self.entries: dict[str, Entry] = {}
        self.errors: dict[str, RepoBuilderError] = {}
        self.ran: set[str] = set()
        self.waiting: dict[str, Node] = {}
        self.running: dict[Future[Entry], Node] = {}

    def run(self, wanted: Sequence[str]) -> Outcome:
        for key in wanted:
            self._need(key)
        while self.waiting or self.running:
            self._start_ready()
            if not self.running:
                break
            done, _ = concurrent.futures.wait(
                self.running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in done:
                self._finish(self.running.pop(future), future)
        return Outcome(self.entries, self.errors, frozenset(self.ran))

    def _need(self, key: str) -> None:
        """Take the entry from the store, or queue its node and see to the node's own inputs."""
        if key in self.entries or key in self.waiting or key in self.errors:
            return
        entry = self.store.get(key)
        if entry is not None:
            self.entries[key] = entry
            return
        node = self.plan.nodes[key]
        self.waiting[key] = node
        for value in node.inputs.values():
            if isinstance(value, Made):
                self._need(value.key)

    def _start_ready(self) -> None:
        for key, node in list(self.waiting.items()):
            made = [value.key for value in node.inputs.values() if isinstance(value, Made)]
            failed = [k for k in made if k in self.errors]
            if failed or (self.errors and not self.keep_going):
                del self.waiting[key]
                if failed:
                    self.errors[key] = self.errors[failed[0]]
                    self._start_ready()  # what depends on this one
                    return
            elif all(k in self.entries for k in made) and self._may_start(node):
                del self.waiting[key]
                inputs = {k: self.entries[k] for k in made}
                self.progress.started(node)
                future = self.executor.submit(
                    run_node, node, self.declarations[node.step], inputs, str(self.store.root)
                )
                self.running[future] = node

    def _may_start(self, node: Node) -> bool:
        """Steps that measure time run alone, after all others that can run."""
        running = [self.declarations[n.step].exclusive for n in self.running.values()]
        if not self.declarations[node.step].exclusive:
            return not any(running)
        others = [n for n in self.waiting.values() if not self.declarations[n.step].exclusive]
        return not running and not others

    def _finish(self, node: Node, future: Future[Entry]) -> None:
        try:
            entry = future.result()
        except Damaged as damaged:
            # An input was damaged in the store and has been dropped: make it again, then this.
            self.store.drop(damaged.key)
            self.entries.pop(damaged.key, None)
            self.waiting[node.key] = node
            self._need(damaged.key)
        except RepoBuilderError as failure:
            self._fail(node, failure)
        except Exception as failure:  # noqa: BLE001 - a worker that died, told as one line
            self._fail(node, _died(node, failure, self.store))
        else:
            self.entries[node.key] = entry
            self.ran.add(node.key)
            self.progress.finished(node, entry)

    def _fail(self, node: Node, failure: RepoBuilderError) -> None:
        self.errors[node.key] = failure
        self.progress.failed(node, failure)


def _died(node: Node, failure: Exception, store: Store) -> StepError:
    """What to say of a worker that ended without an answer."""
    log = store.log(node.key)
    code = getattr(failure, "exitcode", None)
    if code in (-signal.SIGKILL, 128 + signal.SIGKILL):
        what = "was killed, most likely for lack of memory; use fewer --jobs or smaller data"
    elif isinstance(code, int) and code < 0:
        what = f"crashed ({signal.Signals(-code).name}): the model or its tool is at fault"
    else:
        what = f"ended without an answer ({type(failure).__name__}: {failure})"
    return StepError(f"{node.step} {what}; log: {log}")


def run_node(node: Node, declaration: Declaration, inputs: Mapping[str, Entry], root: str) -> Entry:
    """Run one step in this process and put what it made into the store; called in a worker.

    `inputs` are the entries of the node's made inputs, by key. All that the step prints, from
    Python or native code, goes to its log.
    """
    store = Store(Path(root))
    for tool in declaration.tools:
        try:
            importlib.metadata.version(tool)
        except importlib.metadata.PackageNotFoundError:
            raise MissingExtra(declaration.extra, f"the step {node.step}") from None
    log = store.log(node.key)
    with store.workspace() as work, _output_to(log):
        try:
            return _run(node, inputs, store, work)
        except RepoBuilderError as failure:
            traceback.print_exc()
            raise _with_users_paths(failure, node) from None
        except MemoryError:
            traceback.print_exc()
            raise StepError(
                f"{node.step} ran out of memory; use fewer --jobs or smaller data; log: {log}"
            ) from None
        except Exception as failure:  # noqa: BLE001 - told as one line; the log has the rest
            traceback.print_exc()
            what = " ".join(f"{type(failure).__name__}: {failure}".split())[:300]
            raise StepError(f"{node.step} failed: {what}; log: {log}") from None


def _with_users_paths(failure: RepoBuilderError, node: Node) -> RepoBuilderError:
    """The same error with the user's paths in place of the names that files have in a step."""
    if type(failure).__init__ is not RepoBuilderError.__init__:
        return failure
    paths = {
        name: str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
        for value in node.inputs.values()
        if isinstance(value, Source)
        for name, (path, _) in value.files.items()
    }

    def said(text: str) -> str:
        return re.sub(r"[\w.-]+", lambda word: paths.get(word[0], word[0]), text)

    problems = [
        dataclasses.replace(p, what=said(p.what), fix=said(p.fix), file=said(p.file))
        for p in failure.problems
    ]
    return type(failure)(said(failure.message), problems)


def _run(node: Node, inputs: Mapping[str, Entry], store: Store, work: Path) -> Entry:
    from pydantic import TypeAdapter

    step = steps.load(node.step)
    folders: dict[str, Path | None] = {}
    for name, value in node.inputs.items():
        folder = work / "in" / name
        folder.mkdir(parents=True)
        if isinstance(value, Made):
            store.fetch(inputs[value.key], folder)
        else:
            _copy_source(value, folder)
        folders[name] = folder
    params = TypeAdapter(step.Params).validate_python(node.params)
    out = work / "out"
    out.mkdir()
    begun = time.perf_counter()
    facts = step.run(step.Inputs(**folders), params, out)
    seconds = time.perf_counter() - begun
    plain = TypeAdapter(step.Facts).dump_python(facts, mode="json")
    return store.put(node.key, node.recipe, out, plain, seconds)


def _copy_source(source: Source, folder: Path) -> None:
    """Copy the user's files and check that they are what the plan saw."""
    import shutil

    for name, (path, sha256) in source.files.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            shutil.copyfile(path, target)
        except OSError as failure:
            if failure.filename2 or failure.errno == 28:
                raise StoreError(f"cannot copy {path}: {failure.strerror}") from None
            raise StepError(f"{path}: {failure.strerror}") from None
        if digest.of_file(target) != sha256:
            raise StepError(f"{path} changed while it was being built; build again")


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send file descriptors 1 and 2 to `log`, so that native tools are caught too."""
    sys.stdout.flush()
    sys.stderr.flush()
    saved = os.dup(1), os.dup(2)
    try:
        with log.open("wb") as file:
            os.dup2(file.fileno(), 1)
            os.dup2(file.fileno(), 2)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, kept in zip((1, 2), saved, strict=True):
            os.dup2(kept, number)
            os.close(kept)


class StepProcesses(Executor):
    """Runs each task in one of `jobs` processes; one that dies fails its own task only.

    Built on pebble's pool. Workers ignore Ctrl-C (the parent decides) and end with their parent,
    however that ends. A context that is left by an exception kills them.
    """

    def __init__(self, jobs: int) -> None:
        self._jobs = jobs
        self._pool: Any = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """See `concurrent.futures.Executor.submit`."""
        if self._pool is None:  # a build with nothing to do starts no process
            import multiprocessing

            import pebble

            self._pool = pebble.ProcessPool(
                max_workers=self._jobs,
                context=multiprocessing.get_context("spawn"),
                initializer=_start_worker,
            )
        future: Future[Any] = self._pool.schedule(fn, args=args, kwargs=kwargs)
        return future

    def __exit__(self, kind: object, *_: object) -> None:
        self.shutdown(cancel_futures=kind is not None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """See `concurrent.futures.Executor.shutdown`; with `cancel_futures` workers are killed."""
        if self._pool is None:
            return
        if cancel_futures:
            self._pool.stop()
        else:
            self._pool.close()
        if wait:
            self._pool.join()


def _start_worker() -> None:
    import multiprocessing
    from multiprocessing.connection import wait

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        wait([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()
