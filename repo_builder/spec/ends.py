"""What a model may do at both ends of its net: images in, answers out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from repo_builder.base.digest import Json


@dataclass(frozen=True)
class Preprocess:
    """How an image becomes the model's input: see `repo_builder/client/models/preprocess.py`."""

    parameters: Mapping[str, Json]

    @property
    def in_graph(self) -> bool:
        """Whether the model does it itself."""
        return self.parameters.get("place") == "graph"


@dataclass(frozen=True)
class Signal:
    """How samples become a net's input: `params` of `kind`, see `repo_builder.spec.raw_signal`."""

    kind: Literal["log_mel", "sensor"]
    params: Mapping[str, Json]


AnswerKind = Literal["top_k", "mask", "ctc", "nms"]
_ANSWERS: Mapping[AnswerKind, tuple[str, ...]] = {
    "top_k": ("class", "score"),
    "mask": ("mask",),
    "ctc": ("symbols", "length"),
    "nms": ("box", "score", "class", "count"),
}


@dataclass(frozen=True)
class Postprocess:
    """What the model makes of its net's outputs; `params` are those of `kind`, and name outputs.

    `keep` names outputs of the net that are given out too.
    """

    kind: AnswerKind
    params: Mapping[str, Json]
    keep: tuple[str, ...] = ()

    @property
    def outputs(self) -> tuple[str, ...]:
        """The names of what is made."""
        return _ANSWERS[self.kind]
