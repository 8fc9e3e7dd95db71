"""Visits in rounds, so that whatever the machine does meanwhile hits all cells, until it is enough.

A round visits every subject once, in a fresh process each: what differs from process to process
(where memory lies, above all) is in the interval too, so that another run falls into it. The order
turns round every time (A B B A). Which subjects a round visits, and when it ends, is decided here
from figures alone; how a visit is made is given.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from repo_builder.base import statistics as intervals
from repo_builder.base.histogram import GAMMA, Histogram
from repo_builder.tune.measure.types import (
    CONFIDENCE,
    Cell,
    Figure,
    Memory,
    Sample,
    Subject,
    Visit,
)

LEAST_ROUNDS = intervals.LEAST_GROUPS

_TAIL_RUNS = 100
"""Runs below which no 99th percentile is told."""

_REPEATS = 3
"""Visits in a row that are thrown away since others used the machine; then figures are doubtful."""


@dataclass(frozen=True)
class Limits:
    """When to stop: every interval of rows a second is within this share, or the time is up.

    `LEAST_ROUNDS` are made whatever the time.
    """

    within: float
    seconds: float


@dataclass
class Rounds:
    """What was seen so far; `repeated` counts the visits that were made again."""

    subjects: Sequence[Subject]
    visits: dict[Subject, list[Visit]] = field(default_factory=dict)
    repeated: dict[Subject, int] = field(default_factory=dict)
    memory: dict[tuple[Subject, int], Memory] = field(default_factory=dict)
    done: int = 0

    def add(self, subject: Subject, visit: Visit) -> None:
        """Count a visit."""
        self.visits.setdefault(subject, []).append(visit)

    def open(self, limits: Limits) -> list[Subject]:
        """The subjects of which some interval is still too wide, in the order of the next round."""
        wide = [one for one in self.subjects if not self._narrow(one, limits.within)]
        return wide[::-1] if self.done % 2 else wide

    def _narrow(self, subject: Subject, within: float) -> bool:
        made = self.visits.get(subject, [])
        return len(made) >= LEAST_ROUNDS and all(
            _figure([sample.rows_per_second for sample in samples]).wide <= within
            for samples in _by_batch(made).values()
        )

    def cells(self, within: float) -> tuple[Cell, ...]:
        """A cell for every subject and batch size that was seen."""
        return tuple(
            self._cell(subject, batch, samples, within)
            for subject in self.subjects
            for batch, samples in sorted(_by_batch(self.visits.get(subject, [])).items())
        )

    def _cell(self, subject: Subject, batch: int, samples: Sequence[Sample], within: float) -> Cell:
        rates = [sample.rows_per_second for sample in samples]
        rate = _figure(rates)
        joules = [sample.joules for sample in samples if sample.joules]
        doubts = [visit.doubt for visit in self.visits[subject] if visit.doubt]
        of = f" (in {len(doubts)} of {len(samples)} visits)" if doubts else ""
        return Cell(
            model=subject.model,
            target=subject.target,
            precision=subject.precision,
            runtime=subject.runtime,
            batch=batch,
            callers=subject.callers,
            digest=subject.digest,
            rows_per_second=rate,
            p50_ms=_figure([sample.p50_ms for sample in samples]),
            p99_ms=_tail([Histogram.of_json(sample.tail) for sample in samples]),
            rows_per_joule=_figure([1 / one for one in joules]) if joules else None,
            memory=self.memory.get((subject, batch)),
            runs=sum(sample.runs for sample in samples),
            visits=tuple(rates),
            narrow=rate.wide <= within,
            repeated=self.repeated.get(subject, 0),
            doubt=doubts[0] + of if doubts else "",
        )


def run(
    rounds: Rounds,
    limits: Limits,
    visit: Callable[[Subject], Visit | None],
    clock: Callable[[], float],
    told: Callable[[Rounds, Sequence[Subject]], None] = lambda _rounds, _open: None,
) -> None:
    """Make rounds until all is narrow, or the time is up after `LEAST_ROUNDS`.

    A visit while others used the machine is made again while there is time, `_REPEATS` times at
    most; then it counts, and its cells say so. A subject
    whose visit is None failed, and is dropped. `told` is called before each round with the
    subjects that it visits.
    """
    begun = clock()
    while wide := rounds.open(limits):
        if rounds.done >= LEAST_ROUNDS and clock() - begun >= limits.seconds:
            return
        told(rounds, wide)
        for subject in wide:
            made = visit(subject)
            for _ in range(_REPEATS):
                late = clock() - begun >= limits.seconds
                if made is None or not made.doubt or late:
                    break
                rounds.repeated[subject] = rounds.repeated.get(subject, 0) + 1
                made = visit(subject)
            if made is None:
                rounds.subjects = [one for one in rounds.subjects if one != subject]
            else:
                rounds.add(subject, made)
        rounds.done += 1


def _by_batch(visits: Sequence[Visit]) -> Mapping[int, list[Sample]]:
    found: dict[int, list[Sample]] = {}
    for visit in visits:
        for sample in visit.samples:
            found.setdefault(sample.batch, []).append(sample)
    return found


def _figure(values: Sequence[float]) -> Figure:
    """The mean over visits, with Student's interval for it."""
    interval = intervals.of_mean(values, CONFIDENCE)
    return Figure(statistics.fmean(values), *(interval or (None, None)))


def _tail(parts: Sequence[Histogram]) -> Figure | None:
    """The 99th percentile of all runs, with the jackknife's interval over visits.

    The interval is wider by the 1 % that a histogram may be off.
    """
    whole = Histogram().merged(*parts)
    if whole.count < _TAIL_RUNS:
        return None
    value = 1e3 * whole.quantile(0.99)
    without = [
        1e3 * Histogram().merged(*parts[:i], *parts[i + 1 :]).quantile(0.99)
        for i in range(len(parts))
    ]
    interval = intervals.jackknife(value, without, CONFIDENCE)
    if interval is None:
        return Figure(value)
    off = (GAMMA - 1) / 2 * value
    return Figure(value, max(interval[0] - off, 0.0), interval[1] + off)
