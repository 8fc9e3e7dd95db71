"""Batches items of `infer_many` into one request, where Triton would batch them anyway.

`dynamic_batching` in a model's config says that its rows do not depend on each other: Triton runs
what waits at the same time as one batch. Items that are batched here already also share what a
request costs on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.client.errors import InvalidInput
from repo_builder.client.models.model import Model
from repo_builder.client.models.tensors import Batch, Inputs
from repo_builder.client.result import Result

# Of larger items one more copy costs what a request would.
_MAX_ITEM_BYTES = 16 * 1024


class Batcher:
    """Cuts `items` into runs of neighbours that look alike and fit one request of the model.

    A run is of at most `limit` items, and of one for as long as `known` knows no model. `size` is
    how many items like those of the last run may travel together.
    """

    def __init__(
        self, items: Iterable[Inputs], known: Callable[[], Model | None], limit: int
    ) -> None:
        self._items = iter(items)
        self._known = known
        self._limit = limit
        self._ahead: list[Inputs] = []
        self.taken = 0
        self.size = 1

    def next_batch(self) -> tuple[list[Inputs], list[Batch]]:
        """The next run, and each item of it as the model takes it where it may travel with others;
        ([], []) at the end."""
        model = self._known()
        group: list[Inputs] = []
        batches: list[Batch] = []
        while not group or (batches and len(group) < self.size):
            try:
                item = self._ahead.pop() if self._ahead else next(self._items)
            except StopIteration:
                break
            batch = _batch(model, item)
            if batches and (batch is None or not _compatible(batches[0], batch)):
                self._ahead.append(item)
                break
            if not group:
                self.size = self._capacity(model, batch)
            group.append(item)
            if batch is not None:
                batches.append(batch)
        self.taken += len(group)
        return group, batches

    def _capacity(self, model: Model | None, batch: Batch | None) -> int:
        if model is None or batch is None:
            return 1
        return max(1, min(self._limit, model.max_rows // batch.count))


def _compatible(one: Batch, other: Batch) -> bool:
    first, second = one.signature, other.signature
    return first is second or (
        (first.tensors, first.shapes, first.single)
        == (second.tensors, second.shapes, second.single)
    )


def concatenate(batches: Sequence[Batch]) -> dict[str, npt.NDArray[Any]]:
    """The inputs of one request for all `batches`."""
    named = [batch.named() for batch in batches]
    return {name: np.concatenate([one[name] for one in named]) for name in named[0]}


def split(result: Result, batches: Sequence[Batch]) -> Iterator[Result]:
    """The answer to each item, of the answer to all of them."""
    end = 0
    for batch in batches:
        begin, end = end, end + batch.count
        single = batch.signature.single
        where = begin if single else slice(begin, end)
        sources = result.sources[begin:end]
        yield Result(
            outputs={name: array[where] for name, array in result.outputs.items()},
            batch=None if single else batch.count,
            sources=sources,
            version=result.version,
            cloud_version=result.cloud_version if "cloud" in sources else "",
            timings=dict(result.timings),
            why_unverified=result.why_unverified if "edge-unverified" in sources else "",
            policy=result.policy,
            label_names=result.label_names,
            scores=None if result.scores is None else result.scores[begin:end],
        )


def _batch(model: Model | None, item: Inputs) -> Batch | None:
    """The item as the model takes it, or None where it goes alone."""
    if model is None or not model.joinable:
        return None
    try:
        batch = model.batch(item)
    except InvalidInput:
        return None  # its own call tells
    plain = all(array.dtype != object for array in batch.arrays)
    return batch if plain and batch.nbytes <= _MAX_ITEM_BYTES else None
