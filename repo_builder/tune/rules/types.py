"""What the rules of tuning and what measures for them say to each other. Only frozen data."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from repo_builder.base.digest import Json
from repo_builder.base.errors import UsageError, did_you_mean
from repo_builder.base.histogram import Histogram
from repo_builder.spec.candidate import Candidate

__all__ = [
    "SLICES",
    "Candidate",
    "Measure",
    "Objective",
    "Observation",
    "Recommendation",
    "Service",
    "Slo",
]

SLICES = 10
"""Into how many equal parts the time of an observation is divided, at least: their spread tells how
sure the whole is, though neighbouring latencies depend on each other (batch means)."""

_UNITS_MS = {"us": 1e-3, "ms": 1.0, "s": 1e3}
_SLO = re.compile(r"p(\d+(?:\.\d+)?)\s*(<=|<)\s*(\d+(?:\.\d+)?)\s*([a-z]*)", re.IGNORECASE)
_EXAMPLE = "write one such as 'p99<=20ms'"
_GOALS = ("throughput",)


@dataclass(frozen=True)
class Slo:
    """A share `quantile` (0..1) of all requests is answered within `limit_ms` milliseconds."""

    quantile: float
    limit_ms: float

    def __str__(self) -> str:
        return f"p{self.quantile * 100:.6g}<={self.limit_ms:g}ms"

    @classmethod
    def parse(cls, text: str) -> Slo:
        """Read `p99<=20ms`: p50 to p99.99; us, ms or s. UsageError says what is wrong."""
        found = _SLO.fullmatch(text.strip())
        if found is None:
            raise UsageError(f"--slo '{text}' is no limit of a latency; {_EXAMPLE}")
        percent, _, limit, unit = found.groups()
        if unit.lower() not in _UNITS_MS:
            said = f"has the unit '{unit}'" if unit else "has no unit"
            raise UsageError(f"--slo '{text}' {said}; write us, ms or s")
        if not 50 <= float(percent) <= 99.99:
            raise UsageError(f"--slo '{text}': p{percent} is not within p50 and p99.99")
        limit_ms = float(limit) * _UNITS_MS[unit.lower()]
        if not 0.01 <= limit_ms <= 3_600_000:
            raise UsageError(f"--slo '{text}': the limit is not within 10us and an hour")
        return cls(round(float(percent) / 100, 6), limit_ms)


@dataclass(frozen=True)
class Objective:
    """What is best.

    With a `rate` (requests a second): the least latency at the SLO's quantile, and the SLO kept, at
    this rate. Without one: the most requests a second, under the SLO where there is one.
    """

    slo: Slo | None = None
    rate: float | None = None

    def __str__(self) -> str:
        if self.slo is None:
            return "the most throughput"
        at = "the most throughput" if self.rate is None else f"{self.rate:g} requests/s"
        return f"{self.slo} at {at}"

    @classmethod
    def of(cls, slo: str = "", rate: float | None = None, maximize: str = "") -> Objective:
        """What `--slo`, `--rate` and `--maximize` ask for; UsageError where they do not fit."""
        if maximize and maximize not in _GOALS:
            raise UsageError(
                f"--maximize '{maximize}' is unknown; {did_you_mean(maximize, _GOALS)}"
            )
        if rate is not None and not 0 < rate < math.inf:
            raise UsageError(f"--rate {rate:g} is no rate; write requests a second, more than 0")
        if rate is not None and maximize:
            raise UsageError("--rate and --maximize are two objectives; give one")
        if rate is not None and not slo:
            raise UsageError("--rate needs the limit to keep: --slo 'p99<=20ms'")
        if not slo and not maximize:
            raise UsageError(
                "say what to tune for: --slo 'p99<=20ms' --rate 200, or --maximize throughput"
            )
        return cls(Slo.parse(slo) if slo else None, rate)

    def as_json(self) -> dict[str, Json]:
        """Plain JSON types: `slo` (text or null), `rate`."""
        return {"slo": str(self.slo) if self.slo else None, "rate": self.rate}


@dataclass(frozen=True)
class Measure:
    """The next thing to measure: this candidate for `seconds`, its warm-up not counted.

    `rate` is that of an open loop, in requests a second; None is a closed loop of `callers`, which
    keeps the server saturated. `why` is for people.
    """

    candidate: Candidate
    rate: float | None
    seconds: float
    callers: int = 0
    why: str = ""


@dataclass(frozen=True)
class Service:
    """What Triton's own statistics say of the time of an observation; sums over its requests.

    `executions` of the model computed `rows`; `queue_s` is what requests waited; `compute_s` is the
    time of executions (input, infer and output), each once. `batches` maps the rows of an execution
    to (how many executions, their seconds), where Triton tells it.
    """

    executions: int
    rows: int
    queue_s: float
    compute_s: float
    batches: Mapping[int, tuple[int, float]] = field(default_factory=dict)

    @property
    def mean_batch(self) -> float:
        """Rows an execution; nan of none."""
        return self.rows / self.executions if self.executions else math.nan


@dataclass(frozen=True)
class Observation:
    """What was measured of a candidate in one go.

    `slices` are the latencies of the answered requests, in seconds, in `SLICES` or more equal
    parts of `seconds`: by when a request was due in an open loop, by when it was answered in a
    closed one. An open loop's latency runs from when the request was due. `late`: requests that the
    client itself began more than 10 ms late. `cpu_s` is the server's CPU time, `client_cpu_s` the
    client's; `memory_bytes` what the server holds resident; None where it cannot be told. `setup_s`
    is what loading and warming up took before. `doubt`: why this is not to be trusted, or "".
    `problem`: why the candidate cannot be served at all, or ""; then nothing was measured.
    """

    candidate: Candidate
    rate: float | None
    seconds: float
    sent: int
    failed: int
    slices: tuple[Histogram, ...]
    service: Service | None = None
    cpu_s: float | None = None
    client_cpu_s: float | None = None
    memory_bytes: int | None = None
    setup_s: float = 0.0
    late: int = 0
    doubt: str = ""
    problem: str = ""

    @property
    def latencies(self) -> Histogram:
        """Of all answered requests, in seconds."""
        return Histogram().merged(*self.slices)

    @property
    def completed(self) -> int:
        """Requests that were answered."""
        return sum(part.count for part in self.slices)

    @property
    def throughput(self) -> float:
        """Answered requests a second."""
        return self.completed / self.seconds if self.seconds else 0.0

    def as_json(self) -> dict[str, Any]:
        """Plain JSON types; `of_json` reads them."""
        record = asdict(self)
        record["candidate"] = self.candidate.as_json()
        record["slices"] = [part.as_json() for part in self.slices]
        if self.service:
            batches = self.service.batches.items()
            record["service"]["batches"] = {str(rows): list(told) for rows, told in batches}
        return record

    @classmethod
    def of_json(cls, record: Mapping[str, Any]) -> Observation:
        """What `as_json` gave; TypeError, KeyError or ValueError of anything else."""
        given = dict(record)
        given["candidate"] = Candidate.of_json(given["candidate"])
        given["slices"] = tuple(Histogram.of_json(part) for part in given["slices"])
        if told := given.get("service"):
            pairs = {int(rows): (int(n), float(s)) for rows, (n, s) in told["batches"].items()}
            given["service"] = Service(**{**told, "batches": pairs})
        return cls(**given)


@dataclass(frozen=True)
class Recommendation:
    """How a search ended.

    `candidate` is what to serve with; it is `current` where nothing is better. `outcome`:

    - `better`: than the current one, by `margin`;
    - `no difference`: nothing is known to be better than the current one;
    - `unmet`: no candidate keeps the SLO; `candidate` is the best there is;
    - `unserved`: no candidate could be served at all; `candidate` is None.

    `margin` is (low, middle, high) of how many times better the candidate is than the current one,
    at `confidence`: of rates where throughput counts, of latencies (the current one's by the
    candidate's) at a rate; None where there is no current one or it was not measured. `value` is
    the candidate's figure with its interval (low, middle, high), in `unit`: `requests/s` or `ms`.
    `equal` are candidates that could not be told from it. `measured_s` is how long was measured,
    set-up included, `sweep_s` what measuring all candidates as long as the winner would have taken.
    `complete` is False where the time was up first. `evidence` says all of it in words, a line for
    each thing.
    """

    candidate: Candidate | None
    current: Candidate | None
    outcome: Literal["better", "no difference", "unmet", "unserved"]
    confidence: float
    unit: Literal["requests/s", "ms"]
    value: tuple[float, float, float] | None = None
    margin: tuple[float, float, float] | None = None
    equal: tuple[Candidate, ...] = ()
    measured_s: float = 0.0
    sweep_s: float = 0.0
    complete: bool = True
    evidence: Sequence[str] = ()
