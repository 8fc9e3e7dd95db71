"""Runs steps on a Dask cluster: the same plan, on machines that have the hardware a step needs.

A step travels with what it reads: the user's files and the blobs of its inputs, by digest; what it
makes travels back the same way. A worker keeps a store of its own, so it need not see this
machine's disk. A step whose worker is lost runs on another one.

Dask's messages are pickled: connect only to a scheduler and workers that you run.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.metadata
import os
import platform
import tempfile
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repo_builder import steps
from repo_builder.base.artifact import Entry
from repo_builder.base.errors import MissingExtra, StepError, UsageError
from repo_builder.plan import Declaration, Node, SourceFiles
from repo_builder.run.store import Store, default_root

_CONNECT_S = 10
_LOOK_S = 5
"""How often to see whether a step still has a worker that could run it."""
_LOOKS = 4
"""How many looks in a row find none before the step fails: a worker may be starting again."""

Run = Callable[[Node, str, Declaration, Mapping[str, Entry], str], Entry]


@dataclass(frozen=True)
class StepResult:
    """What a worker sends back: the entry, the contents of its files by digest, and the log."""

    entry: Entry
    blobs: Mapping[str, bytes]
    log: bytes


class ClusterExecutor(Executor):
    """Submits steps to the Dask scheduler at `address` (`tcp://host:8786`).

    What comes back lands in `store`. UsageError where no scheduler answers.
    """

    def __init__(self, address: str, store: Store) -> None:
        try:
            from distributed import Client
        except ImportError:
            raise MissingExtra("cluster", "building with --scheduler") from None
        try:
            self._client = Client(address, timeout=_CONNECT_S, set_as_default=False)
        except (OSError, ValueError) as failure:
            raise UsageError(f"--scheduler {address}: no scheduler answers ({failure})") from None
        self._store = store
        if not self.slots:
            self._client.close()
            raise UsageError(f"--scheduler {address}: it has no workers; start `dask worker` first")

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Run `fn`, which is `repo_builder.run.worker.run_node`, with its arguments on a worker.

        The future fails with StepError where no worker has the resources that the node asks for.
        """
        node, module, declaration, inputs, _ = args
        promise: Future[Entry] = Future()
        if missing := self._missing_resources(node):
            promise.set_exception(missing)
            return promise
        files = {
            name: path.read_bytes()
            for value in node.inputs.values()
            if isinstance(value, SourceFiles)
            for name, path in ((sha256, path) for path, sha256 in value.files.values())
        }
        blobs = {
            blob.sha256: self._store.read(entry, name)
            for entry in inputs.values()
            for name, blob in entry.artifact.files.items()
        }
        task = self._client.submit(
            _run_remotely,
            fn,
            node,
            module,
            declaration,
            inputs,
            files | blobs,
            resources=dict(node.resources) or None,
            pure=False,
        )
        threading.Thread(target=self._deliver, args=(task, promise, node), daemon=True).start()
        return promise

    def _deliver(self, task: Any, promise: Future[Entry], node: Node) -> None:
        from distributed import KilledWorker

        try:
            result = self._result(task, node)
            self._store.log(node.key).write_bytes(result.log)
            promise.set_result(self._store.add(result.entry, result.blobs))
        except KilledWorker:
            lost = StepError(
                f"{node.step} was lost with its worker, again and again; see their logs"
            )
            promise.set_exception(lost)
        except BaseException as failure:  # noqa: BLE001 - handed to whoever waits
            promise.set_exception(failure)

    def _result(self, task: Any, node: Node) -> StepResult:
        """What the step sent back; StepError where the last worker that could run it is gone."""
        from distributed import TimeoutError as StillRunning

        in_vain = 0
        while True:
            try:
                result: StepResult = task.result(timeout=_LOOK_S)
                return result
            except StillRunning:
                missing = self._missing_resources(node)
                in_vain = in_vain + 1 if missing else 0
                if missing and in_vain == _LOOKS:
                    task.cancel()
                    raise missing from None

    @property
    def slots(self) -> int:
        """How many steps the cluster runs at a time."""
        return sum(int(worker["nthreads"]) for worker in self._workers())

    def _workers(self) -> list[Any]:
        return list(self._client.scheduler_info(n_workers=-1)["workers"].values())

    def _missing_resources(self, node: Node) -> StepError | None:
        """What to say where no worker has all resources that a step asks for."""
        wanted = node.resources
        have = [worker["resources"] for worker in self._workers()]
        if any(all(h.get(name, 0) >= count for name, count in wanted.items()) for h in have):
            return None
        if not have:
            return StepError(f"{node.step} waits: the cluster has no worker left; start one")
        missing = " ".join(f"{name}={count}" for name, count in sorted(wanted.items()))
        return StepError(
            f"{node.step} waits for hardware: no worker has {missing}; start one with "
            f'`dask worker SCHEDULER --resources "{missing}"`'
        )

    def __exit__(self, kind: object, *_: object) -> None:
        self.shutdown(cancel_futures=kind is not None)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leave the cluster; with `cancel_futures` what was submitted is cancelled there."""
        self._client.close()


def _run_remotely(
    run: Run,
    node: Node,
    module: str,
    declaration: Declaration,
    inputs: Mapping[str, Entry],
    contents: Mapping[str, bytes],
) -> StepResult:
    """Called on a worker: put what came into its store, run the step, send back what it made."""
    _require_versions(node, declaration)
    store = Store(Path(os.environ.get("REPO_BUILDER_STORE") or default_root()))
    with store.in_use(), tempfile.TemporaryDirectory() as folder:
        for entry in inputs.values():
            wanted = {b.sha256 for b in entry.artifact.files.values()}
            store.add(entry, {sha: contents[sha] for sha in wanted})
        there = dataclasses.replace(node, inputs=_unpacked(node, contents, Path(folder)))
        entry = run(there, module, declaration, inputs, str(store.root))
        blobs = {b.sha256: store.read(entry, n) for n, b in entry.artifact.files.items()}
        return StepResult(entry, blobs, store.log(node.key).read_bytes())


def _require_versions(node: Node, declaration: Declaration) -> None:
    """The key of a result promises versions: a worker with others must not make it.

    What is not installed here, the step itself tells.
    """
    here_too = steps.declarations()[declaration.name]
    pairs: list[tuple[str, Any, Any]] = [
        ("the step's version", declaration.version, here_too.version)
    ]
    for tool in declaration.tools:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            pairs.append((tool, node.recipe["tools"][tool], importlib.metadata.version(tool)))
    for what, planned, here in pairs:
        if planned != here:
            raise StepError(
                f"{node.step} was planned with {what} {planned or '(none)'}, the worker on "
                f"{platform.node()} has {here}; install the same on both"
            )


def _unpacked(node: Node, contents: Mapping[str, bytes], folder: Path) -> dict[str, Any]:
    """The node's inputs with the user's files as they lie on this worker."""
    inputs: dict[str, Any] = {}
    for name, value in node.inputs.items():
        inputs[name] = value
        if isinstance(value, SourceFiles):
            files = {}
            for file, (path, sha256) in value.files.items():
                copy = folder / sha256 / path.name
                copy.parent.mkdir(exist_ok=True)
                copy.write_bytes(contents[sha256])
                files[file] = (copy, sha256)
            inputs[name] = SourceFiles(files)
    return inputs
