"""How much of its speed a device keeps when it gets warm: load for minutes, in slices.

`run` drives what the caller gives it and notes with each slice how warm the machine is, how fast
its clocks run, what it draws and whether anything was throttled; `judge` compares the last quarter
with the first minute, without I/O; `page` draws. Bare install.
"""

from repo_builder.tune.soak.drive import run, slice_seconds
from repo_builder.tune.soak.judge import Kept, Slice, Soak, kept
from repo_builder.tune.soak.page import chart, lines

__all__ = ["Kept", "Slice", "Soak", "chart", "kept", "lines", "run", "slice_seconds"]
