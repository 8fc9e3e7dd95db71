"""Times counted in buckets that grow by a constant factor, so that counts of many can be added up.

A bucket holds what lies within `GAMMA` of its lower end: a quantile is read off with an error of at
most 1 %, however many values there are and however they are spread. Only the standard library:
what measures on a device uses it too. The idea is that of DDSketch (Masson, Rim and Lee, "DDSketch:
a fast and fully-mergeable quantile sketch with relative-error guarantees", VLDB 2019), with counts
for all buckets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

GAMMA = 1.02
"""How much longer the longest time of a bucket is than its shortest."""

LEAST_S = 1e-6
"""Shorter times, in seconds, are counted as this one: a microsecond."""

_LOG_GAMMA = math.log(GAMMA)


@dataclass
class Histogram:
    """`counts` maps a bucket to how many times fell into it: bucket b holds GAMMA**b microseconds
    to GAMMA**(b + 1). Times are in seconds; `total_s` is their exact sum."""

    counts: dict[int, int] = field(default_factory=dict)
    total_s: float = 0.0

    @classmethod
    def of(cls, seconds: Iterable[float]) -> Histogram:
        """A histogram of these times."""
        made = cls()
        for one in seconds:
            made.add(one)
        return made

    def add(self, seconds: float) -> None:
        """Count one time. ValueError for what is no time: negative, infinite, not a number."""
        if not 0 <= seconds < math.inf:
            raise ValueError(f"{seconds} is no time in seconds")
        bucket = _bucket(seconds)
        self.counts[bucket] = self.counts.get(bucket, 0) + 1
        self.total_s += seconds

    def merged(self, *others: Histogram) -> Histogram:
        """All of them together."""
        counts = dict(self.counts)
        for other in others:
            for bucket, count in other.counts.items():
                counts[bucket] = counts.get(bucket, 0) + count
        return Histogram(counts, self.total_s + math.fsum(other.total_s for other in others))

    def less(self, part: Histogram) -> Histogram:
        """All but those of `part`, which were merged into this."""
        counts = {
            bucket: left
            for bucket, count in self.counts.items()
            if (left := count - part.counts.get(bucket, 0)) > 0
        }
        return Histogram(counts, self.total_s - part.total_s)

    @property
    def count(self) -> int:
        """How many times were counted."""
        return sum(self.counts.values())

    @property
    def mean(self) -> float:
        """Their mean in seconds; nan of none."""
        return self.total_s / self.count if self.counts else math.nan

    def at_rank(self, rank: int) -> float:
        """The `rank`-th shortest time, from 1 on, off by at most 1 %; ValueError outside."""
        if not 1 <= rank <= self.count:
            raise ValueError(f"rank {rank} of {self.count} times")
        below = 0
        for bucket in sorted(self.counts):
            below += self.counts[bucket]
            if below >= rank:
                break
        return _middle(bucket)

    def quantile(self, share: float) -> float:
        """The time, in seconds, that a `share` (0..1) of all do not exceed; nan of none."""
        count = self.count
        return self.at_rank(max(1, math.ceil(share * count - 1e-9))) if count else math.nan

    def above(self, seconds: float) -> int:
        """How many times were longer than `seconds`, exact but for the bucket it falls in.

        That bucket is divided as if its times lay evenly in it.
        """
        cut = math.log(max(seconds, LEAST_S) / LEAST_S) / _LOG_GAMMA
        found = 0.0
        for bucket, count in self.counts.items():
            found += count * min(1.0, max(0.0, bucket + 1 - cut))
        return round(found)

    def as_json(self) -> dict[str, object]:
        """Plain JSON types; `of_json` reads them."""
        counts = {str(bucket): self.counts[bucket] for bucket in sorted(self.counts)}
        return {"gamma": GAMMA, "total_s": self.total_s, "counts": counts}

    @classmethod
    def of_json(cls, record: Mapping[str, object]) -> Histogram:
        """What `as_json` gave. ValueError of anything else, such as buckets of another width."""
        counts, total = record.get("counts"), record.get("total_s")
        if record.get("gamma") != GAMMA:
            raise ValueError(f"buckets of {record.get('gamma')}, not {GAMMA}")
        if not isinstance(counts, Mapping) or not isinstance(total, (int, float)):
            raise ValueError("no histogram")
        read = {int(bucket): count for bucket, count in counts.items()}
        if any(type(count) is not int or count < 0 for count in read.values()):
            raise ValueError("a count of a histogram is no whole number")
        return cls(read, float(total))


def _bucket(seconds: float) -> int:
    return math.floor(math.log(max(seconds, LEAST_S) / LEAST_S) / _LOG_GAMMA)


def _middle(bucket: int) -> float:
    """The time of a bucket that none in it is further from than 1 %, by ratio."""
    return float(LEAST_S * GAMMA ** (bucket + 0.5))
