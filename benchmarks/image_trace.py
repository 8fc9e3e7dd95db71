"""What the server of an image loads, found by running it under trace: what to leave out of images.

    python benchmarks/image_trace.py IMAGE [--least 100]

The image's files are unpacked and its entry point is run in them under strace, with the models
that are in it. Every model is asked for an answer with
rows of zeros, stages for images with a file of every format and with one that is none; health
check, metrics, statistics and refused requests run too. Then every file that was never
opened is listed, the largest first (`--least` KB), a folder of Python as one line; and every mapped
file of 1 MB or more of which little was ever in memory. Exits with 1 where a library was never
opened and is not on the list KEPT, with the reason. Needs root, strace and a container engine.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import tarfile
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tritonclient.grpc as triton
from images import descendants, free_port, wait_ready
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

from repo_builder.base import console

# Libraries (globs of names) that a run may never open, and why they stay.
KEPT = {
    "libgcc_s.so*": "opened where a thread is cancelled",
    "libnss_*": "opened where a name of a host or of a user is looked up",
    **dict.fromkeys(("liblzma.so*", "libbz2.so*", "libuuid.so*"), "for modules of Python's own"),
    "_*_tests.*.so": "small, and numpy itself imports one of them",
    "lapack_lite.*.so": "of numpy.linalg, small",
    "*/lib-dynload/*": "Python's own library stays whole, but for what slim.py names",
    "ld-linux-*": "the loader, which the kernel opens",
    "usr/bin/python3.*": "opened by the name of its link",
}
CHROOT = shutil.which("chroot") or "/usr/sbin/chroot"
FORMATS = ("PNG", "JPEG", "WEBP", "TIFF", "GIF", "BMP", "JPEG2000", "PPM")


def ask(client: Any, name: str, content: bytes | None) -> str:
    """One request with rows of zeros, or with a file in the inputs of bytes; what was said."""
    inputs = []
    config = client.get_model_config(name, as_json=True)["config"]
    for tensor in client.get_model_metadata(name, as_json=True)["inputs"]:
        shape = [max(int(size), 1) for size in tensor["shape"]]
        one = triton.InferInput(tensor["name"], shape, tensor["datatype"])
        if tensor["datatype"] == "BYTES":
            rows = np.empty(shape, object)
            rows[...] = [content or b""]  # numpy.full would cut zeros off the end
            one.set_data_from_numpy(rows)
        else:
            one.set_data_from_numpy(np.zeros(shape, triton_to_np_dtype(tensor["datatype"])))
        inputs.append(one)
    options = {"sequence_id": 1, "sequence_start": True} if "sequence_batching" in config else {}
    try:
        client.infer(name, inputs, **options)
    except InferenceServerException as failure:
        return str(failure)
    return "answered"


def exercise(http: int, grpc: int, root: Path) -> dict[str, str]:
    """Every model, image format, and way to be refused that a client can reach."""
    from PIL import Image

    picture = Image.fromarray(np.arange(64 * 64 * 3, dtype=np.uint8).reshape(64, 64, 3))
    files: dict[str, bytes | None] = {"none": None, "broken": b"\x89PNG broken"}
    for kind in FORMATS:
        stream = io.BytesIO()
        picture.save(stream, kind)
        files[kind] = stream.getvalue()
    said = {}
    client = triton.InferenceServerClient(f"127.0.0.1:{grpc}")
    for model in client.get_model_repository_index(as_json=True)["models"]:
        name = model["name"]
        inputs = client.get_model_metadata(name, as_json=True)["inputs"]
        takes_files = any(tensor["datatype"] == "BYTES" for tensor in inputs)
        for kind, content in files.items() if takes_files else [("zeros", None)]:
            said[f"{name} ({kind})"] = ask(client, name, content)
        wrong = triton.InferInput("no such input", [1], "FP32")
        wrong.set_data_from_numpy(np.zeros(1, np.float32))
        try:
            client.infer(name, [wrong])
        except InferenceServerException as failure:
            said[f"{name} (wrong input)"] = str(failure)
    client.get_inference_statistics()
    client.close()
    health = [CHROOT, root, "python3", "-IS", "/opt/repo-builder/health.py"]
    done = subprocess.run(
        health, env={"TRITON_HTTP_PORT": str(http), "PATH": "/usr/bin"}, check=False
    )
    said["health check"] = f"exit code {done.returncode}"
    return said


def resident(pid: int, root: Path) -> dict[Path, int]:
    """Mapped file of `root` -> most bytes of it that one process below `pid` had in memory."""
    found: dict[Path, int] = defaultdict(int)
    for one in (pid, *descendants(pid)):
        own: dict[Path, int] = defaultdict(int)
        path = None
        for line in Path(f"/proc/{one}/smaps").read_text().splitlines():
            words = line.split(maxsplit=5)
            if not words[0].endswith(":"):
                path = (
                    Path(words[5]) if len(words) == 6 and words[5].startswith(f"{root}/") else None
                )
            elif words[0] == "Rss:" and path is not None:
                own[path] += int(words[1]) * 1024
        for path, size in own.items():
            found[path] = max(found[path], size)
    return found


def run(root: Path, command: list[str], environment: Mapping[str, str]) -> tuple[set[Path], Any]:
    """Serve in `root` under strace; (files opened, {file: bytes resident})."""
    ports = {name: free_port() for name in ("http", "grpc", "metrics")}
    log = root.parent / "strace"
    traced = [
        shutil.which("strace") or "strace",
        "-f",
        "-qq",
        "-e",
        "trace=open,openat,execve",
        "-o",
        log,
    ]
    traced += [CHROOT, root, *command]
    traced += [f"--{name}-port={port}" for name, port in ports.items()]
    traced += [f"--{name}-address=127.0.0.1" for name in ports]
    server = subprocess.Popen(traced, env=dict(environment), stdout=subprocess.DEVNULL)
    try:
        wait_ready(ports["http"])
        for what, answer in exercise(ports["http"], ports["grpc"], root).items():
            console.say(f"{what}: {' '.join(answer.split())[:100]}")
        sizes = resident(server.pid, root)
        for pid in descendants(server.pid):
            os.kill(pid, signal.SIGINT)
            break
    finally:
        server.wait(timeout=90)
    opened = set()
    for line in log.read_text("utf-8", "replace").splitlines():
        match = re.search(
            r'(?:open|openat|execve)\((?:AT_FDCWD, )?"([^"]+)".*(?:\) = \d|unfinished)', line
        )
        if match:
            opened.add((root / match[1].lstrip("/")).resolve())
    return opened | set(sizes), sizes


@contextlib.contextmanager
def mounted(root: Path, kinds: Mapping[str, str]) -> Iterator[None]:
    """Folder of `root` -> the kind of file system that is mounted there for a while."""
    done = []
    try:
        for name, kind in kinds.items():
            (root / name).mkdir(exist_ok=True)
            subprocess.run(["mount", "-t", kind, kind, root / name], check=True)
            done.append(root / name)
        yield
    finally:
        for path in done:
            subprocess.run(["umount", "--lazy", path], check=True)


def unpack(image: str, root: Path) -> tuple[list[str], dict[str, str]]:
    """The image's files below `root`; its entry point and environment."""
    import docker

    client = docker.from_env(timeout=300)
    settings = client.images.get(image).attrs["Config"]
    container = client.containers.create(image)
    try:
        with tempfile.TemporaryFile() as archive:
            for chunk in container.export():
                archive.write(chunk)
            archive.seek(0)
            with tarfile.open(fileobj=archive) as tar:
                tar.extractall(root, filter="fully_trusted")  # noqa: S202 (an image of our own)
    finally:
        container.remove()
        client.close()
    return settings["Entrypoint"], dict(text.split("=", 1) for text in settings["Env"])


def report(root: Path, opened: set[Path], sizes: Mapping[Path, int], least: int) -> list[str]:
    """Print what was never opened, and what is mapped but not used; the libraries not in KEPT."""
    rows: dict[str, int] = defaultdict(int)
    unused = []
    for path in sorted(root.rglob("*")):
        if not path.is_file() or path.is_symlink() or path.resolve() in opened:
            continue
        inside = path.relative_to(root)
        with path.open("rb") as file:
            library = file.read(4) == b"\x7fELF"
        if library and not any(inside.match(glob) or path.match(glob) for glob in KEPT):
            unused.append(str(inside))
        python = path.suffix in {".py", ".pyc"}
        folder = path.parent.parent if path.parent.name == "__pycache__" else path.parent
        rows[f"{folder.relative_to(root)}/*.py" if python else str(inside)] += path.stat().st_size
    large = [(name, f"{size / 1e3:.0f}") for name, size in rows.items() if size >= least * 1000]
    large.sort(key=lambda row: -float(row[1]))
    console.out(console.table(("never opened", "KB"), large, right=(1,)))
    little = [
        (str(path.relative_to(root)), f"{path.stat().st_size / 1e6:.1f}", f"{size / 1e6:.1f}")
        for path, size in sorted(sizes.items(), key=lambda one: -one[1])
        if path.is_file() and path.stat().st_size >= 1e6
    ]
    console.out(console.table(("mapped", "MB", "in memory, MB"), little, right=(1, 2)))
    return unused


def main() -> None:
    """Unpack, run, report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("image")
    parser.add_argument("--least", type=int, default=100, help="KB of a line in the list")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        root = Path(work).resolve() / "root"
        root.mkdir()
        command, environment = unpack(arguments.image, root)
        with mounted(root, {"dev": "tmpfs", "proc": "proc", "tmp": "tmpfs"}):
            for name, minor in (("null", 3), ("zero", 5), ("random", 8), ("urandom", 9)):
                os.mknod(root / "dev" / name, 0o666 | stat.S_IFCHR, os.makedev(1, minor))
            (root / "dev" / "shm").mkdir(mode=0o777)
            opened, sizes = run(root, command, environment)
        unused = report(root, opened, sizes, arguments.least)
    if unused:
        sys.exit(f"never opened, and not kept for a reason: {'; '.join(unused)}")


if __name__ == "__main__":
    main()
