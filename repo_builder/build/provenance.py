"""When, where and with what a build was made, for its report. Nothing of it shapes a model."""

from __future__ import annotations

import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path

from repo_builder import __version__
from repo_builder.base import machine
from repo_builder.build.report.types import Provenance
from repo_builder.plan import Plan

_PATIENCE_S = 5.0
"""Git answers in milliseconds; on a dead network drive never."""


def of(plan: Plan) -> Provenance:
    """Of a build of `plan` that ends now, on this machine."""
    files = [variant.spec.file for variant in plan.all_variants]
    tools = {t: v for node in plan.nodes.values() for t, v in node.recipe["tools"].items()}
    return Provenance(
        at=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        version=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        cpu=machine.cpu_name(),
        cores=machine.cores_allowed(),
        commit=commit(files[0].parent) if files else "",
        tools=dict(sorted(tools.items())),
    )


def commit(folder: Path) -> str:
    """The commit that is checked out in `folder`, with "-dirty" where tracked files were changed.

    "" where there is no Git, no repository, no commit, or no answer.
    """
    asked = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(
            [*asked, "--exclude=*"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
