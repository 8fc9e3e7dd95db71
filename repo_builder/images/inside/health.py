"""The health check of an image, which has neither a shell nor curl: healthy, or exit code 1.

    python3 -IS health.py            every model that Triton was told to serve answers
    python3 -IS health.py live       Triton lives, and so does every process that runs a model
    python3 -IS health.py restart    as the first; ends a Triton whose model process died

Triton does not see that a Python process of a model dies: model and server stay "ready", and only
a new start helps. Docker's restart policy looks at exits, not at health, hence `restart`. And its
own /v2/health/ready is false while any version loads or drains, and after a failed load for good,
though every model answers; so models are asked about one by one.
"""

import http.client
import json
import os
import signal
import sys
import time
from pathlib import Path

_STUB = "triton_python_b"  # the names of processes are cut after 15 characters
_TRITON = "tritonserver"
_INSTANT_S = 0.3


def main() -> None:
    """Say what is wrong on stdout, which `docker inspect` shows, and exit."""
    mode = sys.argv[1] if len(sys.argv) > 1 else "ready"
    orphaned = _with_dead_stubs()
    problems = [f"a process that ran a model of Triton ({pid}) is dead" for pid in orphaned]
    if mode == "restart":
        for pid in orphaned:
            os.kill(pid, signal.SIGINT)
    try:
        if mode == "live":
            _ask("GET", "/v2/health/live")
        else:
            problems += _unserved()
    except (OSError, http.client.HTTPException, ValueError) as failure:
        problems.append(f"Triton does not answer: {failure!r}")
    print("; ".join(problems) or "healthy")
    sys.exit(1 if problems else 0)


def _unserved() -> list[str]:
    """What is wrong with the models; where the index is for others alone, Triton's own word."""
    try:
        index = _ask("POST", "/v2/repository/index")
    except PermissionError:  # while plans of TensorRT are built, only their builder may ask
        _ask("GET", "/v2/health/ready")
        return []
    return unserved(json.loads(index))


def unserved(index: list[dict[str, str]]) -> list[str]:
    """What is wrong with the models of Triton's repository index.

    A model is served where any version of it is ready, and need not be where it was never loaded
    or was unloaded on purpose.
    """
    states: dict[str, list[dict[str, str]]] = {}
    for entry in index:
        states.setdefault(entry["name"], []).append(entry)
    problems = []
    for name, entries in states.items():
        wanted = [one for one in entries if "state" in one and one.get("reason") != "unloaded"]
        if wanted and all(one["state"] != "READY" for one in wanted):
            said = ", ".join(f"{one['state']} {one.get('reason', '')}".strip() for one in wanted)
            problems.append(f"model {name}: {said}")
    return problems


def _ask(method: str, path: str) -> bytes:
    port = int(os.environ.get("TRITON_HTTP_PORT", "8000"))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    connection.request(method, path)
    answer = connection.getresponse()
    if answer.status == http.client.FORBIDDEN:
        raise PermissionError(f"{path}: {answer.status}")
    if answer.status != http.client.OK:
        raise ValueError(f"{path}: {answer.status}")
    return answer.read()


def _with_dead_stubs() -> list[int]:
    """The Tritons that have a dead stub; of TRITON_PID alone where that is set.

    A dead stub stays a zombie, as Triton does not look. One that Triton ends itself, because the
    model is unloaded, is one for an instant only.
    """
    dead = _zombies()
    if dead:
        time.sleep(_INSTANT_S)
        dead &= _zombies()
    only = os.environ.get("TRITON_PID")
    parents = sorted({parent for _, parent in dead if only in (None, str(parent))})
    return [pid for pid in parents if _process(Path(f"/proc/{pid}/stat"))[0] == _TRITON]


def _zombies() -> set[tuple[str, int]]:
    """Process ids of dead stubs, and of their parents."""
    found = set()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        name, state, parent = _process(stat)
        if name == _STUB and state == "Z":
            found.add((stat.parent.name, parent))
    return found


def _process(stat: Path) -> tuple[str, str, int]:
    """Name, state and parent of a process; empty where it has ended."""
    try:
        name, _, rest = stat.read_text(errors="replace").partition("(")[2].rpartition(")")
    except (FileNotFoundError, ProcessLookupError):
        return "", "", 0
    state, parent = rest.split()[:2]
    return name, state, int(parent)


if __name__ == "__main__":
    main()
