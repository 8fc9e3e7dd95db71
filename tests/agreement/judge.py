"""Lint's and genuine Triton's verdict on each case."""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import select
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from repo_builder import serve, targets
from repo_builder.repository.lint import Finding, lint
from tests.agreement.mutate import Case
from tests.agreement.repository import python
from tests.agreement.seeds import HEAD

DEADLINE_S = 60
SILENCE = f"no answer in {DEADLINE_S} s"
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
    def unjudged(self) -> bool:
        """The backends at hand say that only Triton's C++ ones can do this."""
        return "C++ backend" in self.reason or "answers each request exactly once" in self.reason

    @property
    def missed(self) -> bool:
        """Triton refuses what passes lint."""
        return bool(self.reason) and not self.findings and not self.unjudged

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
    half = len(names) // 2
    with ThreadPoolExecutor(2) as threads:
        halves = threads.map(
            lambda some: _load_all(root / "models", some), (names[:half], names[half:])
        )
        reasons = {name: reason for part in halves for name, reason in part.items()}
    return [
        Verdict(case, findings, reasons[name])
        for case, findings, name in zip(cases, found, names, strict=True)
    ]


def _load_all(models: Path, names: Sequence[str]) -> dict[str, str]:
    """Name -> why genuine Triton could not load it, or ""; a server that broke is replaced.

    Silence is a verdict only where another server is silent too.
    """
    reasons: dict[str, str] = {}
    silent: set[str] = set()
    while len(reasons) < len(names):
        with serve.Triton(models, models=[], timeout_s=60, drain_s=0) as server:
            for name in names[len(reasons) :]:
                reason, broken = _load(server, name)
                if reason == SILENCE and name not in silent:
                    silent.add(name)
                    break
                reasons[name] = reason
                if broken:
                    break
    return reasons


def _load(server: serve.Triton, name: str) -> tuple[str, bool]:
    """Load a model and unload it: why it could not be, and whether that broke the server."""
    deadline = time.monotonic() + DEADLINE_S
    connection = http.client.HTTPConnection(server.http_url, timeout=DEADLINE_S)
    with contextlib.closing(connection):
        try:
            connection.request("POST", f"/v2/repository/models/{name}/load")
            while not select.select([connection.sock], [], [], 0.2)[0]:
                # Triton waits for ever where the python backend finds no model file.
                lost = f"Python model file not found in '{server.models_dir}/{name}/"
                if lost in server.log.read_text(errors="replace"):
                    return f"{lost}...; Triton waits for ever", True
                if time.monotonic() > deadline:
                    return SILENCE, True
            answer = connection.getresponse()
            body = answer.read()
        except (http.client.RemoteDisconnected, ConnectionError):
            return "Triton crashed", True
        if answer.status != http.client.OK:
            return _reason(server, name, str(json.loads(body)["error"])), False
        connection.request("POST", f"/v2/repository/models/{name}/unload")
        connection.getresponse().read()
    return "", False


def _reason(server: serve.Triton, name: str, answer: str) -> str:
    """What the log says where the answer is only that polling failed."""
    log = server.log.read_text(errors="replace")
    found = re.search(rf"Poll failed for model directory '{re.escape(name)}': (.*)", log)
    return found[1] if found else answer
