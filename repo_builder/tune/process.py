"""What a group of processes has used: CPU time and memory, from Linux's /proc."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path


def cpu_seconds(group: int) -> float:
    """CPU time of a process group so far, of the processes that live, to the nanosecond."""
    total = 0
    for member in _members(group):
        for thread in (member / "task").glob("[0-9]*"):
            fields = _text(thread / "schedstat").split()
            total += int(fields[0]) if fields else 0
    return total / 1e9


def memory_bytes(group: int) -> int:
    """Bytes of memory of a process group; what processes share is counted once (PSS)."""
    total = 0
    for member in _members(group):
        for line in _text(member / "smaps_rollup").splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def _members(group: int) -> Iterator[Path]:
    for stat in Path("/proc").glob("[0-9]*/stat"):
        # The process group is the third field after the name in parentheses.
        fields = _text(stat).rpartition(")")[2].split()
        if fields and int(fields[2]) == group:
            yield stat.parent


def _text(path: Path) -> str:
    """A file's text; "" where its process has ended, or it may not be read."""
    try:
        return path.read_text(errors="replace")
    except (OSError, UnicodeDecodeError):
        return ""
