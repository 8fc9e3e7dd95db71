"""A visit of a served model: a fresh Triton that loads it alone, asked in a closed loop."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from repo_builder import serve
from repo_builder.base import machine
from repo_builder.base.errors import ModelError
from repo_builder.base.histogram import Histogram
from repo_builder.client import AsyncEdgeClient, ClientError, Limits, load
from repo_builder.client.models.model import Model
from repo_builder.tune.measure.types import Sample, Subject, Visit

_TIMEOUT_S = 30.0
_START_S = 120.0
_WARM = 0.5
"""Of the time of a batch size, uncounted."""
_REST_S = 0.1
"""How long to look at the machine before and after, while nobody asks: when somebody does, the
server's work would count as that of others."""


def timed(subject: Subject, batches: Sequence[int], seconds: float) -> Visit:
    """Ask for every batch size for `seconds`; those that the model does not take are left out.

    ServeError where Triton does not start, ModelError where it refuses a request.
    """
    with serve.Triton(subject.folder, models=[subject.model], timeout_s=_START_S) as server:
        before, watch = machine.quiet_for(_REST_S), machine.Watch()
        try:
            found = asyncio.run(_asked(subject, server.grpc_url, batches, seconds))
        except ClientError as failure:
            raise ModelError(f"{subject.model}: Triton answers: {failure}") from None
        throttled = watch.conditions().throttled
        after = machine.quiet_for(_REST_S)
    others = max((one.load for one in (before, after) if one.load is not None), default=None)
    return Visit(tuple(found), others, throttled, machine.doubt(others, throttled, 0.0))


async def _asked(
    subject: Subject, url: str, batches: Sequence[int], seconds: float
) -> list[Sample]:
    # The load is to reach the server: the client's own queue must not shed or delay it.
    async with AsyncEdgeClient(url, limits=Limits(concurrency=1_000_000, queue=0)) as client:
        model = await client.describe(subject.model, timeout=_TIMEOUT_S)
        found = []
        for batch in batches:
            if not 1 <= batch <= max(model.max_rows, 1) and model.max_rows >= 0:
                continue
            feed = _feed(subject, model, batch)
            ask = load.asking(client, subject.model, [feed], _TIMEOUT_S)
            for part in (_WARM, 1.0):
                seen = await load.closed_loop(ask, callers=subject.callers, seconds=part * seconds)
            if seen.errors:
                kinds = ", ".join(seen.errors)
                raise ModelError(f"{subject.model}: requests of {batch} rows fail: {kinds}")
            found.append(_sample(batch, seen))
        return found


def _feed(subject: Subject, model: Model, batch: int) -> dict[str, Any]:
    """`batch` rows of the inputs in the store, from the start again where there are fewer."""
    if subject.inputs is None:
        raise ModelError("the store has no inputs of it; name the one it was built with (--store)")
    rows = np.arange(batch)
    with np.load(subject.inputs, allow_pickle=False) as stored:
        taken = {tensor.name: stored[tensor.name] for tensor in model.inputs}
    return {
        tensor.name: (array[rows % len(array)] if model.max_rows else array[0]).astype(
            tensor.dtype, copy=False
        )
        for tensor in model.inputs
        for array in (taken[tensor.name],)
    }


def _sample(batch: int, seen: load.Load) -> Sample:
    return Sample(
        batch,
        len(seen.latencies),
        seen.seconds,
        batch * seen.rate,
        1e3 * float(np.median(seen.latencies)),
        Histogram.of(seen.latencies).as_json(),
    )
