"""What memory this process takes, from Linux's /proc."""

from __future__ import annotations

import ctypes
import gc
from pathlib import Path

_STATUS = Path("/proc/self/status")


def resident() -> float:
    """The resident memory of this process in MB (1e6 bytes), libraries that others share included;
    0 where there is no /proc.

    Not the share of it (PSS): that changes with what else runs on the machine.
    """
    return _read("VmRSS") * 1024 / 1e6


class Peak:
    """Growth of this process's resident memory at its peak, from Linux's /proc."""

    def __init__(self) -> None:
        self._give_back_freed()
        self._before = _read("VmRSS")
        if self._before:
            # 5 resets the peak (VmHWM) to what is resident now; see proc(5), clear_refs.
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")

    def megabytes(self) -> float:
        """The growth in MB (1e6 bytes); 0 where there is no /proc."""
        return max(_read("VmHWM") - self._before, 0) * 1024 / 1e6

    def _give_back_freed(self) -> None:
        """Return what earlier steps freed to the system, so that it is not used unseen here."""
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc only
        if trim is not None:
            trim(0)


def _read(field: str) -> int:
    """A field of /proc/self/status, in KiB; 0 where it is not there."""
    try:
        lines = _STATUS.read_text(encoding="ascii").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{field}:")), 0)
