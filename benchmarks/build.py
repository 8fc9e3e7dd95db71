"""Start-up, a build with nothing to do, and a parallel build, as ratios within one run.

    python benchmarks/build.py

- `--help` against `python -c "import click"`: whole processes in turns, medians.
- a second build of 50 specs x 2 targets (copies of the digits example under other names).
- the example specs for these targets from an empty store with `--jobs` cores against `--jobs 1`.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SPECS = Path(__file__).parent.parent / "model_specs"
COMMAND = [sys.executable, "-m", "repo_builder"]
TARGETS = ["--target", "cpu", "--target", "cpu-openvino"]
WANTED_STARTUP_RATIO = 2.0
WANTED_NOTHING_SECONDS = 1.0


def timed(command: list[str]) -> float:
    """Seconds of a whole process; its output is shown only where it fails."""
    # With compiled bytecode there, as an installed package has it.
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    begun = time.perf_counter()
    ended = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    seconds = time.perf_counter() - begun
    if ended.returncode:
        sys.exit(f"{' '.join(command)}\n{ended.stdout}{ended.stderr}")
    return seconds


def startup(rounds: int = 15) -> dict[str, float]:
    """Median milliseconds of `--help` and of importing click, run in turns."""
    script = shutil.which("repo-builder", path=str(Path(sys.executable).parent))
    command = [script] if script else COMMAND
    ours, click = [], []
    for _ in range(rounds):
        ours.append(timed([*command, "--help"]))
        click.append(timed([sys.executable, "-c", "import click"]))
    help_ms, click_ms = (1e3 * statistics.median(times) for times in (ours, click))
    return {
        "help_ms": round(help_ms, 1),
        "import_click_ms": round(click_ms, 1),
        "ratio": round(help_ms / click_ms, 2),
    }


def nothing_to_do(scratch: Path, count: int = 50) -> dict[str, float]:
    """Seconds of a second build of `count` models x 2 targets, median of 5."""
    specs = scratch / "specs"
    specs.mkdir()
    text = (SPECS / "digits.yaml").read_text(encoding="utf-8")
    text = text.replace("digits/", f"{SPECS}/digits/")
    for number in range(count):
        named = text.replace("name: digits", f"name: digits-{number:02d}")
        (specs / f"digits-{number:02d}.yaml").write_text(named, encoding="utf-8")
    build = [*COMMAND, "build", str(specs), "--store", str(scratch / "store")]
    build += ["--out", str(scratch / "out"), *TARGETS]
    timed(build)
    again = statistics.median(timed(build) for _ in range(5))
    rows = json.loads((scratch / "out" / "report.json").read_text(encoding="utf-8"))["rows"]
    assert {row["status"] for row in rows} == {"cached"}
    return {"model@targets": len(rows), "seconds": round(again, 3)}


def parallel(scratch: Path) -> dict[str, float]:
    """Seconds of building the example specs from nothing, with one job and with all cores."""
    seconds = {}
    jobs = len(os.sched_getaffinity(0))
    for count in (1, jobs):
        folder = scratch / f"jobs-{count}"
        build = [*COMMAND, "build", str(SPECS), "--store", str(folder / "store"), *TARGETS]
        seconds[count] = timed([*build, "--out", str(folder / "out"), "--jobs", str(count)])
    return {
        "one_job_s": round(seconds[1], 1),
        f"{jobs}_jobs_s": round(seconds[jobs], 1),
        "ratio": round(seconds[1] / seconds[jobs], 2),
    }


def main() -> int:
    with tempfile.TemporaryDirectory() as scratch:
        figures = {
            "start-up": startup(),
            "nothing to do": nothing_to_do(Path(scratch)),
            "parallel": parallel(Path(scratch)),
        }
    print(json.dumps(figures, indent=2))
    reached = (
        figures["start-up"]["ratio"] <= WANTED_STARTUP_RATIO
        and figures["nothing to do"]["seconds"] < WANTED_NOTHING_SECONDS
    )
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
