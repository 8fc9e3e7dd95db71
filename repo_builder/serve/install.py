"""Where a genuine Triton is, and the backend directory that it gets.

Triton is taken from an explicit path, else from /opt/tritonserver (where NVIDIA's images keep it),
else from the package `nvidia-pytriton`. The backend directory is a new folder per server: links to
the backends that the installation has, and our Python-based ones for `onnxruntime` and `openvino`
where it lacks them.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base.errors import MissingExtra, ServeError

IMAGE_PREFIX = Path("/opt/tritonserver")
OURS = Path(__file__).parent / "backends"
STUB = "triton_python_backend_stub"


@dataclass(frozen=True)
class Install:
    """A genuine Triton: its executable, its backends, its libraries, and stubs per Python."""

    binary: Path
    backends: Path
    libraries: Path | None = None
    stubs: Path | None = None

    def environment(self) -> dict[str, str]:
        """The variables Triton needs beside those of this process.

        The Python stub is an isolated interpreter: it finds packages through the `python3` that is
        first on PATH, and its own library through LD_LIBRARY_PATH. Large pages for malloc (from
        glibc 2.35 on; ignored elsewhere) make models some 2 % faster: docs/benchmarks.md.
        """
        wanted = [self.libraries, Path(sysconfig.get_config_var("LIBDIR") or sys.base_prefix)]
        libraries = [str(path) for path in wanted if path]
        libraries += filter(None, [os.environ.get("LD_LIBRARY_PATH")])
        path = [str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]
        return {
            "PATH": os.pathsep.join(path),
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"),
        }

    def prepare_backends(self, folder: Path) -> list[str]:
        """Fill the new `folder` with every backend; returns the names of those that are ours.

        Raises ServeError where our backends cannot run: no Python backend in the installation, or
        one built for another Python than this.
        """
        folder.mkdir(parents=True)
        theirs = {path.name for path in self.backends.iterdir() if path.is_dir()}
        ours = sorted(path.name for path in OURS.iterdir() if path.is_dir())
        ours = [name for name in ours if name not in theirs and not name.startswith("_")]
        for name in sorted(theirs - {"python"}):
            (folder / name).symlink_to(self.backends / name)
        if "python" in theirs:
            self._prepare_python(folder / "python", needed=bool(ours))
        elif ours:
            raise ServeError(
                f"{self.backends}: no python backend, so there is nothing to run "
                f"{' and '.join(ours)} with; use a Triton that has one"
            )
        for name in ours:
            shutil.copytree(
                OURS / name, folder / name, ignore=shutil.ignore_patterns("__pycache__")
            )
            for module in sorted(OURS.glob("*.py")):
                shutil.copy(module, folder / name)
        return ours

    def _prepare_python(self, folder: Path, *, needed: bool) -> None:
        """Put the python backend into `folder`, with the stub for this Python."""
        source = self.backends / "python"
        if self.stubs is None:
            folder.symlink_to(source)
            stub = source / STUB
        else:
            # Triton refuses a backend library that is a link out of its directory: copy.
            shutil.copytree(source, folder, ignore=shutil.ignore_patterns("__pycache__", STUB))
            version = f"{sys.version_info.major}.{sys.version_info.minor}"
            stub = self.stubs / version / STUB
            if not stub.exists():
                has = ", ".join(sorted(path.name for path in self.stubs.iterdir()))
                raise ServeError(
                    f"this Triton has no Python stub for Python {version}; it has {has}"
                )
            # An executable just written cannot be run while any fork holds it open: link.
            (folder / STUB).symlink_to(stub)
        if needed:
            _check_stub(stub)


def find(path: Path | None = None) -> Install:
    """The Triton at `path` (its folder, or the executable), else the first one found.

    Raises ServeError where `path` holds none, MissingExtra where there is none at all.
    """
    if path is not None:
        prefix = path.parent.parent if path.is_file() else path
        if not (prefix / "bin" / "tritonserver").is_file():
            raise ServeError(
                f"{path}: no Triton there; give the folder that holds bin/tritonserver"
            )
        return _from_prefix(prefix)
    if (IMAGE_PREFIX / "bin" / "tritonserver").is_file():
        return _from_prefix(IMAGE_PREFIX)
    package = importlib.util.find_spec("pytriton")
    if package is None or package.origin is None:
        raise MissingExtra("serve", "serving (no Triton in /opt/tritonserver either)")
    return _from_prefix(Path(package.origin).parent / "tritonserver")


def _from_prefix(prefix: Path) -> Install:
    """An installation below `prefix`, in the layout of NVIDIA's images or of nvidia-pytriton."""
    prefix = prefix.absolute()
    stubs = prefix / "python_backend_stubs"
    libraries = [prefix.parent.parent / "nvidia_pytriton.libs", prefix / "lib"]
    return Install(
        binary=prefix / "bin" / "tritonserver",
        backends=prefix / "backends",
        libraries=next((path for path in libraries if path.is_dir()), None),
        stubs=stubs if stubs.is_dir() else None,
    )


def _check_stub(stub: Path) -> None:
    """Raise ServeError where the stub could not start under this Python."""
    import ctypes.util

    if not stub.exists():
        raise ServeError(f"{stub}: missing, so Python-based backends cannot run in this Triton")
    linked = re.search(rb"libpython(3\.\d+)\.so[.\d]*", stub.read_bytes())
    if linked is None:
        return
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    built_for = linked.group(1).decode()
    if built_for != version:
        raise ServeError(
            f"{stub} is built for Python {built_for} and this is {version}; "
            f"install repo-builder under Python {built_for}"
        )
    library = linked.group(0).decode()
    beside = Path(sysconfig.get_config_var("LIBDIR") or sys.base_prefix) / library
    if not beside.exists() and ctypes.util.find_library(f"python{version}") is None:
        raise ServeError(
            f"Triton's Python stub needs {library}, which this Python does not have; "
            f"install it (Debian, Ubuntu: libpython{version}) or use a Python built --enable-shared"
        )
