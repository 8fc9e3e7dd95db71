"""Orders load from a process of its own, and judges whether that process was the limit."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from repo_builder.base.errors import ServeError

MOST_BUSY = 0.9
"""The share of the time that the sender's one thread may be busy before it is the limit itself."""

MOST_LATE = 0.2
"""The share of an open loop's requests that may begin late. Some do whenever others take a core."""


@dataclass(frozen=True)
class Order:
    """Load to make: on `model` of the gRPC address `url`, with the requests in the file `inputs`.

    `rate` is an open loop's, requests a second, of which at most `most` wait at a time; None is a
    closed loop of `callers`. `slices`: into how many parts of the time latencies are put.
    """

    url: str
    model: str
    inputs: str
    rate: float | None
    seconds: float
    callers: int = 1
    most: int = 1_000_000
    slices: int = 10
    shared_memory: bool = False
    timeout_s: float = 10.0


@dataclass(frozen=True)
class Sent:
    """What came of an order. `refused`: why no request was answered at all, before the clock ran.

    `sent` requests were due, `failed` of them were not answered, for the reasons in `errors`;
    `slices` are histograms as JSON; `late` began late. `cpu_s` is the process's time, `busy` the
    share of the time that the one thread was busy that sends. `seconds` runs until the last answer.
    """

    sent: int = 0
    failed: int = 0
    slices: Sequence[Mapping[str, Any]] = ()
    late: int = 0
    seconds: float = 0.0
    cpu_s: float = 0.0
    busy: float = 0.0
    errors: Mapping[str, int] = field(default_factory=dict)
    refused: str = ""

    @property
    def limit(self) -> str:
        """Why the client was the limit, or "".

        It is where its thread had no time left, or where many requests began late: the rate is more
        than this client can send beside the server.
        """
        if not self.seconds or (self.busy < MOST_BUSY and self.late <= MOST_LATE * self.sent):
            return ""
        late = f", {self.late / self.sent:.0%} of the requests began late" if self.late else ""
        return f"the client is the limit: it was busy {self.busy:.0%} of the time{late}"


class Sender:
    """The sending process, while its `with` block runs."""

    def __enter__(self) -> Sender:
        self._log = tempfile.TemporaryFile()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "repo_builder.tune.send"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env={**os.environ, "PYTHONPATH": _path()},
            start_new_session=True,  # Ctrl-C is for what orders; that ends this
            text=True,
        )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._log.close()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def send(self, order: Order) -> Sent:
        """Make load; blocks until all of it was answered. ServeError where the process ended."""
        if self._process.stdin is None or self._process.stdout is None:
            raise AssertionError("the sender has no pipes")
        try:
            self._process.stdin.write(json.dumps(asdict(order)) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            self._log.seek(0)
            said = self._log.read().decode(errors="replace").strip().splitlines()
            raise ServeError(f"the process that makes load ended: {said[-1] if said else 'killed'}")
        return Sent(**json.loads(answer))


def _path() -> str:
    """PYTHONPATH for the process: this package, wherever it came from."""
    here = str(Path(__file__).parents[2])
    return os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH", "")]))
