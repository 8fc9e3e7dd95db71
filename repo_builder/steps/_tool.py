"""Runs a vendor's command-line tool: its output goes to the step's log, its time is limited."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from repo_builder.base.errors import StepError


def run(name: str, argv: Sequence[str], folder: Path, limit_s: float) -> str:
    """Run `argv` in `folder`; returns what it printed, which is printed here too.

    StepError where it cannot start, ends with an error (its last line is the reason), or runs
    longer than `limit_s`: then it and its children are killed.
    """
    try:
        process = subprocess.Popen(
            argv,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as failure:
        raise StepError(f"{name} cannot be started: {failure.strerror}") from failure
    try:
        output, _ = process.communicate(timeout=limit_s)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
        print(output, flush=True)
        raise StepError(
            f"{name} was still running after {limit_s:.0f} s and was stopped; its output is in the "
            "log; try a smaller model"
        ) from None
    print(output, flush=True)
    if process.returncode != 0:
        raise StepError(f"{name} failed ({_end(process.returncode)}): {_reason(output)}")
    return output


def _end(code: int) -> str:
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def _reason(output: str) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else "it printed nothing"
