"""Drives load in slices, and reads the machine between them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from pathlib import Path

from repo_builder.base import energy
from repo_builder.base.energy import climate
from repo_builder.client.load import Load
from repo_builder.tune.soak.judge import Slice, Soak

IDLE_SLICES, IDLE_S = 15, 1.0
"""At rest before the load, where power can be read."""

_SLICES, _SHORTEST_S, _LONGEST_S = 240, 1.0, 5.0


def slice_seconds(seconds: float) -> float:
    """How long a slice of a soak of so many seconds is: short enough for ten in its first part."""
    return min(max(seconds / _SLICES, _SHORTEST_S), _LONGEST_S)


async def run(
    load: Callable[[float], Awaitable[Load]],
    seconds: float,
    *,
    root: Path = Path("/"),
    told: Callable[[Slice, float], None] = lambda _slice, _done: None,
) -> Soak:
    """Await `load(seconds of a slice)` again and again for `seconds`, without a rest between.

    Temperatures, clocks and power are those of the machine that this runs on: run it on the device
    that serves. `told` hears of each slice and how much is done (0..1). Stopped by cancellation.
    """
    length = slice_seconds(seconds)
    found = energy.find(root)
    with ExitStack() as stack:
        meter = energy.meter(root, slow=True)
        missing = [str(one) for one in found.missing] if meter is None else []
        if meter is not None:
            try:
                stack.enter_context(meter)
            except energy.CannotRead as failure:
                missing.append(str(failure))
                meter = None
        idle = await _rest(meter)
        before = climate.read(root)
        missing += before.missing
        begun, slices = time.perf_counter(), list[Slice]()
        spent, last = _joules(meter), begun
        while (at := last - begun) < seconds:
            done = await load(min(length, max(seconds - at, _SHORTEST_S)))
            after, now_spent = climate.read(root), _joules(meter)
            used = None if spent is None or now_spent is None else now_spent - spent
            now = time.perf_counter()
            slices.append(_slice(at, now - last, done, before, after, used))
            before, spent, last = after, now_spent, now
            told(slices[-1], min(1.0, (now - begun) / seconds))
        doubts = meter.doubts() if meter is not None else ()
        if meter is not None and spent is None:
            doubts = (*doubts, "power could not be read to the end")
    return Soak(tuple(slices), idle, tuple(dict.fromkeys(missing)), doubts)


async def _rest(meter: energy.Meter | None) -> tuple[float, ...]:
    """Watts of slices in which nobody asks; none without a meter."""
    if meter is None:
        return ()
    watts = []
    spent = _joules(meter)
    for _ in range(IDLE_SLICES):
        begun = time.perf_counter()
        await asyncio.sleep(IDLE_S)
        now = _joules(meter)
        if spent is None or now is None:
            return ()
        watts.append((now - spent) / (time.perf_counter() - begun))
        spent = now
    return tuple(watts)


def _joules(meter: energy.Meter | None) -> float | None:
    """What was spent so far; None without a meter, or where it lost a source."""
    if meter is None:
        return None
    try:
        return meter.joules()
    except energy.CannotRead:
        return None  # told as a doubt at the end


def _slice(
    at_s: float,
    seconds: float,
    load: Load,
    before: climate.Climate,
    after: climate.Climate,
    joules: float | None,
) -> Slice:
    return Slice(
        at_s + seconds / 2,
        seconds,
        len(load.latencies),
        1e3 * load.percentile(50) if load.latencies else None,
        1e3 * load.percentile(99) if load.latencies else None,
        sum(load.errors.values()),
        after.hottest(),
        after.cpu_mhz(),
        climate.busy(before, after),
        joules,
        tuple(sorted(climate.throttled(before, after).items())),
    )
