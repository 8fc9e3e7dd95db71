"""Ctrl-C and SIGTERM: a command that is asked to end does end, once, and soon.

Signals come in pairs: `timeout`, and supervisors that signal a process and its group, send two in
a row. A second KeyboardInterrupt would break off what the first began, the killing of workers.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from types import FrameType

_PAIR_S = 0.25
"""Signals that follow the first within this time belong to it."""
_GRACE_S = 10.0
"""How long a command may take to end; it holds nothing that a kill would spoil."""
_INTERRUPTED = 130


def _exit_now() -> None:
    os._exit(_INTERRUPTED)


def on_signals(again: Callable[[], None] = _exit_now, *, grace_s: float | None = _GRACE_S) -> None:
    """Let Ctrl-C (unless it is ignored) and SIGTERM raise KeyboardInterrupt, but only once.

    A signal that comes later than `_PAIR_S` after the first calls `again`. Where the process has
    not ended `grace_s` seconds after the first, the kernel ends it (SIGALRM): an exception can be
    lost in a destructor, and a lock can be left held; None sets no limit.
    """
    first: list[float] = []

    def end(_number: int, _frame: FrameType | None) -> None:
        now = time.monotonic()
        if not first:
            first.append(now)
            if grace_s is not None:
                signal.signal(signal.SIGALRM, signal.SIG_DFL)
                signal.setitimer(signal.ITIMER_REAL, grace_s)
            raise KeyboardInterrupt
        if now - first[0] > _PAIR_S:
            again()

    signal.signal(signal.SIGTERM, end)
    if signal.getsignal(signal.SIGINT) != signal.SIG_IGN:
        signal.signal(signal.SIGINT, end)
