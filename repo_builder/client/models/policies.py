"""Names of what a policy may be, without the arithmetic: planning a build needs no numpy."""

from __future__ import annotations

from typing import Literal

PolicyName = Literal["max_probability", "margin", "entropy", "energy", "max_score"]
Activation = Literal["logits", "probabilities"]
ScoreLayout = Literal["scores", "ultralytics"]
"""Where `max_score` finds scores: all values, or the channels from 4 on of [n, 4 + classes, k]."""
