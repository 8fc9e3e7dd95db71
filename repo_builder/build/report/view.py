"""What the page and the Markdown show of a report: texts and figures, not yet how they look."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from repo_builder.base import console
from repo_builder.build.report import across, causes
from repo_builder.build.report.causes import Cause
from repo_builder.build.report.types import Change, Changes, Gate, Report, Row, Score
from repo_builder.spec.metrics import IN_POINTS

LEVELS = {
    "executed": "ran in the runtime that serves it",
    "simulated": "ran in the maker's simulator, or in kernels that round as the device does",
    "compiled": "the maker's compiler took it; what ran is the model it was compiled from",
    "prepared": "waits for hardware that was not here; what ran instead is told in its details",
}
"""How far a result was verified, the furthest first: docs/proof.md."""

_GATES = {
    "max_accuracy_drop": "drop",
    "max_size_mb": "size",
    "max_latency_ms": "latency",
    "latency_budget_ms": "budget",
    "latency_budget_ms.preprocess": "budget of preprocess",
    "latency_budget_ms.infer": "budget of infer",
    "latency_budget_ms.postprocess": "budget of postprocess",
}

_NEGLIGIBLE = 1000
"""A figure below its limit over this is shown as 0."""


@dataclass(frozen=True)
class Verdict:
    """The build in one word for its colour (`good`, `held`, `bad`), one sentence, and notes."""

    state: str
    sentence: str
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Line:
    """One target of a model. Texts are "" where there is nothing to say.

    `state` is `good`, `held` (by a gate) or `bad`; `number` names it in the model's plots.
    `smaller` and `faster` are against fp32, `change` of the score too. `where` and `manifest` are
    paths below the output, `serve` says how to serve it.
    """

    row: Row
    number: int
    state: str
    status: str
    size: str
    latency: str
    conditions: str
    smaller: str
    faster: str
    score: str
    change: str
    gates: tuple[Margin, ...]
    where: str
    manifest: str
    serve: str


@dataclass(frozen=True)
class Margin:
    """A gate in words, and how much of its limit is used, from 0 to 1."""

    text: str
    used: float
    held: bool


@dataclass(frozen=True)
class Card:
    """One model with its targets; `facts` say what holds for all of them.

    `notes` are those of its rows, each with the targets that it holds for: "cpu, jetson-nano".
    """

    name: str
    facts: tuple[str, ...]
    lines: tuple[Line, ...]
    notes: tuple[tuple[str, str], ...]

    @property
    def good(self) -> int:
        """How many of its targets can be served."""
        return sum(line.row.good for line in self.lines)


@dataclass(frozen=True)
class View:
    """A report as people read it."""

    verdict: Verdict
    causes: tuple[Cause, ...]
    changes: Changes | None
    cards: tuple[Card, ...]
    about: tuple[tuple[str, str], ...]


def of(report: Report) -> View:
    """The whole view."""
    found = causes.of(report)
    cards: dict[str, list[Row]] = {}
    for row in report.rows:
        cards.setdefault(row.name, []).append(row)
    return View(
        _verdict(report, found),
        found,
        report.changes,
        tuple(_card(name, rows, report) for name, rows in cards.items()),
        _about(report),
    )


def _verdict(report: Report, found: tuple[Cause, ...]) -> Verdict:
    rows = report.rows
    good = sum(row.good for row in rows)
    gated = sum(row.status == "gate failed" for row in rows)
    failed = len(rows) - good - gated
    notes = [*_gains(rows)]
    if gated or failed:
        parts = ((gated, "held back by a gate"), (failed, "failed"))
        what = ", ".join(f"{number} {how}" for number, how in parts if number)
        notes.append(f"{what}, for {_count(len(found), 'cause')}; what was published before stays")
    if doubtful := sum(bool(row.latency and row.latency.doubt) for row in rows):
        notes.append(
            f"{_count(doubtful, 'latency', 'latencies')} not to be trusted: measured on a busy "
            "machine; build --measure-again while it is quiet"
        )
    warned = sum(bool(row.warnings) for row in rows)
    if warned:
        notes.append(f"{warned} with warnings")
    models = len({row.name for row in rows})
    if not rows:
        return Verdict("held", "Nothing was built", ())
    what = f"{_count(len(rows), 'variant')} of {_count(models, 'model')} can be served"
    if good == len(rows):
        return Verdict("good", what if good == 1 else f"All {what}", tuple(notes))
    return Verdict("bad" if failed else "held", f"{good} of {what}", tuple(notes))


def _gains(rows: tuple[Row, ...]) -> list[str]:
    """What is gained and lost against fp32, over all that can be served and is not fp32."""
    compared = [(row, row.fp32) for row in rows if row.good and row.fp32]
    if not compared:
        return []
    size = times(statistics.median(fp32.smaller for _, fp32 in compared), "smaller", "larger")
    said = "same size" if size == "same" else size
    timed = [(fp32.faster, row.latency) for row, fp32 in compared if fp32.faster]
    if timed:
        speed = times(statistics.median(ratio for ratio, _ in timed), "faster", "slower")
        doubt = " ?" if any(latency and latency.doubt for _, latency in timed) else ""
        said += f", {'same speed' if speed == 'same' else speed}{doubt}"
    changes = [
        (fp32.score_change, row.score.metric)
        for row, fp32 in compared
        if row.score and row.score.metric in IN_POINTS and fp32.score_change is not None
    ]
    worst = f"; worst score {change(min(changes)[1], min(changes)[0])}" if changes else ""
    return [f"Beside fp32, median of {_count(len(compared), 'variant')}: {said}{worst}"]


def _card(name: str, rows: list[Row], report: Report) -> Card:
    facts = [f"version {', '.join(dict.fromkeys(row.version for row in rows))}"]
    if source := next((row.source_size for row in rows if row.source_size is not None), None):
        facts.append(f"source {console.megabytes(source)}")
    if score := next((row.score for row in rows if row.score), None):
        facts.append(f"{score.metric} of the source in fp32 {score.source:.4f}")
    if runtimes := across.best(rows):
        facts.append(runtimes)
    lines = tuple(_line(number, row, report) for number, row in enumerate(rows, 1))
    notes: dict[str, list[str]] = {}
    for row in rows:
        for note in row.notes:
            notes.setdefault(note, []).append(row.target)
    said = tuple((", ".join(targets), note) for note, targets in notes.items())
    return Card(name, tuple(facts), lines, said)


def _line(number: int, row: Row, report: Report) -> Line:
    fp32, latency, score = row.fp32, row.latency, row.score
    state = "good" if row.good else "held" if row.status == "gate failed" else "bad"
    published = report.repositories.get(row.target, {})
    doubt = " ?" if latency and latency.doubt else ""
    return Line(
        row,
        number,
        state,
        {"cached": "ready", "built": "ready, new"}.get(row.status, row.status),
        console.megabytes(row.size) if row.size is not None else "",
        ms(latency.p50_ms) + doubt if latency else "",
        _conditions(row),
        times(fp32.smaller, "smaller", "larger") if fp32 else "",
        times(fp32.faster, "faster", "slower") + doubt if fp32 and fp32.faster else "",
        f"{score.built:.4f}" if score else "",
        _beside(row),
        tuple(_margin(gate) for gate in row.gates),
        row.folder,
        f"{row.target}/manifest.json" if published else "",
        _serve(row, published.get("folder", "")),
    )


def _serve(row: Row, folder: object) -> str:
    if not row.folder or not folder:
        return ""
    if f"{row.target}/bundles/" in f"{row.folder}/":
        return f"build {row.folder} into the firmware"
    command = f"repo-builder serve {folder}"
    return command if row.level in ("executed", "") else f"on the device: {command}"


def _beside(row: Row) -> str:
    """The change of the score: against fp32 in the same runtime, or else against the source."""
    if row.score is None:
        return ""
    found = row.fp32.score_change if row.fp32 else None
    against_source = row.score.built - row.score.source
    if found is not None and found != against_source:
        return change(row.score.metric, found)
    return change(row.score.metric, against_source) + _interval(row.score)


def _interval(score: Score) -> str:
    """ " (-0.60 to +0.35)", in the unit of the change, as far as the rows can tell."""
    if score.interval is None:
        return ""
    better_is_more = (score.built - score.source) * score.drop <= 0
    ends = [-end for end in reversed(score.interval)] if better_is_more else list(score.interval)
    scale = 100 if score.metric in IN_POINTS else 1
    low, high = (f"{end * scale:+.2g}" for end in ends)
    return f" ({low} to {high})"


def _conditions(row: Row) -> str:
    """Where, when and how quietly a latency was measured."""
    found = row.latency
    if found is None:
        return ""
    parts = [f"95 % within {ms(found.p95_ms)}"]
    if found.cpu:
        parts.append(f"{found.cpu}, {_count(found.cores, 'core')}")
    if found.at:
        parts.append(day(found.at))
    if found.load is not None:
        parts.append(f"others used {found.load:.0%}")
    parts.append(f"spread {found.spread:.0%}")
    if row.energy is not None:
        less = f", {row.energy.less[1]:.2g}x less than fp32" if row.energy.less else ""
        parts.append(f"{1e3 * row.energy.joules:.3g} mJ a request{less}")
        if row.energy.doubt:
            parts.append(f"energy not to be trusted: {row.energy.doubt}")
    if found.doubt:
        parts.append(f"not to be trusted: {found.doubt}")
    return ", ".join(parts)


def _margin(gate: Gate) -> Margin:
    unit = f" {gate.unit}" if gate.unit else ""
    name = _GATES.get(gate.name, gate.name)
    if gate.confidence is not None:
        name += f" with {gate.confidence:.3g} confidence"
    if gate.measured is None or gate.margin is None:
        if gate.doubt:
            return Margin(f"{name} up to {gate.limit:g}{unit}: {gate.doubt}", 1.0, held=False)
        return Margin(f"{name} up to {gate.limit:g}{unit}: not measured", 0.0, held=True)
    seen = 0.0 if abs(gate.measured) < gate.limit / _NEGLIGIBLE else gate.measured
    text = f"{name} {seen:.2g} of {gate.limit:g}{unit}"
    used = gate.measured / gate.limit if gate.limit > 0 else float(gate.measured > 0)
    if gate.doubt:
        text += ", not to be trusted"
    elif not gate.held:
        text += f", {-gate.margin:.2g}{unit} too much"
    else:
        text += f", {min(1.0, 1 - used):.0%} left"
    return Margin(text, 1.0 if math.isnan(used) else max(0.0, min(1.0, used)), gate.held)


def _about(report: Report) -> tuple[tuple[str, str], ...]:
    found = report.provenance
    took = ("took", console.seconds(report.seconds))
    if found is None:
        return (took,)
    facts = [
        ("built", day(found.at)),
        took,
        ("commit", found.commit or "not known: no Git repository"),
        ("machine", f"{found.cpu}, {_count(found.cores, 'core')}, {found.system}"),
        ("tools", ", ".join(f"{name} {version}" for name, version in found.tools.items())),
        ("made by", f"repo-builder {found.version}, Python {found.python}"),
    ]
    return tuple((name, text) for name, text in facts if text)


def higher_is_better(card: Card) -> bool:
    """Whether more of the model's metric is better, as its drops tell; True where none differs."""
    signs = [
        (line.row.score.built - line.row.score.source) * line.row.score.drop
        for line in card.lines
        if line.row.score and line.row.score.drop
    ]
    return not signs or signs[0] <= 0


def figures(one: Change) -> list[tuple[str, str, str]]:
    """The figures of a change: name, what it was, what it is; "" where it is not known."""
    found = []
    for name, key, text in _CHANGING:
        before, now = (
            "" if value is None else text(value) for value in one.figures.get(key, (None, None))
        )
        if before or now:
            found.append((name, "" if before == now else before, now))
    return found


def day(at: str) -> str:
    """ "2026-01-31T12:00:00Z" as "2026-01-31 12:00 UTC"."""
    return f"{at[:10]} {at[11:16]} UTC" if len(at) == 20 else at


def ms(value: float) -> str:
    """Milliseconds with three figures: "0.0123 ms", "1.25 ms", "130 ms"."""
    return f"{value:#.3g}".rstrip(".") + " ms" if value < 1000 else f"{value:,.0f} ms"


_CHANGING: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("size", "size", console.megabytes),
    ("score", "score", "{:.4f}".format),
    ("latency", "p50_ms", ms),
)


def times(ratio: float, more: str, less: str) -> str:
    """A ratio as "3.2x smaller", from 1 on whatever its way; "same" within 5 %."""
    shown = max(ratio, 1 / ratio) if ratio > 0 else math.inf
    if shown <= 1.05:
        return "same"
    text = f"{shown:.0f}" if shown >= 10 else f"{shown:.2g}" if shown >= 1.1 else f"{shown:.2f}"
    return f"{text}x {more if ratio > 1 else less}"


def change(metric: str, difference: float) -> str:
    """A change of score: in points where a hundredth is one, else in the metric's own unit."""
    if metric in IN_POINTS:
        points = difference * 100
        return "same" if abs(points) < 0.005 else f"{points:+.2f} points"
    return f"{difference:+.2g}" if difference else "same"


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
