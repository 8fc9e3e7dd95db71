"""Chooses when an edge model's answer is sure enough: temperature, threshold, and what they cost.

Pure numpy. Scores are those of `repo_builder.client.models.confidence`, which the client computes
too.

The promise: with probability `confidence_level` over the draw of the labelled samples, the share of
wrong answers among those that the edge keeps is at most `max_error`. It is kept by fixed-sequence
testing (Learn then Test, Angelopoulos et al. 2021, arXiv 2110.01052) with the exact binomial test
behind Clopper and Pearson's bound. It assumes that the device will see data like the samples
(exchangeable): drift voids it. Taking the threshold that merely looks best on the samples breaks it
in a third of cases or more.

One part of the samples fits the temperature and orders the thresholds, the other, independent of
both, tests them; that is what makes the test exact.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.client.models.confidence import Floats, Policy, logits_of, score, softmax
from repo_builder.client.models.policies import Activation, PolicyName

Bools = npt.NDArray[np.bool_]

_TUNE_SHARE = 0.25
_DOUBT = 0.8
"""Confidence of the error that a threshold is expected to have: not the luck of the tuned rows."""
_SAFE = 0.4
"""A share of the test's level: testing begins where failing is expected to be less likely."""
_LEVELS = 60
_SEED = 20_190_617


@dataclass(frozen=True)
class Certified:
    """A threshold and what the tested part of the samples says of it.

    `threshold` None: no threshold keeps the promise, the edge is never sure. `kept` of `samples`
    were sure, `errors` of those wrong; `bound` is the upper confidence bound of their error rate.
    `warning` says so where the samples are too few.
    """

    threshold: float | None
    samples: int
    kept: int
    errors: int
    bound: float
    warning: str = ""

    @property
    def coverage(self) -> float:
        """The share of sure rows."""
        return self.kept / self.samples if self.samples else 0.0


@dataclass(frozen=True)
class FrontierPoint:
    """What one threshold gives: shares of all rows, seconds and cost per row on average."""

    threshold: float
    coverage: float
    edge_error: float
    total_error: float
    latency: float
    cost: float


def fit_temperature(logits: Floats, labels: npt.NDArray[Any]) -> float:
    """The temperature with the least negative log likelihood (Guo et al., ICML 2017).

    `logits` [n, k], `labels` [n]. Golden-section search over log T in [1/20, 20].
    """
    if len(labels) == 0:
        raise ValueError("no samples to fit a temperature to")
    rows = np.arange(len(labels))

    def loss(log_t: float) -> float:
        probabilities = softmax(logits, math.exp(log_t))[rows, labels]
        return float(-np.log(np.clip(probabilities, 1e-300, None)).mean())

    low, high = -math.log(20.0), math.log(20.0)
    ratio = (math.sqrt(5) - 1) / 2
    a, b = high - ratio * (high - low), low + ratio * (high - low)
    loss_a, loss_b = loss(a), loss(b)
    for _ in range(60):
        if loss_a <= loss_b:
            high, b, loss_b = b, a, loss_a
            a = high - ratio * (high - low)
            loss_a = loss(a)
        else:
            low, a, loss_a = a, b, loss_b
            b = low + ratio * (high - low)
            loss_b = loss(b)
    return math.exp((low + high) / 2)


def binomial_cdf(k: int, n: int, p: float) -> float:
    """P(X <= k) for X ~ Binomial(n, p), summed in log space."""
    if k >= n or p <= 0.0:
        return 1.0
    if k < 0 or p >= 1.0:
        return 0.0
    i = np.arange(1, k + 1)
    log_choose = np.concatenate([[0.0], np.cumsum(np.log(n - i + 1.0) - np.log(i))])
    i = np.arange(k + 1)
    terms = log_choose + i * math.log(p) + (n - i) * math.log1p(-p)
    top = float(terms.max())
    return min(1.0, math.exp(top) * float(np.exp(terms - top).sum()))


def clopper_pearson_upper(errors: int, n: int, confidence_level: float) -> float:
    """The largest error rate that `errors` of `n` do not speak against: the p at which no more
    than `errors` still happen with probability 1 - `confidence_level` (one-sided)."""
    if errors >= n:
        return 1.0
    low, high = errors / n, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        if binomial_cdf(errors, n, middle) > 1 - confidence_level:
            low = middle
        else:
            high = middle
    return high


def samples_needed(max_error: float, confidence_level: float) -> int:
    """How many sure samples without a single error it takes to promise anything."""
    return math.ceil(math.log(1 - confidence_level) / math.log1p(-max_error))


def split(n: int) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """Sample numbers to tune on and to test on; the same for the same `n`, on every machine."""
    order = np.random.default_rng(_SEED).permutation(n)
    tune = int(n * _TUNE_SHARE)
    return order[:tune], order[tune:]


def certify(
    tune: tuple[Floats, Bools],
    test: tuple[Floats, Bools],
    *,
    max_error: float,
    confidence_level: float,
) -> Certified:
    """The lowest threshold that keeps the promise. `tune` and `test` are (scores, correct).

    `tune` proposes thresholds and where to begin: the highest that is safe to pass, or where none
    is, the likeliest to pass. From there it goes down, more rows kept each time, and ends at the
    first that fails. (Beginning at the likeliest alone begins where `tune` was luckiest, and one
    error more in `test` then ended it at once: in 3 of 30 draws of 1,000 rows.)
    """
    if not (0 < max_error < 1 and 0 < confidence_level < 1):
        raise ValueError("max_error and confidence_level are between 0 and 1")
    scores, correct = test
    n = len(scores)
    alpha = 1 - confidence_level
    needed = samples_needed(max_error, confidence_level)
    few = (
        f"{n} samples are too few to promise an error of at most {max_error:.2%} with "
        f"{confidence_level:.0%} confidence: it takes {needed} sure ones without a single error"
    )
    nothing = Certified(None, n, 0, 0, 1.0, few if n < needed else "")
    if len(tune[0]) == 0 or n < needed:
        return nothing
    levels = np.unique(np.quantile(tune[0], np.linspace(0, 1, _LEVELS)))[::-1]
    growth = n / len(tune[0])
    hopes = []
    for level in levels:
        kept, errors = _count(tune, level)
        rate = clopper_pearson_upper(errors, kept, _DOUBT) if kept else 1.0
        size = int(kept * growth)
        hopes.append(binomial_cdf(int(rate * size), size, max_error) if size else 1.0)
    safe = [place for place, hope in enumerate(hopes) if hope <= _SAFE * alpha]
    best: Certified | None = None
    for level in levels[safe[0] if safe else int(np.argmin(hopes)) :]:
        kept, errors = _count((scores, correct), level)
        if kept == 0 or binomial_cdf(errors, kept, max_error) > alpha:
            break
        bound = clopper_pearson_upper(errors, kept, confidence_level)
        best = Certified(float(level), n, kept, errors, bound)
    if best is None:
        reason = f"no threshold keeps an error of at most {max_error:.2%} on {n} samples"
        return Certified(None, n, 0, 0, 1.0, reason + "; the edge will never be sure")
    return best


def calibrate(
    values: npt.NDArray[Any],
    labels: npt.NDArray[Any],
    *,
    output: str,
    digest: str,
    policy: PolicyName = "max_probability",
    activation: Activation = "logits",
    max_error: float | None = None,
    confidence_level: float = 0.95,
    threshold: float | None = None,
    cloud_model: str = "",
) -> tuple[Policy, Certified]:
    """The policy to ship with a classifier, from its own output `values` [n, k] on held-out data.

    `values` come from the artifact that is deployed, whose digest is `digest`; `labels` [n] are
    class numbers. Give `max_error` for a promise, or `threshold` for a fixed one, which promises
    nothing; its bound is reported all the same.
    """
    if (max_error is None) == (threshold is None):
        raise ValueError("give either max_error or threshold")
    logits = logits_of(values, activation)
    if len(labels) != len(logits):
        raise ValueError(f"{len(logits)} outputs, {len(labels)} labels")
    tune, test = split(len(labels))
    temperature = 1.0 if policy == "max_score" else fit_temperature(logits[tune], labels[tune])
    scores = score(policy, values, activation, temperature)
    correct = logits.argmax(axis=1) == labels
    if max_error is not None:
        found = certify(
            (scores[tune], correct[tune]),
            (scores[test], correct[test]),
            max_error=max_error,
            confidence_level=confidence_level,
        )
    else:
        assert threshold is not None  # noqa: S101
        kept, errors = _count((scores[test], correct[test]), threshold)
        bound = clopper_pearson_upper(errors, kept, confidence_level) if kept else 1.0
        found = Certified(threshold, len(test), kept, errors, bound)
    shipped = Policy(
        policy=policy,
        output=output,
        activation=activation,
        temperature=temperature,
        threshold=found.threshold,
        max_error=max_error,
        confidence_level=confidence_level if max_error is not None else None,
        coverage=found.coverage,
        digest=digest,
        cloud_model=cloud_model,
    )
    return shipped, found


def frontier(
    scores: Floats,
    edge_correct: Bools,
    cloud_correct: Bools,
    *,
    edge_latency: float,
    cloud_latency: float,
    cloud_cost: float = 0.0,
    points: int = 41,
    at: Sequence[float] = (),
) -> list[FrontierPoint]:
    """What each threshold would give, from all rows at the edge to none; or each of those `at`.

    A row that falls back pays both latencies. Latencies in seconds; `cloud_cost` is per row, in
    whatever unit the caller counts.
    """
    levels = np.unique(np.quantile(scores, np.linspace(0, 1, points - 1)))
    out = []
    for level in at or (*levels, np.nextafter(scores.max(), np.inf)):
        kept = scores >= level
        coverage = float(kept.mean())
        wrong = float((~edge_correct[kept]).mean()) if kept.any() else 0.0
        total = float(np.where(kept, ~edge_correct, ~cloud_correct).mean())
        away = 1 - coverage
        latency = edge_latency + away * cloud_latency
        out.append(FrontierPoint(float(level), coverage, wrong, total, latency, away * cloud_cost))
    return out


def _count(samples: tuple[Floats, Bools], threshold: float) -> tuple[int, int]:
    """How many are sure at `threshold`, and how many of those are wrong."""
    scores, correct = samples
    kept = scores >= threshold
    return int(kept.sum()), int((kept & ~correct).sum())
