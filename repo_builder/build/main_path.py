"""The one path, on one screen: spec files -> plan -> store -> repositories -> report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import TypeVar

from repo_builder import steps
from repo_builder.base.errors import ModelError
from repo_builder.build import provenance, report, unchanged
from repo_builder.build.prepare import (
    measurements,
    planned,
    read,
    refuse_exported,
    refused,
    wanted,
)
from repo_builder.build.publish import publish_good
from repo_builder.build.report import Report, Row, changes
from repo_builder.build.request import Request
from repo_builder.build.search import Run, Workshop, settle
from repo_builder.plan import Plan
from repo_builder.run.cluster import ClusterExecutor
from repo_builder.run.execute import Outcome, Progress, execute
from repo_builder.run.processes import StepProcesses
from repo_builder.run.store import CorruptEntry, Store

T = TypeVar("T")


def build(request: Request, store: Store, progress: Progress) -> Report:
    """Build what `request` names, publish what is good, and report on all of it.

    `store` is in use. Raises SpecError before anything runs; what fails later is a row of the
    report.
    """
    begun, clock = time.monotonic(), time.time()
    specs, catalog = read(request)
    with _runner(request, store, progress) as run:
        specs, searches = settle(specs, Workshop(catalog, store, run))
        the_plan = planned(specs, catalog, store)
        refusals = refused(the_plan, store)
        keys = wanted(the_plan, refusals)
        if request.measure_again:
            for key in measurements(the_plan, store):
                store.drop(key)

        def build_and_publish() -> tuple[tuple[Row, ...], dict[str, Mapping[str, object]]]:
            outcome = run(the_plan, keys, refusals)
            return publish_good(request, the_plan, outcome, store, searches)

        rows, repositories = _undamaged(store, build_and_publish)
    whole = not (request.only or request.targets)
    result = changes.noted(
        Report(rows, repositories, round(time.monotonic() - begun, 3), provenance.of(the_plan)),
        report.read(request.out),
        whole=whole,
    )
    report.write(result, request.out, whole=whole)
    unchanged.remember(request, store, the_plan, keys, result, clock)
    return result


def _undamaged(store: Store, make: Callable[[], T]) -> T:
    """What `make` gives; what it finds damaged is dropped from the store and made again."""
    dropped: set[str] = set()
    while True:
        try:
            return make()
        except CorruptEntry as damaged:
            if damaged.key in dropped:
                raise
            dropped.add(damaged.key)
            store.drop(damaged.key)


@contextlib.contextmanager
def _runner(request: Request, store: Store, progress: Progress) -> Iterator[Run]:
    """What makes the entries of some keys of a plan, in processes here or a cluster's workers."""
    declarations = steps.declarations()
    ran: set[str] = set()
    with _executor(request, store) as (executor, jobs):

        def run(plan: Plan, keys: Sequence[str], refusals: Mapping[str, ModelError]) -> Outcome:
            progress.planned(plan)
            outcome = execute(
                plan,
                keys,
                store,
                executor,
                declarations,
                progress,
                jobs=jobs,
                keep_going=request.keep_going,
                refused=refusals,
                refuse=refuse_exported(plan, store),
            )
            ran.update(outcome.ran)  # also what a search has made before
            return replace(outcome, ran=frozenset(ran))

        yield run


@contextlib.contextmanager
def _executor(request: Request, store: Store) -> Iterator[tuple[Executor, int]]:
    """Where steps run, and how many at a time: processes here, or a cluster's workers."""
    if request.scheduler:
        with ClusterExecutor(request.scheduler, store) as cluster:
            yield cluster, cluster.slots
    else:
        with StepProcesses(request.jobs) as processes:
            yield processes, request.jobs
