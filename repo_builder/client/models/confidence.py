"""How sure a model is of its answer, computed from the answer itself.

The build calibrates with these functions, the client decides with them; so both mean the same.
Every score is larger where the model is surer, one figure per row:

max_probability  the largest probability of the row
margin           the largest minus the second largest probability
entropy          1 - H(p) / log(K): 1 is one class for certain, 0 is all alike
energy           T * logsumexp(z / T), the negated free energy (Liu et al., NeurIPS 2020); unbounded
max_score        the largest score of all detections of an image; no temperature. Of the layout
                 `ultralytics`, [n, 4 + classes, k], the first four channels are boxes
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from repo_builder.client.models.policies import Activation, PolicyName, ScoreLayout

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]

_TINY = 1e-12
_BOX_CHANNELS = 4
"""Center x, center y, width, height."""


def logits_of(values: Array, activation: Activation) -> Floats:
    """`[n, ...]` to logits `[n, k]`; a single column is the second of two classes (sigmoid)."""
    flat = np.asarray(values, np.float64).reshape(len(values), -1)
    if activation == "probabilities":
        if flat.shape[1] == 1:
            flat = np.concatenate([1.0 - flat, flat], axis=1)
        return np.log(np.clip(flat, _TINY, None))
    if flat.shape[1] == 1:
        return np.concatenate([np.zeros_like(flat), flat], axis=1)
    return flat


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Probabilities `[n, k]` of logits `[n, k]` divided by `temperature`."""
    scaled = logits / temperature
    exponents = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return np.asarray(exponents / exponents.sum(axis=1, keepdims=True))


def score(
    policy: PolicyName,
    values: Array,
    activation: Activation,
    temperature: float = 1.0,
    layout: ScoreLayout = "scores",
) -> Floats:
    """One score per row of `values` `[n, ...]`; what each policy means stands at the top."""
    if policy == "max_score":
        scores = values[:, _BOX_CHANNELS:] if layout == "ultralytics" else values
        flat = np.asarray(scores, np.float64).reshape(len(values), -1)
        # An image without any detection has no score: not sure of anything.
        return flat.max(axis=1) if flat.shape[1] else np.zeros(len(values))
    logits = logits_of(values, activation)
    if policy == "energy":
        top = logits.max(axis=1, keepdims=True)
        sums = np.exp((logits - top) / temperature).sum(axis=1)
        return np.asarray(top[:, 0] + temperature * np.log(sums))
    probabilities = softmax(logits, temperature)
    if policy == "max_probability":
        return np.asarray(probabilities.max(axis=1))
    if policy == "margin":
        top_two = np.partition(probabilities, -2, axis=1)[:, -2:]
        return np.asarray(top_two[:, 1] - top_two[:, 0])
    entropy = -(probabilities * np.log(np.clip(probabilities, _TINY, None))).sum(axis=1)
    return np.asarray(1.0 - entropy / np.log(probabilities.shape[1]))


@dataclass(frozen=True)
class Policy:
    """When an answer is sure: `repo_builder.confidence` of a model's config.

    policy            how an answer is scored: `max_probability`, `margin`, `entropy`, `energy`,
                      `max_score`; larger where the model is surer
    output            what is scored
    activation        whether that has `logits` or `probabilities`
    temperature       logits are divided by it
    threshold         a row is sure where its score is at least this; None: none could be certified,
                      so no row is
    max_error         the promise it was chosen for: share of wrong answers among the sure; None
                      where the threshold was set by hand
    confidence_level  how certain the promise is, from 0 to 1
    coverage          share of sure rows on the calibration data
    digest            of the artifact that was calibrated
    cloud_model       that unsure rows go to; "": of the same name
    layout            where `max_score` finds scores: `scores`, or `ultralytics`, behind 4 channels
                      of boxes

    Raises ValueError for a policy, activation, layout or temperature that is none.
    """

    policy: PolicyName
    output: str
    activation: Activation = "logits"
    temperature: float = 1.0
    threshold: float | None = None
    max_error: float | None = None
    confidence_level: float | None = None
    coverage: float | None = None
    digest: str = ""
    cloud_model: str = ""
    layout: ScoreLayout = "scores"

    def __post_init__(self) -> None:
        if self.policy not in get_args(PolicyName):
            raise ValueError(f"confidence policy {self.policy!r}: not one of {PolicyName}")
        if self.activation not in get_args(Activation):
            raise ValueError(f"activation {self.activation!r}: not one of {Activation}")
        if self.layout not in get_args(ScoreLayout):
            raise ValueError(f"layout {self.layout!r}: not one of {ScoreLayout}")
        if not self.temperature > 0:
            raise ValueError(f"temperature {self.temperature}: must be above 0")

    def scores(self, outputs: Mapping[str, Array]) -> Floats:
        """One score per row of outputs, name -> `[n, ...]`. Raises KeyError without `output`."""
        values = outputs[self.output]
        return score(self.policy, values, self.activation, self.temperature, self.layout)

    def sure(self, scores: Floats) -> npt.NDArray[np.bool_]:
        """Which rows are sure. A score that is not a number is not."""
        if self.threshold is None:
            return np.zeros(len(scores), np.bool_)
        return np.asarray(scores >= self.threshold)

    def to_json(self) -> str:
        """The text of the config parameter."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> Policy:
        """Read the config parameter. Keys of later versions are passed over."""
        raw = json.loads(text)
        known = {key: raw[key] for key in cls.__dataclass_fields__ if key in raw}
        return cls(**known)
