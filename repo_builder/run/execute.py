"""Walks a plan over an executor: what the store has is taken from it, the rest runs in parallel.

Knows no step by name. A failure stops only what depends on it. The executor is any
`concurrent.futures.Executor`, such as `repo_builder.run.processes.StepProcesses`.
"""

from __future__ import annotations

import concurrent.futures
import signal
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol, Union

from repo_builder import steps
from repo_builder.base.artifact import Entry
from repo_builder.base.errors import RepoBuilderError, StepError
from repo_builder.plan import ArtifactRef, Declaration, Node, Plan
from repo_builder.run.processes import WorkerDied
from repo_builder.run.store import CorruptEntry, Store
from repo_builder.run.worker import run_node

Refuse = Callable[[str], Union[RepoBuilderError, None]]
"""Why a key is not to be made, or None."""


class Progress(Protocol):
    """Told what happens, as it happens."""

    def planned(self, plan: Plan) -> None:
        """The plan is made; nothing runs yet."""

    def counted(self, steps: int) -> None:
        """So many steps have no result in the store yet; they run from now on."""

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
    wanted: Iterable[str],
    store: Store,
    executor: Executor,
    declarations: Mapping[str, Declaration],
    progress: Progress,
    *,
    jobs: int,
    keep_going: bool = True,
    refused: Mapping[str, RepoBuilderError] = MappingProxyType({}),
    refuse: Refuse = lambda _key: None,
) -> Outcome:
    """Make the entries of the keys `wanted`, and of whatever they need that the store lacks.

    `refused` are failures that are known beforehand, by key: they are told, and none of them runs.
    `refuse` is asked the same of each key when it could run.

    At most `jobs` steps run at a time, and a step that measures time runs alone.
    """
    return _Execution(plan, store, executor, declarations, progress, jobs, keep_going, refuse).run(
        wanted, refused
    )


def cached_and_missing(
    plan: Plan, wanted: Iterable[str], store: Store
) -> tuple[dict[str, Entry], dict[str, Node]]:
    """What the store has of the keys `wanted`, and the nodes that must run for the rest.

    A node whose entry the store has needs none of its inputs. Nodes come in the plan's order.
    """
    entries: dict[str, Entry] = {}
    missing: set[str] = set()
    open_keys = list(wanted)
    while open_keys:
        key = open_keys.pop()
        if key in entries or key in missing:
            continue
        entry = store.get(key)
        if entry is not None:
            entries[key] = entry
        else:
            missing.add(key)
            open_keys += _input_keys(plan.nodes[key])
    return entries, {key: node for key, node in plan.nodes.items() if key in missing}


def _input_keys(node: Node) -> list[str]:
    """The keys of the entries that a node is given."""
    return [value.key for value in node.inputs.values() if isinstance(value, ArtifactRef)]


class _Execution:
    def __init__(
        self,
        plan: Plan,
        store: Store,
        executor: Executor,
        declarations: Mapping[str, Declaration],
        progress: Progress,
        jobs: int,
        keep_going: bool,
        refuse: Refuse,
    ) -> None:
        self.plan = plan
        self.store = store
        self.executor = executor
        self.declarations = declarations
        self.progress = progress
        self.jobs = jobs
        self.keep_going = keep_going
        self.refuse = refuse
        self.entries: dict[str, Entry] = {}
        self.errors: dict[str, RepoBuilderError] = {}
        self.ran: set[str] = set()
        self.rebuilt: set[str] = set()
        self.waiting: dict[str, Node] = {}
        self.running: dict[Future[Entry], tuple[Node, Mapping[str, Entry]]] = {}

    def run(self, wanted: Iterable[str], refused: Mapping[str, RepoBuilderError]) -> Outcome:
        for key, error in refused.items():
            self._fail(self.plan.nodes[key], error)
        self.entries, missing = cached_and_missing(self.plan, wanted, self.store)
        self._wait_for(missing)
        self.progress.counted(len(self.waiting))
        while True:
            while len(self.running) < self.jobs and (node := self._next()):
                self._start(node)
            if not self.running:
                return Outcome(self.entries, self.errors, frozenset(self.ran))
            done, _ = concurrent.futures.wait(
                self.running, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in done:
                self._finish(future, *self.running.pop(future))

    def _next(self) -> Node | None:
        """The next node to start; what depends on a failure fails on the way."""
        if self.errors and not self.keep_going:
            self.waiting.clear()
        exclusive = None
        for key, node in list(self.waiting.items()):
            needed = _input_keys(node)
            failed = next((k for k in needed if k in self.errors), None)
            if failed is not None:
                del self.waiting[key]
                self.errors[key] = self.errors[failed]
            elif all(k in self.entries for k in needed):
                if refusal := self.refuse(key):
                    del self.waiting[key]
                    self._fail(node, refusal)
                    return self._next()
                if not self._exclusive(node):
                    return None if self._exclusive_runs() else node
                exclusive = exclusive or node
        return None if self.running else exclusive

    def _exclusive(self, node: Node) -> bool:
        return self.declarations[node.step].exclusive

    def _exclusive_runs(self) -> bool:
        """Whether a step runs that must run alone."""
        return any(self._exclusive(node) for node, _ in self.running.values())

    def _start(self, node: Node) -> None:
        del self.waiting[node.key]
        inputs = {key: self.entries[key] for key in _input_keys(node)}
        self.progress.started(node)
        future = self.executor.submit(
            run_node,
            node,
            steps.module(node.step),
            self.declarations[node.step],
            inputs,
            str(self.store.root),
        )
        self.running[future] = node, inputs

    def _finish(self, future: Future[Entry], node: Node, inputs: Mapping[str, Entry]) -> None:
        try:
            entry = future.result()
        except CorruptEntry as damaged:
            self._rebuild(damaged, node, inputs)
        except RepoBuilderError as failure:
            self._fail(node, failure)
        except Exception as failure:  # noqa: BLE001 - a worker that died, told as one line
            self._fail(node, self._worker_error(node, failure))
        else:
            self.entries[node.key] = entry
            self.ran.add(node.key)
            self.progress.finished(node, entry)

    def _rebuild(self, damaged: CorruptEntry, node: Node, inputs: Mapping[str, Entry]) -> None:
        """Make a damaged input again, then the node that met it."""
        key = damaged.key
        if self.entries.get(key) == inputs[key]:  # else another node met it before
            if key in self.rebuilt:
                self._fail(node, damaged)
                return
            self.rebuilt.add(key)
            self.store.drop(key)
            del self.entries[key]
            entries, missing = cached_and_missing(self.plan, [key], self.store)
            self.entries.update(entries)
            self.waiting.update(missing)
        self.waiting[node.key] = node
        self._wait_for(self.waiting)

    def _wait_for(self, nodes: Mapping[str, Node]) -> None:
        """Put nodes in the order in which they start once they can: the plan's, slow ones first."""
        leads_on = [key for key, node in nodes.items() if node.slow]
        urgent: set[str] = set()
        while leads_on:
            key = leads_on.pop()
            if key in nodes and key not in urgent:
                urgent.add(key)
                leads_on += _input_keys(nodes[key])
        inside = [key for key in self.plan.nodes if key in nodes]
        self.waiting = {k: nodes[k] for k in sorted(inside, key=lambda k: k not in urgent)}

    def _fail(self, node: Node, failure: RepoBuilderError) -> None:
        self.errors[node.key] = failure
        self.progress.failed(node, failure)

    def _worker_error(self, node: Node, failure: Exception) -> StepError:
        """What to say of a worker that ended without an answer."""
        what = f"gave no answer ({type(failure).__name__}: {failure})"
        if isinstance(failure, WorkerDied):
            what = str(failure)
            limit = self.declarations[node.step].limit_s
            if limit is not None and failure.exitcode == -signal.SIGALRM:
                what = (
                    f"was still running after {limit:g} s and was stopped; give smaller `sizes` in "
                    "the spec, or a smaller model"
                )
        return StepError(f"{node.step} {what}; log: {self.store.log(node.key)}")
