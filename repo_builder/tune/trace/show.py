"""A waterfall of a request for a terminal, however narrow."""

from __future__ import annotations

from repo_builder.tune.trace.events import Request, Stage

_NARROWEST = 10


def waterfall(request: Request, width: int) -> str:
    """A line for each stage: its name, a bar where it lies in the request, and its ms.

    Stages of which only the length is known have bars from the left. No line is longer than
    `width`, from 40 on.
    """
    names = [_name(stage) for stage in request.stages]
    room = max(map(len, names), default=0)
    room = min(room, max(_NARROWEST, width // 2 - 6))
    bar = max(_NARROWEST, width - room - 12)
    lines = []
    for name, stage in zip(names, request.stages, strict=True):
        shown = name if len(name) <= room else "…" + name[len(name) - room + 1 :]
        first = _place(stage.begins_ms or 0.0, request.total_ms, bar)
        last = _place((stage.begins_ms or 0.0) + stage.ms, request.total_ms, bar)
        drawn = " " * min(first, bar - 1) + "█" * max(1, last - first)
        lines.append(f"{shown.ljust(room)} {drawn[:bar].ljust(bar)} {stage.ms:9.3f}")
    return "\n".join(lines)


def _place(ms: float, total: float, bar: int) -> int:
    return min(bar, max(0, round(bar * ms / total))) if total > 0 else 0


def _name(stage: Stage) -> str:
    return f"{stage.model} {stage.name}".strip()
