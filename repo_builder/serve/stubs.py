"""The Python processes that run models for Triton: which of them died, and their models' reload.

Triton does not see that such a process, its stub, is killed or crashes: model and server stay
"ready", every request fails, and a plain load does nothing. The dead stub stays a zombie, since
Triton waits for it only when it unloads the model; unload and load repair it.
"""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from typing import Any

from repo_builder.base import http_request
from repo_builder.base.errors import ServeError

_COMM = "triton_python_b"  # the first 15 characters of its name
_UNLOAD_S = 60
_LOAD_S = 600
_POLL_S = 0.1


class Stubs:
    """The stubs of the Triton with process id `triton`."""

    def __init__(self, triton: int) -> None:
        self._triton = triton
        self._models: dict[int, str] = {}
        self._zombies: set[int] = set()

    def dead(self) -> list[str]:
        """The models that lost a stub since the last look; "" for one that was never seen alive.

        One that Triton ends itself is a zombie for an instant: it is dead at the second look.
        """
        living, zombies = {}, set()
        for pid, state in _children(self._triton):
            if state == "Z":
                zombies.add(pid)
            elif model := _model(pid) or self._models.get(pid):
                living[pid] = model
        dead = {self._models.get(pid, "") for pid in zombies & self._zombies}
        self._zombies = zombies
        # Told once: what is reloaded gets new stubs, and the zombie goes.
        self._models = living | {pid: self._models.get(pid, "") for pid in zombies}
        return sorted(dead)


def reload(address: str, model: str) -> None:
    """Unload and load `model` by the HTTP endpoint `address`; other models go on meanwhile.

    ServeError with Triton's reason where it does not come back.
    """
    _post(address, f"/v2/repository/models/{model}/unload", _UNLOAD_S)
    end = time.monotonic() + _UNLOAD_S
    while any(entry["state"] == "UNLOADING" for entry in _index(address, model)):
        if time.monotonic() > end:
            raise ServeError(f"model '{model}' was not unloaded within {_UNLOAD_S} s")
        time.sleep(_POLL_S)
    _post(address, f"/v2/repository/models/{model}/load", _LOAD_S)


def _index(address: str, model: str) -> list[Any]:
    entries = json.loads(_post(address, "/v2/repository/index", _UNLOAD_S))
    return [entry for entry in entries if entry["name"] == model and "state" in entry]


def _post(address: str, path: str, timeout_s: float) -> bytes:
    try:
        status, body = http_request.send(address, "POST", path, timeout_s=timeout_s)
    except (OSError, http.client.HTTPException) as failure:
        raise ServeError(f"Triton did not answer {path}: {failure}") from None
    if status != http.client.OK:
        raise ServeError(f"Triton refused {path}: {body.decode(errors='replace')}")
    return body


def _children(parent: int) -> list[tuple[int, str]]:
    """Process id and state of the stubs whose parent is `parent`."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, rest = stat.read_text(errors="replace").partition("(")[2].rpartition(")")
        except (FileNotFoundError, ProcessLookupError):
            continue
        state, ppid = rest.split()[:2]
        if name == _COMM and int(ppid) == parent:
            found.append((int(stat.parent.name), state))
    return found


def _model(stub: int) -> str:
    """The model of a living stub: its first argument is <models>/<model>/<version>/<file>."""
    try:
        words = Path(f"/proc/{stub}/cmdline").read_bytes().split(b"\0")
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return Path(words[1].decode()).parents[1].name if len(words) > 2 else ""
