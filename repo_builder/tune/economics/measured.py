"""The share of rows that fell back to the cloud, from a client's metrics."""

from __future__ import annotations

import math
import re

from repo_builder.base import statistics
from repo_builder.base.errors import DataError
from repo_builder.tune.economics.model import Range

_ROWS = re.compile(r"^repo_builder_client_rows_total\{([^}]*)\} ([0-9.eE+]+)(?: \d+)?$", re.M)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')
_CLOUD = {"cloud"}
_ASKED_IN_VAIN = {"edge-unverified"}


def fallback_share(text: str, where: str, model: str | None = None) -> Range:
    """The share of rows in Prometheus' text that the cloud answered, with Wilson's 95 % interval.

    Rows for which the cloud was asked in vain count at the high end: their transport was paid.
    DataError where `where` has no rows (of `model`), or rows of several models and none is named.
    """
    rows: dict[str, dict[str, float]] = {}
    for found in _ROWS.finditer(text):
        labels = dict(_LABEL.findall(found[1]))
        counts = rows.setdefault(labels.get("model", ""), {})
        source = labels.get("source", "")
        counts[source] = counts.get(source, 0.0) + float(found[2])
    if model is not None and model not in rows:
        known = ", ".join(sorted(rows)) or "no model"
        raise DataError(f"{where}: no rows of '{model}', but of {known}")
    if not rows:
        raise DataError(f"{where}: no repo_builder_client_rows_total; is it a client's metrics?")
    if model is None and len(rows) > 1:
        raise DataError(f"{where}: rows of {', '.join(sorted(rows))}; name one with --model")
    counts = rows[model if model is not None else next(iter(rows))]
    total = sum(counts.values())
    if total < 1:
        raise DataError(f"{where}: no row was answered yet")
    cloud = sum(count for source, count in counts.items() if source in _CLOUD)
    vain = sum(count for source, count in counts.items() if source in _ASKED_IN_VAIN)
    return Range(_wilson(cloud, total, -1), cloud / total, _wilson(cloud + vain, total, 1))


def _wilson(part: float, total: float, side: int) -> float:
    """An end of Wilson's score interval for a proportion (Wilson, JASA 22, 1927)."""
    z, p = statistics.quantile(0.95), part / total
    middle = p + z * z / (2 * total)
    half = z * math.sqrt(p * (1 - p) / total + z * z / (4 * total * total))
    return min(1.0, max(0.0, (middle + side * half) / (1 + z * z / total)))
