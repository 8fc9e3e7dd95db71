"""The raw shape of `postprocess`: what a model makes of its own outputs."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from repo_builder.spec.raw_base import Raw


class RawNms(Raw):
    """Non-maximum suppression, class by class, of boxes with scores per class."""

    layout: Literal["corners", "ultralytics"] = "corners"
    """corners: `boxes` [n, 4] (x1, y1, x2, y2) and `scores` [n, classes]; ultralytics: one tensor
    `detections` [4 + classes, n] (center x, center y, width, height, probabilities)."""
    input_size: (
        Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=2, max_length=2)] | None
    ) = None
    """[height, width] of the model's input where its boxes are fractions of that; else they are
    pixels."""
    iou_threshold: Annotated[float, Field(ge=0, le=1)] = 0.5
    """A box that overlaps a better one of its class by more than this is dropped."""
    score_threshold: Annotated[float, Field(ge=0)] = 0.25
    """Boxes that score no higher are dropped."""
    max_boxes: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Boxes of an image that are given out, best first; fewer are padded."""


class RawBest(Raw):
    """Outputs `class` (int64) and `score` [n, k]: the best classes of a row, best first."""

    of: str
    """The net's output with scores [n, classes]."""
    k: Annotated[int, Field(ge=1)] = 1
    """How many."""
    softmax: bool = False
    """Turn scores into probabilities first."""


class RawMask(Raw):
    """Output `mask` [n, height, width], uint8: the best class of every pixel."""

    of: str
    """The net's output with scores [n, classes, height, width]."""


class RawCtc(Raw):
    """Outputs `symbols` [n, time] (int64, -1 behind the last) and `length` [n, 1]: greedy CTC."""

    of: str
    """The net's output with scores of symbols."""
    layout: Literal["batch_first", "time_first"] = "batch_first"
    """batch_first: [n, time, symbols]; time_first: [time, n, symbols]."""
    blank: Annotated[int, Field(ge=0)] = 0
    """The symbol that stands for none."""


class RawBoxes(RawNms):
    """Outputs `box` [n, max_boxes, 4], `score`, `class` and `count`, as of the stage `nms`."""

    boxes: str = ""
    """The net's output with boxes [n, k, 4], of the layout `corners`."""
    scores: str = ""
    """The net's output with scores [n, k, classes], of the layout `corners`."""
    detections: str = ""
    """The net's output [n, 4 + classes, k], of the layout `ultralytics`."""


class RawPostprocess(Raw):
    """What the model makes of its own outputs, as operators in its graph; one of these."""

    top_k: RawBest | None = None
    """The best classes."""
    mask: RawMask | None = None
    """The best class of every pixel."""
    ctc: RawCtc | None = None
    """Symbols without repeats and blanks."""
    nms: RawBoxes | None = None
    """Boxes without those that overlap better ones."""
    keep: list[str] = []
    """Outputs of the net that are given out too."""

    @model_validator(mode="after")
    def _one(self) -> RawPostprocess:
        given = [name for name in ("top_k", "mask", "ctc", "nms") if getattr(self, name)]
        if len(given) != 1:
            raise ValueError("write just one of: top_k, mask, ctc, nms")
        if self.nms is not None:
            wanted = ["detections"] if self.nms.layout == "ultralytics" else ["boxes", "scores"]
            named = [n for n in ("boxes", "scores", "detections") if getattr(self.nms, n)]
            if named != wanted:
                raise ValueError(f"nms of layout {self.nms.layout} reads {' and '.join(wanted)}")
        return self
