"""The search: names the next thing to measure until it can recommend. No I/O, no clock.

Explore: what is expected to improve most on the leader is measured next, a short look each; a
candidate that has little chance to be better is never measured again, or never at all. Confirm: the
best (of those within 1.5 %, the simplest) and the current one take turns, A B B A, in looks that
chose nothing before; Student's interval of the pairs' differences decides, with the error divided
among the times it is looked at (Bonferroni). So what is recommended in place of the current one is
worse with a probability of at most 1 - confidence, however many candidates there were.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import NormalDist, fmean, stdev

import numpy as np

from repo_builder.base import statistics
from repo_builder.base.histogram import Histogram
from repo_builder.spec.candidate import Candidate
from repo_builder.tune.rules.belief import Belief, Reader
from repo_builder.tune.rules.types import Measure, Objective, Observation, Recommendation
from repo_builder.tune.rules.words import evidence

LOOK_S = 2.0
"""How long one look lasts, at least; where a rare latency counts, until it was seen some times."""

LONGEST = 5
"""How many times longer a look becomes for that, at most."""

EQUAL = math.log(1.015)
"""What is within this is taken as equal, and the simpler one as better."""

_ENOUGH = 0.004
"""The expected improvement on the leader, as a share, for which nothing more is measured."""

_EXCEEDED = 6
"""How often a latency beyond the quantile is to be seen in a look."""

_LOOKS = (4, 6, 9)
"""After how many pairs the interval of their difference is looked at."""

_NOTHING = math.log(1.03)
"""A difference surely smaller than this is none."""

_SWEEP_LOOKS = 3
"""How often a sweep measures each candidate, to tell noise from difference."""

_SWEEP_RATES = 6
"""At how many rates, where the highest one is sought, by bisection."""

_LEAST_LOOKS = 16
"""What a search may take though a sweep of few candidates were not much longer."""

_EXPLORING = 0.5
"""The share of the budget that exploring may take."""

_BELOW = 0.97
"""The share of the highest rate, as it is believed in, that is measured to see the SLO kept."""


class Search:
    """Chooses among `candidates` for a machine with `cores`; see the module.

    `current` is what is served with now. The time to measure, set-up included, is the least of
    `budget_s` and an eighth of what a sweep takes, but 16 looks at least; it is counted from the
    observations. All of these go in, in their order, also those of a search that was killed.
    """

    def __init__(
        self,
        candidates: Sequence[Candidate],
        objective: Objective,
        *,
        cores: int,
        current: Candidate | None = None,
        budget_s: float = math.inf,
        confidence: float = 0.95,
        look_s: float = LOOK_S,
    ) -> None:
        listed = dict.fromkeys([*([current] if current else []), *candidates])
        if not listed:
            raise ValueError("no candidate")
        self.candidates = tuple(sorted(listed, key=lambda one: one.order))
        self.objective = objective
        self.current = current
        self.confidence = confidence
        self.seen: list[Observation] = []
        self.dropped: dict[int, str] = {}
        self.pair: tuple[int, int] | None = None
        self._turns: list[Observation] = []
        self._look_s = look_s
        self._asked_s = budget_s
        self._reader = Reader(self.candidates, cores, objective)
        self._given = 0
        self._belief: Belief | None = None

    def next(self, observations: Sequence[Observation]) -> Measure | Recommendation:
        """What to measure next, or how it ended; `observations` are all so far."""
        for one in observations[self._given :]:
            self._take(one)
            self._decide()
        self._given = len(observations)
        if len(self.dropped) == len(self.candidates):
            return self._end(complete=True)
        if not self.seen:
            return self._measure(self._first(), closed=True)
        if self.measured_s >= self.budget_s:
            return self._end(complete=False)
        if self.pair is not None:
            if self._decided():
                return self._end(complete=True)
            turn = len(self._turns)
            return self._measure(self.pair[turn % 4 in (1, 2)], why="confirm")
        wanted = self._wanted()
        return self._end(complete=True) if wanted is None else self._measure(wanted)

    @property
    def belief(self) -> Belief:
        """What is believed of all candidates now."""
        if self._belief is None:
            self._belief = self._reader.belief(self.seen, self._look_s)
        return self._belief

    @property
    def measured_s(self) -> float:
        """How long was measured so far, set-up included."""
        return math.fsum(one.seconds + one.setup_s for one in self.seen)

    @property
    def sweep_s(self) -> float:
        """How long it would take to measure all candidates one after the other."""
        open_loop = [one.seconds for one in self.seen if one.rate is not None]
        look = fmean(open_loop) if open_loop else self._look_s
        setup = fmean([one.setup_s for one in self.seen]) if self.seen else 0.0
        rates = _SWEEP_RATES if self._seeks_rate else 1
        return len(self.candidates) * _SWEEP_LOOKS * (rates * look + setup)

    @property
    def budget_s(self) -> float:
        """How long may be measured."""
        least = _LEAST_LOOKS * (self.measured_s / len(self.seen) if self.seen else self._look_s)
        return min(self._asked_s, max(self.sweep_s / 8, least))

    @property
    def _seeks_rate(self) -> bool:
        return self.objective.slo is not None and self.objective.rate is None

    def _take(self, one: Observation) -> None:
        if one.candidate not in self.candidates:
            return
        number = self.candidates.index(one.candidate)
        if one.problem:
            self.dropped[number] = one.problem
            if self.pair and number in self.pair:
                self.pair, self._turns = None, []
            return
        self.seen.append(one)
        self._belief = None
        if self.pair and number in self.pair:
            self._turns.append(one)

    def _decide(self) -> None:
        """Whether exploring is over, and what is to be confirmed then."""
        if self.pair is not None or self.current is None or not self.seen:
            return
        current = self.candidates.index(self.current)
        spent = self.measured_s >= _EXPLORING * self.budget_s
        if current in self.dropped or (self._wanted() is not None and not spent):
            return
        best = self.best()
        if best != current:
            self.pair = (best, current)

    def _first(self) -> int:
        if self.current is not None and self.candidates.index(self.current) not in self.dropped:
            return self.candidates.index(self.current)
        order = np.argsort(-self.belief.mean, kind="stable")
        return next(int(number) for number in order if int(number) not in self.dropped)

    def leader(self) -> int:
        """The number of the candidate that is believed to be the best, of those measured."""
        known = {self.candidates.index(one.candidate) for one in self.seen} - {*self.dropped}
        if not known:
            return self._first()
        return max(known, key=lambda number: (float(self.belief.mean[number]), -number))

    def equals(self) -> list[int]:
        """The numbers of those that may be as good as the leader, simpler ones first."""
        leader = self.leader()
        ahead, _ = self.belief.ahead(leader)
        known = {self.candidates.index(one.candidate) for one in self.seen} - {*self.dropped}
        return [number for number in sorted(known) if ahead[number] >= -EQUAL]

    def best(self) -> int:
        """The number of what would be recommended now: the current one where it is as good."""
        equals = self.equals()
        if self.current is not None and self.candidates.index(self.current) in equals:
            return self.candidates.index(self.current)
        return equals[0] if equals else self._first()

    def _wanted(self) -> int | None:
        """What may improve most on the leader; None where nothing is worth measuring."""
        leader = self.leader()
        ahead, spread = self.belief.ahead(leader)
        normal = NormalDist()
        gains = {}
        for number in range(len(self.candidates)):
            if number == leader or number in self.dropped:
                continue
            z = float(ahead[number] / spread[number])
            gains[number] = float(ahead[number]) * normal.cdf(z) + float(
                spread[number]
            ) * normal.pdf(z)
        if not gains:
            return None if self._asked(leader) else leader
        wanted = max(gains, key=lambda number: (gains[number], -number))
        if gains[wanted] < _ENOUGH:
            return None if self._asked(leader) else leader
        own = np.diag(self.belief.covariance)
        tried = any(self.candidates.index(one.candidate) == wanted for one in self.seen)
        return leader if tried and own[leader] > own[wanted] else wanted

    def _asked(self, number: int) -> bool:
        """Whether the candidate was measured as the objective asks: at a rate, where it counts."""
        one = self.candidates[number]
        needs_rate = self.objective.slo is not None
        return any(s.candidate == one and (s.rate is not None) == needs_rate for s in self.seen)

    def _measure(self, number: int, *, closed: bool = False, why: str = "explore") -> Measure:
        one = self.candidates[number]
        if self.objective.slo is None or closed:
            callers = 2 * max(one.instances, 1) * max(1, one.max_batch if one.batches else 1) + 2
            return Measure(one, None, self._look_s, callers, why)
        rate = self.objective.rate or _BELOW * float(np.exp(self.belief.mean[number]))
        wanted = _EXCEEDED / (1 - self.objective.slo.quantile) / rate
        seconds = min(max(wanted, self._look_s), LONGEST * self._look_s)
        return Measure(one, rate, seconds, 0, why)

    def interval(self) -> tuple[float, float, float] | None:
        """By how much the confirmed one is better, in logarithms: (low, middle, high).

        None of fewer pairs than are looked at.
        """
        good = [self._reader.one(seen, self.belief, self._look_s) for seen in self._turns]
        pairs = []
        for first in range(0, len(good) - 1, 2):
            sign = 1 if first % 4 == 0 else -1
            pairs.append(sign * (good[first] - good[first + 1]))
        looked = [count for count in _LOOKS if count <= len(pairs)]
        if not looked:
            return None
        pairs = pairs[: looked[-1]]
        confidence = 1 - 2 * (1 - self.confidence) / len(_LOOKS)
        half = statistics.student_t(confidence, len(pairs) - 1) * stdev(pairs)
        half /= math.sqrt(len(pairs))
        return fmean(pairs) - half, fmean(pairs), fmean(pairs) + half

    def _decided(self) -> bool:
        found = self.interval()
        if found is None:
            return False
        low, _, high = found
        return low > 0 or high < _NOTHING or len(self._turns) >= 2 * _LOOKS[-1]

    def _end(self, *, complete: bool) -> Recommendation:
        served = len(self.dropped) < len(self.candidates)
        chosen = self._chosen() if served else None
        made = Recommendation(
            None if chosen is None else self.candidates[chosen],
            self.current,
            "unserved",
            self.confidence,
            "requests/s" if self.objective.rate is None else "ms",
            measured_s=round(self.measured_s, 1),
            sweep_s=round(self.sweep_s, 1),
            complete=complete,
        )
        if chosen is not None:
            compared, value = self.interval() if self.pair else None, self._value(chosen)
            better = self.current is not None and self.candidates[chosen] != self.current
            equal = [self.candidates[number] for number in self.equals() if number != chosen]
            made = replace(
                made,
                outcome="unmet" if self._unmet(chosen) else "better" if better else "no difference",
                value=value,
                margin=_factors(compared),
                equal=tuple(equal),
            )
        dropped = {self.candidates[number]: why for number, why in self.dropped.items()}
        told = evidence(made, self.objective, self.seen, dropped, len(self.candidates))
        return replace(made, evidence=told)

    def _chosen(self) -> int:
        """The challenger where it was confirmed; else the current one, where that is served."""
        if self.current is None or self.candidates.index(self.current) in self.dropped:
            return self.best()
        found = self.interval() if self.pair else None
        if self.pair and found and found[0] > 0:
            return self.pair[0]
        return self.candidates.index(self.current)

    def _value(self, number: int) -> tuple[float, float, float]:
        """The candidate's figure (low, middle, high), in the objective's unit."""
        middle = float(self.belief.mean[number])
        spread = float(np.sqrt(self.belief.covariance[number, number]))
        half = statistics.quantile(self.confidence) * spread
        low, high = middle - half, middle + half
        if self.objective.rate is None:
            return math.exp(low), math.exp(middle), math.exp(high)
        return 1e3 * math.exp(-high), 1e3 * math.exp(-middle), 1e3 * math.exp(-low)

    def _unmet(self, number: int) -> bool:
        """Whether the candidate breaks the SLO: at the rate asked for, or at any."""
        slo, one = self.objective.slo, self.candidates[number]
        if slo is None:
            return False
        seen = [s for s in self.seen if s.candidate == one and s.rate is not None]
        if self.objective.rate is None:
            return bool(seen) and self._reader.hopeless(self.belief)[number]
        whole = Histogram().merged(*(s.latencies for s in seen))
        reached = whole.quantile(slo.quantile) if whole.count else self._value(number)[1] / 1e3
        return reached * 1e3 > slo.limit_ms


def _factors(logs: tuple[float, float, float] | None) -> tuple[float, float, float] | None:
    """Logarithms of ratios as ratios."""
    return logs and (math.exp(logs[0]), math.exp(logs[1]), math.exp(logs[2]))
