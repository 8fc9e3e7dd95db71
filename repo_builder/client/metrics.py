"""Counters and histograms of a client, as a plain snapshot, Prometheus text, or OpenTelemetry.

Names are Prometheus': `repo_builder_client_calls_total{model="digits",source="edge"}`.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterable, Sequence
from typing import Any

Labels = tuple[tuple[str, str], ...]
Key = tuple[str, Labels]

# Upper bounds in seconds, from 0.1 ms to 26 s, each twice the one before: a quantile read from
# them is at most a factor of two off.
BUCKETS = tuple(0.0001 * 2**i for i in range(19))

HELP = {
    "calls_total": "Calls that were answered, by source of the answer.",
    "rows_total": "Rows that were answered, by source of the answer.",
    "errors_total": "Calls that raised, by error.",
    "attempts_total": "Requests sent to a server, by outcome.",
    "retries_total": "Requests that were repeats.",
    "hedges_total": "Requests sent to a second server because the first was slow.",
    "shed_total": "Calls refused because the client's queue was full.",
    "fallback_denied_total": "Unsure rows that did not reach the cloud, by reason.",
    "cache_lookups_total": "Rows looked up in the cache, by result.",
    "shared_memory_bytes_total": "Bytes that went through shared memory.",
    "collected_total": "Samples handed to the collector, by result.",
    "call_seconds": "Time of answered calls, by source of the answer.",
    "stage_seconds": "Time per stage of a call.",
    "breaker_open": "1 where a server's breaker is not closed.",
    "breaker_opened_total": "How often a server's breaker opened.",
    "inflight": "Requests under way, by server.",
    "queue": "Calls that wait for their turn.",
}


class Metrics:
    """All figures of one client. Thread-safe. Times are in seconds."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counters: dict[Key, float] = {}
        self._histograms: dict[Key, list[float]] = {}
        self._answered: dict[tuple[str, str], list[float]] = {}
        self._gauges: list[Callable[[], Iterable[tuple[str, Labels, float]]]] = []

    def count(self, name: str, labels: Labels = (), amount: float = 1.0) -> None:
        """Add to a counter."""
        key = (name, labels)
        with self._lock:
            self._counters[key] = self._counters.get(key, 0.0) + amount

    def answered(self, model: str, source: str, rows: Sequence[str], seconds: float) -> None:
        """One call came back: all that is counted of it, in one go. `rows`: each row's source."""
        key = (model, source)
        cells = self._answered.get(key)
        with self._lock:
            if cells is None:
                cells = self._answered.setdefault(key, [0.0] * (len(BUCKETS) + 4))
            cells[0] += 1
            cells[1] += len(rows)
            cells[2 + bisect_left(BUCKETS, seconds)] += 1
            cells[-1] += seconds
        if source == "mixed":
            for one in set(rows):
                self.count("rows_total", (("model", model), ("source", one)), rows.count(one))

    def observe(self, name: str, labels: Labels, seconds: float) -> None:
        """Add to a histogram: counts per bucket, then the count above all, then the sum."""
        key = (name, labels)
        with self._lock:
            cells = self._histograms.get(key)
            if cells is None:
                cells = self._histograms[key] = [0.0] * (len(BUCKETS) + 2)
            cells[bisect_left(BUCKETS, seconds)] += 1
            cells[-1] += seconds

    def gauges(self, read: Callable[[], Iterable[tuple[str, Labels, float]]]) -> None:
        """Ask `read` for further figures whenever a snapshot is taken."""
        self._gauges.append(read)

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain values that JSON can hold.

        `name{label="value"}` -> figure; a histogram is {count, sum, p50, p95, p99, buckets}.
        """
        counters, histograms = self._read()
        out: dict[str, Any] = {_key(name, labels): value for (name, labels), value in counters}
        for (name, labels), cells in histograms:
            out[_key(name, labels)] = {
                "count": sum(cells[:-1]),
                "sum": cells[-1],
                **{f"p{q}": quantile(cells, q / 100) for q in (50, 95, 99)},
                "buckets": cells[:-1],
            }
        return dict(sorted(out.items()))

    def prometheus(self) -> str:
        """Everything in Prometheus' text format, version 0.0.4."""
        counters, histograms = self._read()
        lines: list[str] = []
        named = ""
        for (name, labels), value in sorted(counters):
            if name != named:
                named, kind = name, "counter" if name.endswith("_total") else "gauge"
                lines += (f"# HELP {_full(name)} {HELP[name]}", f"# TYPE {_full(name)} {kind}")
            lines.append(f"{_full(name)}{_braces(labels)} {value:g}")
        for (name, labels), cells in sorted(histograms):
            if name != named:
                named = name
                lines += (f"# HELP {_full(name)} {HELP[name]}", f"# TYPE {_full(name)} histogram")
            total = 0.0
            for bound, cell in zip((*BUCKETS, None), cells, strict=False):
                total += cell
                edge = (("le", "+Inf" if bound is None else f"{bound:g}"),)
                lines.append(f"{_full(name)}_bucket{_braces(labels + edge)} {total:g}")
            lines.append(f"{_full(name)}_sum{_braces(labels)} {cells[-1]:g}")
            lines.append(f"{_full(name)}_count{_braces(labels)} {total:g}")
        return "\n".join(lines) + "\n"

    def opentelemetry(self, meter: Any) -> None:
        """Publish everything through an OpenTelemetry `Meter`, from then on.

        Counters and gauges as observable instruments; of a histogram, its count and sum (the
        specification has no observable histogram), from which a backend takes the mean. Raises
        ImportError without the package `opentelemetry-api`.
        """
        from opentelemetry.metrics import Observation

        def reader(name: str) -> Callable[[Any], list[Any]]:
            def read(_: Any) -> list[Any]:
                counters, histograms = self._read()
                flat = list(counters)
                for (stage, labels), cells in histograms:
                    flat.append(((f"{stage}_count", labels), sum(cells[:-1])))
                    flat.append(((f"{stage}_sum", labels), cells[-1]))
                return [Observation(v, dict(labels)) for (n, labels), v in flat if n == name]

            return read

        for name, text in HELP.items():
            if name.endswith("_seconds"):
                for part in ("count", "sum"):
                    full = f"{name}_{part}"
                    meter.create_observable_counter(
                        _full(full), callbacks=[reader(full)], description=text
                    )
            elif name.endswith("_total"):
                meter.create_observable_counter(
                    _full(name), callbacks=[reader(name)], description=text
                )
            else:
                meter.create_observable_gauge(
                    _full(name), callbacks=[reader(name)], description=text
                )

    def _read(self) -> tuple[list[tuple[Key, float]], list[tuple[Key, list[float]]]]:
        with self._lock:
            totals = dict(self._counters)
            histograms = [(key, list(cells)) for key, cells in self._histograms.items()]
            answered = [(key, list(cells)) for key, cells in self._answered.items()]
        for (model, source), cells in answered:
            labels: Labels = (("model", model), ("source", source))
            totals["calls_total", labels] = cells[0]
            if source != "mixed":
                rows = totals.get(("rows_total", labels), 0.0)
                totals["rows_total", labels] = rows + cells[1]
            histograms.append((("call_seconds", labels), cells[2:]))
        for read in self._gauges:
            totals.update({(name, labels): value for name, labels, value in read()})
        return list(totals.items()), histograms


def quantile(cells: list[float], q: float) -> float:
    """The upper bound, in seconds, of the bucket that the quantile lies in."""
    wanted, seen = q * sum(cells[:-1]), 0.0
    for bound, cell in zip(BUCKETS, cells, strict=False):
        seen += cell
        if seen >= wanted:
            return float(bound)
    return float("inf")


def _full(name: str) -> str:
    return f"repo_builder_client_{name}"


def _braces(labels: Labels) -> str:
    if not labels:
        return ""
    escaped = (
        (k, v.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")) for k, v in labels
    )
    return "{" + ",".join(f'{k}="{v}"' for k, v in escaped) + "}"


def _key(name: str, labels: Labels) -> str:
    return name + _braces(labels)
