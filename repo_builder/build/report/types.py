"""What a build reports: one row per model@target, and one record per published repository."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, is_dataclass, replace
from functools import cache
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from repo_builder.build.report.search import Search

Status = Literal["built", "cached", "failed", "gate failed"]


@dataclass(frozen=True)
class Score:
    """The task metric on the evaluation data; `drop` is positive where the built model is worse.

    The true drop lies in `interval` with this `confidence`, as far as `rows` rows can tell; None
    where no interval can be told.
    """

    metric: str
    source: float
    built: float
    drop: float
    rows: int = 0
    confidence: float = 0.95
    interval: tuple[float, ...] | None = None


@dataclass(frozen=True)
class Latency:
    """One request of batch 1 on the building machine, in milliseconds.

    `cpu` and `cores` say which machine that was, `at` when, in UTC. `load` is the share of its
    cores that others used meanwhile (None: not known), `throttled` the share of the time that a CPU
    quota held it up, `spread` the middle half of repeated medians as a share of `p50_ms`. `doubt`
    says why the figure is not to be trusted; "" where it is.
    """

    p50_ms: float
    p95_ms: float
    cpu: str = ""
    cores: int = 0
    at: str = ""
    load: float | None = None
    throttled: float = 0.0
    spread: float = 0.0
    doubt: str = ""


@dataclass(frozen=True)
class Energy:
    """Joules of the machine for one request of batch 1.

    `less` is how many times that of fp32 in the same runtime is, with its quartiles (low, median,
    high); None where it is fp32 itself. `doubt` is what speaks against the figures.
    """

    joules: float
    less: tuple[float, ...] | None = None
    doubt: str = ""


@dataclass(frozen=True)
class Fp32:
    """The fp32 of the same model beside a variant that is not fp32, and the ratios of both.

    `runtime` is the variant's, for which the fp32 was built too; "" where the build has no fp32 for
    it: then `size` and `score` are the source's. `score_change` is the variant's score less
    the fp32's. `smaller` is the fp32's size over the variant's.
    `faster` is its latency over the variant's, timed in turns: a median of pairs, with its
    quartiles. `text` says it all: "3.2x smaller, 2.1x faster, -0.1 points".
    """

    runtime: str
    size: int
    smaller: float
    score: float | None
    score_change: float | None
    latency_ms: float | None
    faster: float | None
    faster_low: float | None
    faster_high: float | None
    text: str


@dataclass(frozen=True)
class OperatingPoint:
    """What one threshold gives: shares of rows, and ms and cost of one row on average.

    `coverage` of the rows stay at the edge; `edge_error` is the share of wrong answers among
    those, `total_error` that of all answers, the cloud's too. None where it is not known.
    """

    threshold: float
    coverage: float
    edge_error: float | None
    total_error: float | None
    latency_ms: float | None
    cost: float


@dataclass(frozen=True)
class Confidence:
    """When a model is sure, and how that was found.

    With `max_error` the share of wrong answers among the sure ones is at most that, as certain as
    `confidence_level`; None: the threshold was fixed by hand. `tuned` rows fitted the temperature,
    `tested` others the threshold: `kept` were sure, `errors` of those wrong, `bound` bounds their
    rate. `chosen` None: the edge is never sure. `runtime` ran the rows. `calibration` is the digest
    of policy and data.
    """

    policy: str
    output: str
    runtime: str
    temperature: float
    max_error: float | None
    confidence_level: float
    cloud: str
    calibration: str
    tuned: int
    tested: int
    kept: int
    errors: int | None
    bound: float | None
    chosen: OperatingPoint | None
    frontier: tuple[OperatingPoint, ...]
    warning: str = ""


@dataclass(frozen=True)
class Budget:
    """Where the time of a pipeline goes, in ms, and the limit for all of it, if there is one.

    `stages`: capture, transfer, preprocess, infer, postprocess. The first two are given in the
    spec, the others measured on the building machine; `total_ms` is all of them together.
    """

    stages: Mapping[str, float]
    total_ms: float
    limit_ms: float | None


@dataclass(frozen=True)
class Difference:
    """How far one output lies from the source's; figures as in `repo_builder.steps._difference`.

    `shape` says how shapes or types differ, "" where they are equal.
    """

    max_abs: float
    relative: float
    cosine: float
    columns: float
    labels: float | None = None
    misplaced: int = 0
    shape: str = ""


@dataclass(frozen=True)
class Comparison:
    """What was compared with the source: `rows` of `origin`, against the limits of `arithmetic`.

    `limits` maps `relative`, `columns` and `labels` to the largest that passes, `reason` is why
    the spec set some of them ("" where it did not). `headroom` is 65504 over the largest value
    inside, where the device computes in fp16.
    """

    rows: int
    origin: str
    arithmetic: str
    limits: Mapping[str, float]
    reason: str = ""
    headroom: float | None = None


@dataclass(frozen=True)
class Gate:
    """A limit of a spec, by its `name` there, and what was measured; both in `unit`.

    `measured` None: it was not measured, and holds nothing back. `doubt` says why the figure is
    not to be trusted, and so does not pass. With a `confidence` it is the upper end of an interval.
    """

    name: str
    measured: float | None
    limit: float
    unit: str = ""
    doubt: str = ""
    confidence: float | None = None

    @property
    def margin(self) -> float | None:
        """How far the figure may still rise, in `unit`; negative beyond the limit."""
        return None if self.measured is None else self.limit - self.measured

    @property
    def held(self) -> bool:
        """Whether the model keeps the limit. NaN keeps none."""
        return not self.doubt and (self.measured is None or self.measured <= self.limit)


@dataclass(frozen=True)
class Row:
    """What became of one model@target; figures are None where a step did not get that far.

    `size` is bytes of the compiled model's files and `source_size` of the source's. `difference`
    maps outputs to how far they lie from the source's in fp32. `warnings` are what a user must
    know of a model though it is good, `notes` what stays in floating point, was balanced for int8,
    or pruned. `level` and `level_reason` say how far it was verified, `reason` why it failed. A
    pipeline has a `budget`.
    `fp32` is what it is compared with where it is not fp32.
    `rows_per_second` maps the sizes of batches that were measured to the rows a second in each.
    `gates` are the limits on score, size and latency that the spec sets. `folder` is where the
    published model lies, below the output: "cpu/models/digits". `search` found what to build,
    where the spec asked for one.
    """

    id: str
    name: str
    target: str
    version: str
    precision: str
    status: Status
    reason: str = ""
    size: int | None = None
    source_size: int | None = None
    score: Score | None = None
    difference: Mapping[str, Difference] = field(default_factory=dict)
    comparison: Comparison | None = None
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    latency: Latency | None = None
    fp32: Fp32 | None = None
    energy: Energy | None = None
    rows_per_second: Mapping[str, float] = field(default_factory=dict)
    confidence: Confidence | None = None
    level: str = ""
    level_reason: str = ""
    digest: str = ""
    budget: Budget | None = None
    ran: tuple[str, ...] = ()
    gates: tuple[Gate, ...] = ()
    folder: str = ""
    search: Search | None = None

    @property
    def good(self) -> bool:
        """Whether this model@target can be served."""
        return self.status in ("built", "cached")

    @property
    def relative(self) -> float | None:
        """The largest relative difference of any output; None where nothing was compared."""
        return max((one.relative for one in self.difference.values()), default=None)


@dataclass(frozen=True)
class Provenance:
    """When, where and with what a report was made.

    `at` is UTC, as "2026-01-31T12:00:00Z". `commit` is of the Git repository that holds the first
    spec, with "-dirty" where tracked files differ from it; "" where there is none. `tools` maps
    what shapes the models to versions.
    """

    at: str
    version: str
    python: str
    system: str
    cpu: str
    cores: int
    commit: str
    tools: Mapping[str, str]


@dataclass(frozen=True)
class Change:
    """How one model@target differs from the build before.

    `what`: new, gone, rebuilt, measured again, good again, no longer good. `figures` maps `size`
    (bytes), `score` and `p50_ms` to what it was and what it is; None where it is not known.
    """

    id: str
    what: str
    figures: Mapping[str, tuple[float | None, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Changes:
    """What the last build that changed something changed, since the one of `since` (UTC, or "")."""

    since: str
    models: tuple[Change, ...]


@dataclass(frozen=True)
class Report:
    """The whole build; `repositories` maps a target to its folder, digest, and whether it changed.

    `seconds` is the time of the whole build. `changes` is None in a first build.
    """

    rows: tuple[Row, ...]
    repositories: Mapping[str, Mapping[str, Any]]
    seconds: float
    provenance: Provenance | None = None
    changes: Changes | None = None

    @property
    def good(self) -> bool:
        """Whether every model@target can be served."""
        return all(row.good for row in self.rows)

    def over(self, before: Report) -> Report:
        """This report of a part of the targets or specs, with the other rows of the one before."""
        ours = {row.id: row for row in self.rows}
        kept = [ours.pop(row.id, row) for row in before.rows]
        repositories = {**before.repositories, **self.repositories}
        return replace(self, rows=(*kept, *ours.values()), repositories=repositories)

    def as_json(self) -> dict[str, Any]:
        """The report as plain JSON types."""
        plain: dict[str, Any] = _plain(self)
        return plain


def report_of(plain: Mapping[str, Any]) -> Report:
    """The report that `as_json` wrote; keys that this version does not know are left out.

    LookupError, TypeError or AttributeError where it is of another shape.
    """
    made: Report = _of(Report, plain)
    return made


def _of(kind: Any, plain: Any) -> Any:
    """A value of type `kind` from plain JSON types; dataclasses, tuples and mappings of those."""
    if plain is None:
        return None
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        (inner,) = (argument for argument in arguments if argument is not type(None))
        return _of(inner, plain)
    if origin is tuple:
        return tuple(_of(arguments[0], item) for item in plain)
    if origin is Mapping:
        return {key: _of(arguments[1], item) for key, item in plain.items()}
    if isinstance(kind, type) and is_dataclass(kind):
        types = _types(kind)
        return kind(**{name: _of(types[name], v) for name, v in plain.items() if name in types})
    return plain


@cache
def _types(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _plain(value: Any) -> Any:
    """As `dataclasses.asdict`, which takes four times as long: it copies every leaf."""
    if value is None or isinstance(value, (str, int, float)):
        return value
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    items = value.items() if isinstance(value, Mapping) else vars(value).items()
    return {key: _plain(item) for key, item in items}
