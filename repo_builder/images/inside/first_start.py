"""Before Triton, on a device that builds TensorRT plans itself: a place for them, and the program.

Models are read-only and verified. So Triton gets a view of them in a writable folder, links in real
folders, and the program of the first start, which runs beside it, adds plans to the view and lets
Triton load a model again. Nobody else can: the API for that asks for a token made at this start.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

_HEADER = "repo-builder-token"


def begin(command: Sequence[str], models: Path, state: Path, program: Path) -> list[str]:
    """Start the program in the folder `program`; returns Triton's command over the view.

    Where `state` cannot be written, or serves another container, the command stays as it is.
    """
    view = state / "models"
    try:
        _claim(state)
        make_view(models, view)
    except BlockingIOError:
        return _without(command, f"{state} is in use by another container; mount one of its own")
    except OSError as error:
        return _without(command, f"{error}; mount a volume at {state}")
    token = secrets.token_hex(16)
    address = f"127.0.0.1:{os.environ.get('TRITON_HTTP_PORT', '8000')}"
    subprocess.Popen(
        [
            *(sys.executable, "-s", "-m", "repo_builder.trt", str(view), str(state / "plans")),
            *(str(state / "status.json"), address),
        ],
        cwd=program,
        env={**os.environ, "REPO_BUILDER_TRITON_HEADER": f"{_HEADER}={token}"},
    )
    # Triton's own command line shows the token, inside the container.
    restricted = f"model-repository:{_HEADER}={token}"
    ours = [
        *("--model-control-mode=explicit", "--load-model=*"),
        *(f"--http-restricted-api={restricted}", f"--grpc-restricted-protocol={restricted}"),
    ]
    triton, *rest = (
        f"--model-repository={view}" if word == f"--model-repository={models}" else word
        for word in command
    )
    return [triton, *ours, *rest]


def make_view(models: Path, view: Path) -> None:
    """Make `view` anew: the folders of `models`, with links to its files."""
    if view.is_symlink() or view.exists():
        shutil.rmtree(view)  # refuses a link
    for folder, _, names in os.walk(models):
        here = view / Path(folder).relative_to(models)
        here.mkdir()
        for name in names:
            # Alike in serve/view.py: here the standard library is all there is, and links to
            # folders, which nothing signed, are left out.
            (here / name).symlink_to(Path(folder, name))


def _claim(state: Path) -> None:
    """Lock the folder for as long as the process lives that this one becomes."""
    lock = os.open(state / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.set_inheritable(lock, True)


def _without(command: Sequence[str], why: str) -> list[str]:
    print(f"no TensorRT plans: {why}; models stay on ONNX Runtime", file=sys.stderr, flush=True)
    return list(command)
