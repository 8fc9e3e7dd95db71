"""Whether `measure` says the same twice: `python benchmarks/measure.py build [SECONDS]`.

Measures the digits and the shapes of a build two times, one after the other, and counts the cells
whose intervals of rows a second overlap; of two that are right, 19 in 20 should. Both runs are
printed beside each other. It needs a quiet machine, and takes less than 280 s on two cores.
"""

from __future__ import annotations

import sys
from pathlib import Path

from repo_builder.base import console
from repo_builder.run.store import default_root
from repo_builder.tune.measure import Measured, Request, compare, measure, show
from repo_builder.tune.measure.types import Cell

ONLY = ("digits@*", "shapes@*")
WANTED = 0.95


def overlap(one: Cell, other: Cell) -> bool:
    """Whether the intervals have a point in common."""
    a, b = one.rows_per_second, other.rows_per_second
    ends = (a.low, a.high, b.low, b.high)
    return None not in ends and a.low <= b.high and b.low <= a.high  # type: ignore[operator]


def main() -> None:
    seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 60.0
    store = Path(sys.argv[3]) if len(sys.argv) > 3 else default_root()
    request = Request(Path(sys.argv[1]), store, only=ONLY, batches=(1, 8), seconds=seconds)
    runs: list[Measured] = [measure(request) for _ in range(2)]
    rows, good = [], 0
    for one, other in zip(*(run.cells for run in runs), strict=True):
        held = overlap(one, other)
        good += held
        texts = [show.row(cell)[4:6] for cell in (one, other)]
        rows.append((one.name, *texts[0], *texts[1], "yes" if held else "no"))
    header = ("cell", "rows/s", "+-", "again", "+-", "overlap")
    console.out(console.table(header, rows, (1, 2, 3, 4)))
    console.out(f"{good} of {len(rows)} overlap ({good / len(rows):.0%}; wanted {WANTED:.0%})")
    console.out(compare.of(runs[1], runs[0]).sentence)


if __name__ == "__main__":
    main()
