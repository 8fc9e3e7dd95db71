"""CPU time of `release create` for 100 model@targets with nothing changed, as a whole process.

    python benchmarks/releases.py

50 models of 1 MB on two targets, written by the real publication, released once, then again.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests/unit/release")]

from test_registry import build  # noqa: E402 - from the path above

COMMAND = [sys.executable, "-m", "repo_builder"]
WANTED_SECONDS = 2.0
TIMES = 5


def cpu_seconds(*arguments: str) -> float:
    """CPU seconds of one command."""
    before = os.times()
    subprocess.run([*COMMAND, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = os.times()
    user = after.children_user - before.children_user
    return user + after.children_system - before.children_system


def main() -> int:
    """Print the figures; 1 where the goal is missed."""
    with tempfile.TemporaryDirectory() as folder:
        made, kept = Path(folder) / "build", str(Path(folder) / "registry")
        names = tuple(f"m{n}" for n in range(50))
        build(made, weights=bytes(1 << 20), targets=("cpu", "npu"), names=names)
        cpu_seconds("registry", "init", kept)
        create = ("release", "create", str(made), "--registry", kept)
        first = cpu_seconds(*create)
        again = statistics.median(cpu_seconds(*create) for _ in range(TIMES))
    print(f"first {first:.2f} CPU s, nothing changed {again:.2f} CPU s (< {WANTED_SECONDS})")
    return int(again >= WANTED_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
