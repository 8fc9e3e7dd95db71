"""How the answers to rows become the answer to a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.client.errors import ServerFailed

Array = npt.NDArray[Any]
Rows = npt.NDArray[np.intp]


def merge(edge: Mapping[str, Array], rows: Rows, cloud: Mapping[str, Array]) -> dict[str, Array]:
    """The edge's outputs with `rows` replaced by the cloud's, in place of the same rows."""
    merged = {}
    for name, array in edge.items():
        merged[name] = array.copy()
        merged[name][rows] = cloud[name]
    return merged


def stack(rows: Sequence[dict[str, Array] | None]) -> dict[str, Array]:
    """Rows as arrays with a row axis."""
    first = rows[0] or {}
    return {name: np.stack([row[name] for row in rows if row]) for name in first}


def fitting(
    model: str, outputs: Mapping[str, Array], like: Mapping[str, Array]
) -> dict[str, Array]:
    """The cloud's outputs if they can stand in for the edge's; else an error names both."""
    for name, edge in like.items():
        cloud = outputs.get(name)
        if cloud is None:
            raise ServerFailed(f"cloud model '{model}' has no output '{name}', the edge's has")
        if cloud.shape[1:] != edge.shape[1:] or cloud.dtype != edge.dtype:
            raise ServerFailed(
                f"cloud model '{model}': its '{name}' is {cloud.dtype}{list(cloud.shape[1:])} "
                f"a row, the edge's is {edge.dtype}{list(edge.shape[1:])}"
            )
    return {name: outputs[name] for name in like}
