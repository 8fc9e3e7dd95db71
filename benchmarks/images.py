"""An image against the same server outside: start, memory, throughput; and building and size.

    python benchmarks/images.py [--base IMAGE] [--rounds 5] [--seconds 1.5]

The examples digits, shapes and vibration are built for `cpu` and served by a genuine Triton, once
in a container as compose/edge.yaml runs it and once as a process. All rounds take turns, so that
what else the machine does hits both alike; only ratios within one run mean something. CPU per
request tells on a busy machine what throughput cannot. Needs a container engine. Exits with 1
where a wanted figure is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from serving import served

from repo_builder.base import console
from repo_builder.serve import Triton

ROOT = Path(__file__).parents[1]
MODELS = ("digits", "shapes", "vibration")
CLIENTS = 4
BELOW = ("base", "server", "python", "app")
# At most; throughput has a least ratio instead.
WANTED = {
    "start to ready, ratio": 1.3,
    "memory at rest, ratio": 1.05,
    "rebuild with nothing changed, s": 3.0,
    "without models on disk, MB": 210.0,
    "without models to pull, MB": 72.0,
}
WANTED_THROUGHPUT = 0.95


@dataclass(frozen=True)
class Server:
    """A server that is ready: how long that took, and the process that its others descend from."""

    start_s: float
    pid: int
    grpc_url: str


def cli(*words: object, timed: bool = False) -> Any:
    """Run repo-builder; its output, or the seconds that it took."""
    begun = time.perf_counter()
    command = [sys.executable, "-m", "repo_builder", *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stderr}")
    return time.perf_counter() - begun if timed else done.stdout


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_ready(port: int) -> None:
    """Until Triton says that it and all its models are ready."""
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/v2/health/ready")
            if connection.getresponse().status == http.client.OK:
                return
        time.sleep(0.01)


@contextlib.contextmanager
def container(client: Any, image: str) -> Iterator[Server]:
    """The image as compose/edge.yaml runs it, on ports of loopback."""
    ports = {name: free_port() for name in ("http", "grpc", "metrics")}
    begun = time.perf_counter()
    running = client.containers.run(
        image,
        [f"--{name}-port={port}" for name, port in ports.items()]
        + [f"--{name}-address=127.0.0.1" for name in ports],
        detach=True,
        network_mode="host",
        read_only=True,
        tmpfs={"/tmp": "size=64m"},  # noqa: S108 (in the container)
        shm_size="256m",
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        environment={"TRITON_HTTP_PORT": str(ports["http"])},
    )
    try:
        wait_ready(ports["http"])
        took = time.perf_counter() - begun
        running.reload()
        yield Server(took, running.attrs["State"]["Pid"], f"127.0.0.1:{ports['grpc']}")
    finally:
        running.remove(force=True)


@contextlib.contextmanager
def process(repository: Path) -> Iterator[Server]:
    """The same server and models outside."""
    port = free_port()
    server = Triton(repository, http_port=port, timeout_s=120)
    begun = time.perf_counter()
    with server:
        took = time.perf_counter() - begun
        (pid,) = [p for p in descendants(os.getpid()) if "tritonserver" in command_of(p)][:1]
        yield Server(took, pid, server.grpc_url)


def command_of(pid: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].decode()
    return ""


def descendants(pid: int) -> list[int]:
    """The processes below one, nearest first."""
    found = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *descendants(child)]
    return found


def cpu_s(pid: int) -> float:
    """CPU seconds, user and system, that a process and those below it have spent."""
    ticks = 0
    for one in (pid, *descendants(pid)):
        fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])  # utime, stime (proc_pid_stat(5))
    return ticks / os.sysconf("SC_CLK_TCK")


def memory_mb(pid: int) -> float:
    """Memory of a process and those below it, in MB of 1e6 bytes: each page of a file once.

    Not the kernel's proportional size: that is less where other servers map the same files.
    """
    own, shared = 0, dict[tuple[str, str, str], int]()
    for one in (pid, *descendants(pid)):
        place, resident = ("", "", ""), 0
        for line in Path(f"/proc/{one}/smaps").read_text().splitlines():
            words = line.split()
            if not words[0].endswith(":"):
                place = (words[3], words[4], words[2])  # device, inode, offset
            elif words[0] == "Rss:":
                resident = int(words[1])
            elif words[0] == "Anonymous:":
                own += int(words[1])
                if place[1] != "0":
                    shared[place] = max(shared.get(place, 0), resident - int(words[1]))
    return (own + sum(shared.values())) * 1024 / 1e6


def measure(work: Path, base: str, rounds: int, seconds: float) -> dict[str, float]:
    """Build, then start, weigh and ask both in turns; figure -> median."""
    import docker

    specs = work / "specs"
    specs.mkdir()
    for name in MODELS:
        shutil.copyfile(ROOT / f"model_specs/{name}.yaml", specs / f"{name}.yaml")
        (specs / name).symlink_to(ROOT / "model_specs" / name)
    places = ("--store", work / "store", "--out", work / "build", "--no-images")
    cli("build", specs, "--target", "cpu", *places)
    repository = work / "build" / "cpu"
    args = ("images", "build", repository, "--base", base, "--name", "repo-builder-bench/cpu:1")
    image = cli(*args).strip()
    found: dict[str, float] = {}
    rebuilds = [cli(*args, timed=True) for _ in range(rounds)]
    found["rebuild with nothing changed, s"] = statistics.median(rebuilds)
    layers = json.loads(cli("images", "inspect", image, "--json"))["layers"]
    for what, kind in (("on disk", "disk"), ("to pull", "pull")):
        size = sum(layer[kind] for layer in layers if layer["title"] in BELOW)
        found[f"without models {what}, MB"] = size / 1e6
    kinds = {"container": lambda: container(client, image), "outside": lambda: process(repository)}
    starts: dict[str, list[float]] = {kind: [] for kind in kinds}
    weights: dict[str, list[float]] = {kind: [] for kind in kinds}
    rates: dict[str, list[float]] = {kind: [] for kind in kinds}
    costs: dict[str, list[float]] = {kind: [] for kind in kinds}
    client = docker.from_env(timeout=300)
    try:
        for number in range(rounds + 1):
            for kind in sorted(kinds, reverse=number % 2 == 1):
                with kinds[kind]() as server:
                    weight = memory_mb(server.pid)
                if number:  # the first round warms the page cache
                    starts[kind].append(server.start_s)
                    weights[kind].append(weight)
                    console.say(f"{kind}: ready in {server.start_s:.2f} s, {weight:.0f} MB")
        with container(client, image) as inside, process(repository) as outside:
            asked = {"container": inside, "outside": outside}
            for number in range(3 * rounds):
                for kind in sorted(kinds, reverse=number % 2 == 1):
                    server = asked[kind]
                    before = cpu_s(server.pid)
                    rate = served(server.grpc_url, "digits")(CLIENTS, seconds)
                    spent = (cpu_s(server.pid) - before) / (rate * seconds)
                    rates[kind].append(rate)
                    costs[kind].append(spent * 1e6)
                    console.say(f"{kind}: {rate:.0f} requests/s, {spent * 1e6:.0f} us of CPU each")
    finally:
        client.images.remove(image, force=True)
        client.close()
    for what, unit, values in (
        ("start to ready", "s", starts),
        ("memory at rest", "MB", weights),
        ("throughput", "requests/s", rates),
        ("CPU per request", "us", costs),
    ):
        for kind in kinds:
            found[f"{what}, {kind}, {unit}"] = statistics.median(values[kind])
        pairs = zip(values["container"], values["outside"], strict=True)
        found[f"{what}, ratio"] = statistics.median(a / b for a, b in pairs)
    return found


def main() -> None:
    """Parse, measure, print, judge."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", help="base image [default: the one of the tests, .ci/base-image]")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    arguments = parser.parse_args()
    base = arguments.base
    if base is None:
        done = subprocess.run(
            [ROOT / ".ci/base-image"], stdout=subprocess.PIPE, text=True, check=False
        )
        if done.returncode:
            sys.exit("no base image: start a container engine (.ci/engine start), or give --base")
        base = done.stdout.strip()
    with tempfile.TemporaryDirectory() as work:
        found = measure(Path(work), base, arguments.rounds, arguments.seconds)
    missed, rows = [], []
    for what, value in found.items():
        limit = WANTED.get(what)
        wanted = f"at most {limit:g}" if limit else ""
        bad = limit is not None and value > limit
        if what == "throughput, ratio":
            wanted, bad = f"at least {WANTED_THROUGHPUT:g}", value < WANTED_THROUGHPUT
        missed += [what] if bad else []
        rows.append((what, f"{value:.2f}", wanted))
    console.out(console.table(("what", "median", "wanted"), rows, right=(1,)))
    if missed:
        sys.exit(f"missed: {'; '.join(missed)}")


if __name__ == "__main__":
    main()
