"""A step that does what its parameters say, and tells what it saw."""

from __future__ import annotations

import ctypes
import errno
import os
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from repo_builder.base.errors import DataError


@dataclass(frozen=True)
class Params:
    """`do` is what happens, `journal` a file that gets a line at begin and end."""

    name: str
    do: str = ""
    journal: str = ""
    seconds: float = 0.0
    outputs: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Inputs:
    a: Path | None = None
    b: Path | None = None
    source: Path | None = None


@dataclass(frozen=True)
class Facts:
    name: str
    inputs: dict[str, str]
    process: int


def run(inputs: Inputs, params: Params, out: Path) -> Facts:
    tell(params, "begin")
    if params.seconds:
        time.sleep(params.seconds)
    seen = {
        f"{name}/{path.relative_to(folder)}": path.read_text()
        for name, folder in vars(inputs).items()
        if folder is not None
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    if params.do:
        ACTIONS[params.do](out)
    (out / "result").write_text(params.name + "".join(seen.values()))
    for name, content in params.outputs.items():
        (out / name).write_text(content)
    tell(params, "end")
    return Facts(params.name, seen, os.getpid())


def tell(params: Params, what: str) -> None:
    if params.journal:
        with Path(params.journal).open("a") as file:
            file.write(f"{what} {params.name} {os.getpid()}\n")


def segfault(_: Path) -> None:
    os.kill(os.getpid(), 11)


def abort(_: Path) -> None:
    os.abort()


def killed(_: Path) -> None:
    os.kill(os.getpid(), 9)


def leave(_: Path) -> None:
    os._exit(0)


def bug(_: Path) -> None:
    print("said before the bug")
    raise ValueError("two\nlines")


def mistake(_: Path) -> None:
    raise DataError("source.txt: holds NaN; remove it")


def exhaust(_: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (400_000_000, resource.RLIM_INFINITY))
    try:
        bytearray(4_000_000_000)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def fill(out: Path) -> None:
    with (out / "big").open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))


def full(_: Path) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def tool(_: Path) -> None:
    """Run a tool that outlives all patience."""
    subprocess.run([sys.executable, "-c", "import time; time.sleep(1000)"], check=False)


def native_hang(_: Path) -> None:
    """Wait in native code, and let no other thread of Python go on."""
    ctypes.PyDLL(None).pause()


def noise(_: Path) -> None:
    print("python says")
    os.write(1, b"native says\n")
    os.write(2, b"native warns\n")
    subprocess.run(["echo", "tool says"], check=True)


def unsendable(_: Path) -> None:
    class Local(Exception):
        pass

    raise Local("cannot be pickled")


ACTIONS: dict[str, Any] = {
    action.__name__: action
    for action in (
        segfault, abort, killed, leave, bug, mistake, exhaust, fill, full, tool, native_hang,
        noise, unsendable,
    )
}  # fmt: skip
