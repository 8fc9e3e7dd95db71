"""The example specs, copied to a place where tests may build, change and break them."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

SPECS = Path(__file__).parents[2] / "model_specs"
CPU = "[cpu, cpu-openvino]"


def repo_builder(
    *arguments: object, cwd: Path | None = None, **env: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "repo_builder", *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=cwd, env={**os.environ, **env}, check=False
    )


class Workplace:
    """A copy of the example specs with a store and an output of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.specs = folder / "model_specs"
        self.out = folder / "build"
        self.store = folder / "store"
        shutil.copytree(SPECS, self.specs)
        for spec in self.specs.glob("*.yaml"):  # all tiers are another test's
            every = r"^targets:(\n(  - .*\n)+| \[.*\]\n)"
            text = re.sub(every, f"targets: {CPU}\n", spec.read_text(), flags=re.M)
            spec.write_text(text.split("\noverrides:")[0])

    def run(self, command: str, *options: object) -> subprocess.CompletedProcess[str]:
        where = () if command == "plan" else ("--out", self.out)
        return repo_builder(command, self.specs, "--store", self.store, *where, *options)

    def build(self, *options: object) -> dict[str, Any]:
        ended = self.run("build", "--json", *options)
        assert ended.returncode == 0, ended.stderr
        report: dict[str, Any] = json.loads(ended.stdout)
        return report

    def steps_to_run(self, *options: object) -> dict[tuple[str, str], str]:
        """(model@target, step) -> why, of what a build would run."""
        ended = self.run("plan", "--json", *options)
        assert ended.returncode == 0, ended.stderr
        lines = json.loads(ended.stdout)
        return {(line["id"], line["step"]): line["why"] for line in lines if not line["cached"]}

    def edit(self, name: str, old: str, new: str) -> None:
        path = self.specs / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))
