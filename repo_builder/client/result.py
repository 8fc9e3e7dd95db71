"""What a call gives back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from repo_builder.client.models.confidence import Policy

Source = Literal["edge", "cloud", "cache", "edge-unverified"]


@dataclass
class Result:
    """The answer to one sample or to a batch.

    outputs         name -> array; for a batch of n rows `[n, ...]`, for one sample without that
                    axis
    batch           rows; None for one sample
    sources         who answered, one per row: `edge` (sure, or no fallback wanted), `cloud`,
                    `cache`, or `edge-unverified`: unsure, and the cloud could not be asked
    version         the version of the edge's model that answered, "1.2.0"; "" where none did
    cloud_version   the same for the cloud's
    timings         seconds per stage: prepare, edge, cloud, cache, total
    why_unverified  why the cloud did not answer the `edge-unverified` rows
    """

    outputs: dict[str, npt.NDArray[Any]]
    batch: int | None
    sources: Sequence[Source]
    version: str = ""
    cloud_version: str = ""
    timings: dict[str, float] = field(default_factory=dict)
    why_unverified: str = ""
    policy: Policy | None = field(default=None, repr=False)
    label_names: Mapping[str, Sequence[str]] = field(default_factory=dict, repr=False)
    scores: npt.NDArray[np.float64] | None = field(default=None, repr=False)

    def __getitem__(self, name: str) -> npt.NDArray[Any]:
        """The output `name`. Raises KeyError where there is none."""
        return self.outputs[name]

    @property
    def source(self) -> str:
        """Who answered; `mixed` where the rows of a batch differ."""
        kinds = set(self.sources)
        return kinds.pop() if len(kinds) == 1 else "mixed"

    @cached_property
    def confidence(self) -> Any:
        """How sure the *edge* was: a float for one sample, `[n]` for a batch, None without policy.

        For rows that came from elsewhere it is computed from that answer, unless the edge was
        asked first.
        """
        scores = self.scores
        if scores is None:
            if self.policy is None or self.policy.output not in self.outputs:
                return None
            scores = self.policy.scores(self._rows())
        return scores if self.batch is not None else float(scores[0])

    @cached_property
    def labels(self) -> Any:
        """The label of the largest value: a text for one sample, a list for a batch.

        Of the policy's output if that has labels, else of the first that has; None without any.
        """
        names = self.label_names
        preferred = self.policy.output if self.policy and self.policy.output in names else None
        output = preferred or next((name for name in names if name in self.outputs), None)
        if output is None or output not in self.outputs:
            return None
        rows = self._rows()[output]
        flat = rows.reshape(len(rows), -1)
        found = [names[output][i] if i < len(names[output]) else str(i) for i in flat.argmax(1)]
        return found if self.batch is not None else found[0]

    def _rows(self) -> dict[str, npt.NDArray[Any]]:
        if self.batch is not None:
            return self.outputs
        return {name: array[None] for name, array in self.outputs.items()}
