"""Lint's and genuine Triton's verdict on each case."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import select
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from repo_builder import serve, targets
from repo_builder.repository.lint import Finding, lint
from tests.agreement.mutate import Case
from tests.agreement.repository import python
from tests.agreement.seeds import HEAD

HERE = ("core", "backend")
"""Judges that this Triton has; `c++` backends are not here, and `sense` refuses nothing."""


@dataclass(frozen=True)
class Verdict:
    """What both say: lint's errors that this Triton can have, and Triton's reason or ""."""

    case: Case
    findings: tuple[Finding, ...]
    reason: str

    @property
    def lint_refuses(self) -> bool:
        """Whether lint says that this Triton refuses the model."""
        return bool(self.findings)

    @property
    def missed(self) -> bool:
        """Triton refuses what passes lint."""
        return bool(self.reason) and not self.findings

    @property
    def wrongly_refused(self) -> bool:
        """Lint refuses what Triton accepts."""
        return bool(self.findings) and not self.reason


def judge(cases: Sequence[Case], root: Path) -> list[Verdict]:
    """Write all cases below `root`, lint each alone, and load each in one genuine Triton."""
    names = []
    for number, case in enumerate(cases):
        folder = root / "lint" / str(number)
        folder.mkdir(parents=True)
        names.append(case.repository.write(folder, f"c{number:04}-"))
        case.repository.write(root / "models", f"c{number:04}-")
    # Triton wants to see at least one model that can be read.
    python(HEAD).write(root / "models", "good-")
    device = targets.load()["cpu"]
    found = []
    for number, name in enumerate(names):
        everything = lint([root / "lint" / str(number)], target=device)
        found.append(
            tuple(
                f
                for f in everything
                if f.severity == "error" and f.judge in HERE and f.model == name
            )
        )
    with serve.Triton(root / "models", models=[], timeout_s=60, drain_s=0) as server:
        load = _loader(server)
        with ThreadPoolExecutor(2) as threads:
            reasons = list(threads.map(load, names))
        log = server.log.read_text(errors="replace")
    polled = dict(re.findall(r"Poll failed for model directory '(.+?)': (.*)", log))
    reasons = [
        polled.get(name, reason) if reason else ""
        for name, reason in zip(names, reasons, strict=True)
    ]
    return [Verdict(*both) for both in zip(cases, found, reasons, strict=True)]


def _loader(server: serve.Triton) -> Callable[[str], str]:
    """A function that loads a model, unloads it, and returns why it could not be, or ""."""

    def post(name: str, verb: str) -> str:
        connection = http.client.HTTPConnection(server.http_url, timeout=60)
        with contextlib.closing(connection):
            connection.request("POST", f"/v2/repository/models/{name}/{verb}")
            while not select.select([connection.sock], [], [], 0.5)[0]:
                # Triton waits for ever where the python backend finds no model file.
                lost = f"Python model file not found in '{server.models_dir}/{name}/"
                if lost in server.log.read_text(errors="replace"):
                    return lost
            answer = connection.getresponse()
            body = answer.read()
            return "" if answer.status == http.client.OK else str(json.loads(body)["error"])

    def load(name: str) -> str:
        reason = post(name, "load")
        if not reason:
            post(name, "unload")
        return reason

    return load
