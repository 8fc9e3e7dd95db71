"""The one output of detectors as Ultralytics exports them: [rows, 4 + classes, boxes].

Channels are center x, center y, width, height in pixels of the input, then the classes'
probabilities (docs.ultralytics.com/modes/export, without `nms` and `end2end`).
"""

from __future__ import annotations

from collections.abc import Sequence

LAYOUT = "ultralytics"
"""How specs and configs call it."""


def looks_like(shape: Sequence[int | str] | None) -> bool:
    """Whether an output of this full shape may be one; a name is an open size."""
    if shape is None or len(shape) != 3 or not isinstance(shape[1], int):
        return False
    return shape[1] > 4 and (isinstance(shape[2], str) or shape[1] < shape[2])


def wrong(shape: Sequence[int | str] | None) -> str:
    """Why an output of this full shape is none, "" where it may be; open sizes fit.

    More channels than boxes are taken for a transposed one.
    """
    if shape is None or len(shape) != 3:
        return ""  # another rank is told where types and shapes are compared
    channels, boxes = shape[1:]
    if isinstance(channels, int) and channels <= 4:
        return f"has {channels} channels, of which no class is left behind x, y, w, h"
    if isinstance(channels, int) and isinstance(boxes, int) and channels > boxes:
        return f"has {channels} channels for {boxes} boxes, as if it were transposed"
    return ""
