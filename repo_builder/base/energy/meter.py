"""Adds up what sources tell: counters as they are, watts integrated over time."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Protocol

from repo_builder.base.energy import account, climate
from repo_builder.base.energy.types import CannotRead, Source, absurd

EVERY_S = 0.05
"""Between samples of watts: the INA3221 of Jetson boards has a new figure about as often."""

_SAMPLES = 20_000
"""Of each source are kept to look at, the last ones; joules are added up as they come."""

_LOAD_S = 1.0
"""Over which the CPUs' load is told: /proc/stat counts in hundredths of a second."""

_COUNTER_BLOCK_S, _WATTS_BLOCK_S = 0.2, 1.0


class Measures(Protocol):
    """Counts joules."""

    @property
    def block_s(self) -> float:
        """How long a block of work must last for its joules to mean something."""
        ...

    def joules(self) -> float:
        """What was spent since the start."""
        ...


class Meter:
    """Joules of some sources together, since it was entered.

    Watts are sampled by a thread between `with` and its end. A source that fails meanwhile spoils
    the sum: `joules` then raises CannotRead, since what was not measured is not filled in. `doubts`
    says what else speaks against the figures.
    """

    def __init__(self, sources: Sequence[Source], root: Path = Path("/"), every_s: float = EVERY_S):
        self.sources = tuple(sources)
        self._root, self._every = root, every_s
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._first = [0.0] * len(self.sources)
        self._spent = [0.0] * len(self.sources)
        self._failed = ""
        self._doubts: dict[str, str] = {}
        self._samples: list[deque[account.Sample]] = [deque(maxlen=_SAMPLES) for _ in self.sources]
        self._loads: deque[float | None] = deque(maxlen=_SAMPLES)
        self._load: float | None = None
        self._load_at = time.perf_counter()
        self._ticks = climate.read_ticks(root)

    @property
    def block_s(self) -> float:
        """How long a block of work must last for its joules to mean something."""
        counts = all(source.about.unit == "J" for source in self.sources)
        return _COUNTER_BLOCK_S if counts else _WATTS_BLOCK_S

    def __enter__(self) -> Meter:
        self._first = [
            source.read() if source.about.unit == "J" else 0.0 for source in self.sources
        ]
        self._poll()
        self._thread = threading.Thread(target=self._sample, name="energy", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def joules(self) -> float:
        """What was spent since it was entered. CannotRead where a source failed meanwhile."""
        if self._thread is None:
            raise RuntimeError("a meter counts within its `with` only")
        self._poll()
        with self._lock:
            if self._failed:
                raise CannotRead(self._failed)
            return sum(self._spent)

    def doubts(self) -> tuple[str, ...]:
        """What speaks against the figures: sensors that stick, values that cannot be, gaps."""
        with self._lock:
            found = dict(self._doubts)
            loads = list(self._loads)
            for source, samples in zip(self.sources, self._samples, strict=True):
                name = source.about.name
                if source.about.unit == "W" and (why := account.stuck(list(samples), loads)):
                    found.setdefault(f"{name} sticks", f"{name}: {why}")
                if source.about.unit == "W" and (lost := account.gaps(list(samples))):
                    found.setdefault(f"{name} gaps", f"{name}: {lost:.0f} s between far samples")
        return tuple(found.values())

    def _sample(self) -> None:
        watts = any(source.about.unit == "W" for source in self.sources)
        while not self._stop.wait(self._every if watts else 1.0):
            self._poll()

    def _poll(self) -> None:
        with self._lock:
            now = time.perf_counter()
            self._note_load()
            for number, source in enumerate(self.sources):
                try:
                    self._take(number, source, now, source.read())
                except CannotRead as failure:
                    self._failed = self._failed or str(failure)

    def _take(self, number: int, source: Source, now: float, value: float) -> None:
        samples = self._samples[number]
        if source.about.unit == "J":
            spent = value - self._first[number]
            before = samples[-1] if samples else (now, 0.0)
            if spent < before[1]:
                raise CannotRead(f"{source.about.name}: its counter of joules went back")
            if now - before[0] > 0.5:  # shorter, and a counter's steps look like leaps
                self._judge(source, (spent - before[1]) / (now - before[0]))
                samples.append((now, spent))
            elif not samples:
                samples.append((now, spent))
            self._spent[number] = spent
            return
        self._judge(source, value)
        if samples:
            self._spent[number] += account.integral([samples[-1], (now, value)])
        samples.append((now, value))

    def _judge(self, source: Source, watts: float) -> None:
        if why := absurd(source.about, watts):
            self._doubts.setdefault(source.about.name, why)

    def _note_load(self) -> None:
        now = time.perf_counter()
        if now - self._load_at >= _LOAD_S:
            ticks = climate.read_ticks(self._root)
            self._load = climate.share(self._ticks, ticks)
            self._ticks, self._load_at = ticks, now
        self._loads.append(self._load)
