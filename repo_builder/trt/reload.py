"""Lets a Triton that serves load a model again with another config; standard library alone."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import time
from pathlib import Path

from repo_builder.base import http_request
from repo_builder.base.errors import ModelError, ServeError, UsageError
from repo_builder.trt.timings import replace

HEADER = "REPO_BUILDER_TRITON_HEADER"
"""The environment's NAME=VALUE that a Triton with a restricted model-repository API asks for."""

_READY_WITHIN_S = 300.0
_LOAD_S = 600.0


def load(model: Path, config: Path, triton: str) -> None:
    """Load the folder `model` with the file `config` as config.pbtxt, in Triton at `triton`.

    `triton` is host:port of its HTTP. Until the new one is ready the old one answers, and keeps
    answering where Triton refuses the new one: ModelError in Triton's words. config.pbtxt is
    exchanged while Triton loads and then put back, so that each start begins with the same file.
    ServeError where Triton ends meanwhile, UsageError where none answers.
    """
    _wait(triton)
    served = model / "config.pbtxt"
    before = served.read_bytes()
    # Triton looks at names and times of files: a new file, never a link to an older one.
    replace(served, config.read_bytes())
    try:
        status, answer = _ask(triton, "POST", f"/v2/repository/models/{model.name}/load", _LOAD_S)
    except (OSError, http.client.HTTPException) as failure:
        raise ServeError(f"Triton went away while it loaded the plan: {failure!r}") from failure
    finally:
        replace(served, before)
    if status != http.client.OK:
        raise ModelError(f"Triton refuses the plan: {_reason(answer)}")


def _wait(triton: str) -> None:
    """Wait until Triton has loaded what it starts with: only then it answers at all."""
    until = time.monotonic() + _READY_WITHIN_S
    while time.monotonic() < until:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if _ask(triton, "GET", "/v2/health/live", 5)[0] == http.client.OK:
                return
        time.sleep(0.5)
    raise UsageError(
        f"no Triton answers at http://{triton}; start it with --model-control-mode=explicit"
    )


def _ask(triton: str, method: str, path: str, timeout_s: float) -> tuple[int, bytes]:
    name, _, value = os.environ.get(HEADER, "").partition("=")
    headers = {name: value} if name else {}
    return http_request.send(triton, method, path, timeout_s=timeout_s, headers=headers)


def _reason(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["error"])
    except (ValueError, KeyError, TypeError):
        return answer.decode(errors="replace").strip()
