"""The one path, on one screen: spec files -> plan -> store -> repositories -> report."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor
from typing import TypeVar

from repo_builder.build import provenance, report, unchanged
from repo_builder.build.prepare import measurements, prepare, refuse_exported, refused, wanted
from repo_builder.build.publish import publish_good
from repo_builder.build.report import Report, Row, changes
from repo_builder.build.request import Request
from repo_builder.run.cluster import ClusterExecutor
from repo_builder.run.execute import Progress, execute
from repo_builder.run.processes import StepProcesses
from repo_builder.run.store import CorruptEntry, Store

T = TypeVar("T")


def build(request: Request, store: Store, progress: Progress) -> Report:
    """Build what `request` names, publish what is good, and report on all of it.

    `store` is in use. Raises SpecError before anything runs; what fails later is a row of the
    report.
    """
    begun, clock = time.monotonic(), time.time()
    the_plan, declarations = prepare(request, store)
    progress.planned(the_plan)
    refusals = refused(the_plan, store)
    keys = wanted(the_plan, refusals)
    if request.measure_again:
        for key in measurements(the_plan, store):
            store.drop(key)
    with _executor(request, store) as (executor, jobs):

        def build_and_publish() -> tuple[tuple[Row, ...], dict[str, Mapping[str, object]]]:
            outcome = execute(
                the_plan,
                keys,
                store,
                executor,
                declarations,
                progress,
                jobs=jobs,
                keep_going=request.keep_going,
                refused=refusals,
                refuse=refuse_exported(the_plan, store),
            )
            return publish_good(request, the_plan, outcome, store)

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
def _executor(request: Request, store: Store) -> Iterator[tuple[Executor, int]]:
    """Where steps run, and how many at a time: processes here, or a cluster's workers."""
    if request.scheduler:
        with ClusterExecutor(request.scheduler, store) as cluster:
            yield cluster, cluster.slots
    else:
        with StepProcesses(request.jobs) as processes:
            yield processes, request.jobs
