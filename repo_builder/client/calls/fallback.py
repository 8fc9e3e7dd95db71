"""Fallback to the cloud: which rows go there, whether they may, and what comes back.

No I/O: yields effects (see rules/effects.py).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.client.calls.catalog import Catalog
from repo_builder.client.errors import ClientError
from repo_builder.client.local.cloud_names import CloudNames
from repo_builder.client.metrics import Metrics
from repo_builder.client.models.confidence import Floats
from repo_builder.client.models.model import Model
from repo_builder.client.models.tensors import Batch
from repo_builder.client.options import Fallback
from repo_builder.client.rules.effects import Effects
from repo_builder.client.rules.failure import Failure
from repo_builder.client.rules.merge import fitting
from repo_builder.client.rules.routing import Upstream
from repo_builder.client.rules.token_bucket import TokenBucket

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.intp]
Run = Callable[..., "Effects[tuple[dict[str, Array], str] | Failure]"]

_log = logging.getLogger("repo_builder.client")

# The edge's answer still has to be handed back after the cloud was given up, in seconds.
_MARGIN = 0.005
_HOUR = 3600.0


@dataclass(slots=True)  # not frozen: see rules/effects.py
class CloudAnswer:
    """What the cloud answered: `rows`, their `outputs`, its version number; `why` any row it did
    not answer was not."""

    rows: Rows
    outputs: Mapping[str, Array]
    version: str
    why: str


class CloudFallback:
    """Sends unsure rows to the cloud, within what is allowed."""

    def __init__(
        self,
        options: Fallback,
        catalog: Catalog,
        run: Run,
        metrics: Metrics,
        clock: Callable[[], float],
    ) -> None:
        self._options, self._catalog, self._run = options, catalog, run
        self._cloud_names = CloudNames(options.memory)
        self._metrics, self._clock = metrics, clock
        self._lock = threading.Lock()
        self._warned: set[str] = set()
        rate, volume, cost = options.rows_per_second, options.bytes_per_hour, options.cost_per_hour
        # (bucket, units one row takes; None: its size in bytes)
        self._buckets: list[tuple[str, TokenBucket, float | None]] = []
        if rate is not None:
            self._buckets.append(("rate", TokenBucket(rate, max(1.0, rate)), 1.0))
        if volume is not None:
            self._buckets.append(("bytes", TokenBucket(volume / _HOUR, volume), None))
        if cost is not None:
            budget = TokenBucket(cost / _HOUR, cost)
            self._buckets.append(("cost", budget, options.cost_per_row))

    def scores(self, model: Model, outputs: Mapping[str, Array]) -> Floats | None:
        """One score per row, or None where the model has no policy and the application no score."""
        if self._options.score is not None:
            return np.asarray(self._options.score(outputs), np.float64).reshape(-1)
        return model.policy.scores(outputs) if model.policy else None

    def unsure(self, model: Model, scores: Floats) -> Rows:
        """The rows whose score is below the threshold, the least sure first."""
        threshold = self._options.threshold
        if threshold is None and model.policy is not None:
            threshold = model.policy.threshold
        sure = np.zeros(len(scores), np.bool_) if threshold is None else scores >= threshold
        rows = np.flatnonzero(~sure)
        return rows[np.argsort(scores[rows], kind="stable")]

    def request(
        self,
        cloud: Upstream,
        model: Model,
        batch: Batch,
        rows: Rows,
        like: Mapping[str, Array],
        deadline: float,
    ) -> Effects[CloudAnswer]:
        """Send `rows` of `batch` to `cloud`; `like` are the edge's outputs."""
        options = self._options
        end = deadline - _MARGIN
        if options.timeout is not None:
            end = min(end, self._clock() + options.timeout)
        name = self.cloud_name(model.name, model)
        cloud_model = yield from self._catalog.model(cloud, name, "", end, False)
        if isinstance(cloud_model, Failure):
            return self._unanswered("cloud", len(rows), f"cloud: {cloud_model}")
        names = {tensor.name for tensor in cloud_model.inputs} - options.never_send
        if private := self._needs_private(cloud_model):
            return self._unanswered("privacy", len(rows), private)
        allowed, reason = self._admit(rows, _row_bytes(batch, names))
        why = self._deny(reason, len(rows) - len(allowed), f"limit: {reason}") if reason else ""
        answered: list[Rows] = []
        parts: list[dict[str, Array]] = []
        version = ""
        step = cloud_model.max_rows if cloud_model.max_rows > 0 else max(1, len(allowed))
        for start in range(0, len(allowed), step):
            chunk = allowed[start : start + step]
            try:
                given = {k: v for k, v in batch.rows_of(chunk).items() if k in names}
                sent = cloud_model.batch(given)
                got = yield from self._run(cloud, cloud_model, sent, "", end, False)
                if isinstance(got, Failure):
                    why = self._deny("cloud", len(allowed) - start, f"cloud: {got}")
                    break
                outputs, version = got
                parts.append(fitting(cloud_model.name, outputs, like))
            except ClientError as error:
                # The two models do not fit: a mistake in the deployment, not in this call.
                self._warn(str(error))
                why = self._deny("mismatch", len(allowed) - start, str(error))
                break
            answered.append(chunk)
        if not answered:
            return CloudAnswer(np.zeros(0, np.intp), {}, "", why)
        merged = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
        return CloudAnswer(np.concatenate(answered), merged, version, why)

    def refusal(self, model: Model, batch: Batch) -> Failure | None:
        """Why a whole call may not go to the cloud's `model` (the edge being away), or None."""
        if private := self._needs_private(model):
            self._deny("privacy", batch.count, private)
            return Failure("FAILED_PRECONDITION", private)
        every: Rows = np.arange(batch.count)
        allowed, reason = self._admit(every, batch.nbytes / batch.count, whole=True)
        if len(allowed) < batch.count:
            self._deny(reason, batch.count, reason)
            return Failure("FAILED_PRECONDITION", f"limit: {reason}")
        return None

    def without_private(self, inputs: Any) -> Any:
        """`inputs` without what never leaves the device."""
        if self._options.never_send and isinstance(inputs, Mapping):
            return {k: v for k, v in inputs.items() if k not in self._options.never_send}
        return inputs

    def _needs_private(self, model: Model) -> str:
        needed = {t.name for t in model.inputs if not t.optional} & self._options.never_send
        if not needed:
            return ""
        names = ", ".join(f"'{name}'" for name in sorted(needed))
        return f"cloud model '{model.name}' needs {names}, which must never leave the device"

    def cloud_name(self, name: str, model: Model | None) -> str:
        """The cloud's name for an edge model; `model` None: the edge has not described it yet."""
        declared = _declared_cloud_model(model) if model else self._cloud_names.cloud_model(name)
        return self._options.models.get(name) or declared or name

    def remember(self, model: Model) -> None:
        """Keep what an edge model that has just answered says of the cloud's."""
        self._cloud_names.remember(model.name, _declared_cloud_model(model))

    def _admit(self, rows: Rows, each: float, whole: bool = False) -> tuple[Rows, str]:
        """As many of `rows`, of `each` bytes, from the first, as all buckets have room for.

        `whole`: all or none.
        """
        if not self._buckets:
            return rows, ""
        now = self._clock()
        with self._lock:
            fit, reason = len(rows), ""
            for name, bucket, units in self._buckets:
                room = int((bucket.available(now) + 1e-9) // (units or each or 1.0))
                if room < fit:
                    fit, reason = max(0, room), name
            if whole and fit < len(rows):
                fit = 0
            for _, bucket, units in self._buckets:
                bucket.take(fit * (units or each), now)
        return rows[:fit], reason

    def _unanswered(self, reason: str, rows: int, why: str) -> CloudAnswer:
        return CloudAnswer(np.zeros(0, np.intp), {}, "", self._deny(reason, rows, why))

    def _deny(self, reason: str, rows: int, why: str) -> str:
        self._metrics.count("fallback_denied_total", (("reason", reason),), rows)
        return why

    def _warn(self, text: str) -> None:
        if text not in self._warned and len(self._warned) < 100:
            self._warned.add(text)
            _log.warning("fallback is not possible: %s", text)


def _declared_cloud_model(model: Model) -> str:
    return model.policy.cloud_model if model.policy else ""


def _row_bytes(batch: Batch, names: set[str]) -> float:
    """The size in bytes of one row of the inputs `names`."""
    return sum(a.nbytes for name, a in batch.named().items() if name in names) / batch.count
