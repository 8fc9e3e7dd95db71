"""Segmentation: a class for every pixel."""

from __future__ import annotations

import numpy as np

from repo_builder.base.errors import DataError
from repo_builder.steps._metrics.arrays import Arrays

IGNORED = 255
"""A pixel of this class, or of a negative one, is not judged, as in Pascal VOC and Cityscapes."""


def miou(outputs: Arrays, labels: Arrays, inputs: Arrays) -> float:  # noqa: ARG001
    """Mean over classes of intersection over union, counted over all pixels of all rows.

    `scores` is [rows, classes, height, width], or whole numbers [rows, height, width]; `mask` holds
    the true classes [rows, height, width]. Classes that are nowhere, true or found, do not count.
    """
    given, mask = outputs["scores"], labels["mask"]
    if given.ndim == mask.ndim + 1:
        found = given.argmax(axis=1)
    elif given.dtype.kind in "iu" and given.size == mask.size:
        found = given.reshape(mask.shape)
    else:
        raise DataError(
            f"miou: the output is {given.dtype} {list(given.shape)}; for a mask {list(mask.shape)} "
            "it must be scores with the classes in dimension 1, or one class a pixel"
        )
    if mask.dtype.kind not in "iu" or found.shape != mask.shape:
        raise DataError(
            f"miou: 'mask' is {mask.dtype} {list(mask.shape)}, the model's is {list(found.shape)}"
        )
    judged = (mask != IGNORED) & (mask >= 0)
    truth, found = mask[judged].astype(np.int64), found[judged].astype(np.int64)
    if not truth.size:
        raise DataError("miou: no pixel of 'mask' is judged")
    count = 1 + int(max(truth.max(), found.max()))
    table = np.bincount(truth * count + found, minlength=count * count).reshape(count, count)
    both = np.diag(table)
    union = table.sum(axis=0) + table.sum(axis=1) - both
    return float(np.mean(both[union > 0] / union[union > 0]))
