"""A build on a real Dask cluster: scheduler and workers are processes, one is killed midway."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from fakes.jetson import Jetson

SPECS = Path(__file__).parents[2] / "model_specs"
ROOT = SPECS.parent
GPU = """\
extends: nvidia-gpu
compile_at: builder
tensorrt: {compute_capability: "8.7"}
"""


class Cluster:
    """A scheduler on a free port, and workers with stores of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: list[subprocess.Popen[bytes]] = []
        address = folder / "scheduler.json"
        self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
            "--scheduler-file", str(address),
        )  # fmt: skip
        self.until(
            lambda: address.exists() and address.read_text().rstrip().endswith("}"),
            "the scheduler's address",
        )
        self.address: str = json.loads(address.read_text())["address"]

    def worker(self, name: str, *options: str, **env: str) -> subprocess.Popen[bytes]:
        store = self.folder / name
        return self._start(
            "worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
            "--name", name, "--local-directory", str(store), *options,
            **{"REPO_BUILDER_STORE": str(store / "store"), **env},
        )  # fmt: skip

    def _start(self, *arguments: str, **env: str) -> subprocess.Popen[bytes]:
        log = (self.folder / f"{len(self.processes)}.log").open("wb")
        process = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_" + arguments[0], *arguments[1:]],
            env={**os.environ, "PYTHONPATH": str(ROOT), **env},
            stdout=log,
            stderr=log,
        )
        self.processes.append(process)
        return process

    def until(self, holds: Callable[[], bool], what: str, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"waited {seconds:g} s for {what}"
            time.sleep(0.05)

    def until_workers(self, count: int) -> None:
        from distributed import Client

        with Client(self.address, set_as_default=False) as client:
            client.wait_for_workers(count, timeout=60)

    def until_file(self, folder: Path, pattern: str) -> None:
        self.until(lambda: any(folder.rglob(pattern)), f"{pattern} in {folder}")

    def build(self, *options: str, specs: Path = SPECS) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "repo_builder", "build", str(specs)]
        command += ["--store", str(self.folder / "here"), "--out", str(self.folder / "out")]
        return subprocess.Popen(
            [*command, "--scheduler", self.address, "--json", *options],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def stop(self) -> None:
        for process in reversed(self.processes):
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Iterator[Cluster]:
    if importlib.util.find_spec("distributed") is None:
        unavailable("the extra `cluster` is not installed")
    cluster = Cluster(tmp_path)
    yield cluster
    cluster.stop()


def test_a_lost_workers_steps_run_elsewhere(cluster: Cluster) -> None:
    victim = cluster.worker("victim")
    cluster.worker("other")
    cluster.until_workers(2)
    build = cluster.build("--only", "digits@cpu", "--only", "vibration@cpu")
    # The victim has begun a step as soon as it keeps a log of one.
    cluster.until_file(cluster.folder / "victim", "*.log")
    victim.send_signal(signal.SIGKILL)
    out, err = build.communicate(timeout=180)
    assert build.returncode == 0, err
    report = json.loads(out)
    assert {row["status"] for row in report["rows"]} == {"built"}
    model = cluster.folder / "out" / "cpu" / "models" / "digits" / "1000000" / "model.onnx"
    assert model.stat().st_size > 1000


def start_gpu_build(cluster: Cluster) -> subprocess.Popen[str]:
    """A build for `cpu` and for a GPU whose plan only a worker with it can make."""
    targets = cluster.folder / "targets"
    targets.mkdir()
    (targets / "gpu-here.yaml").write_text(GPU)
    spec = cluster.folder / "specs" / "vibration.yaml"
    spec.parent.mkdir()
    spec.write_text(
        "name: vibration\nversion: 1.0.0\ntargets: [cpu, gpu-here]\n"
        f"source: {{onnx: {SPECS}/vibration/vibration.onnx}}\n"
    )
    return cluster.build("--targets-dir", str(targets), specs=spec)


def check_that_the_rest_went_on(cluster: Cluster, build: subprocess.Popen[str]) -> None:
    out, err = build.communicate(timeout=120)
    assert build.returncode == 6, err
    assert "Traceback" not in err
    rows = {row["target"]: row for row in json.loads(out)["rows"]}
    assert rows["cpu"]["status"] == "built"
    assert (cluster.folder / "out" / "cpu" / "models" / "vibration").is_dir()
    assert rows["gpu-here"]["status"] == "failed"
    told = rows["gpu-here"]["reason"]
    assert told.startswith(
        "compile-tensorrt waits for hardware: no worker has gpu-here=1 tensorrt=1; start one with"
    )
    assert len(told.splitlines()) == 1


def test_hardware_that_no_worker_has_is_told_and_the_rest_goes_on(cluster: Cluster) -> None:
    cluster.worker("plain")
    cluster.until_workers(1)
    check_that_the_rest_went_on(cluster, start_gpu_build(cluster))


def test_hardware_that_disappears_midway_is_told_and_the_rest_goes_on(
    cluster: Cluster, unavailable: Callable[[str], NoReturn]
) -> None:
    if shutil.which("gcc") is None:
        unavailable("gcc is not installed")
    jetson = Jetson.make(cluster.folder / "jetson", b"plan")
    jetson.hold()
    cluster.worker("plain")
    with_gpu = cluster.worker("gpu", "--resources", "tensorrt=1 gpu-here=1", **jetson.env)
    cluster.until_workers(2)
    build = start_gpu_build(cluster)
    cluster.until(lambda: jetson.builds == 1, "the build of the plan")
    with_gpu.send_signal(signal.SIGKILL)
    check_that_the_rest_went_on(cluster, build)
    assert jetson.builds == 1


def test_a_worker_with_another_version_of_a_tool_is_refused(cluster: Cluster) -> None:
    other = cluster.folder / "other" / "onnx-1.17.0.dist-info"
    other.mkdir(parents=True)
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: onnx\nVersion: 1.17.0\n")
    cluster.worker("plain", PYTHONPATH=f"{other.parent}:{ROOT}")
    cluster.until_workers(1)
    build = cluster.build("--only", "vibration@cpu")
    out, err = build.communicate(timeout=120)
    assert build.returncode == 6
    (row,) = json.loads(out)["rows"]
    told = r"import was planned with onnx \S+, the worker on \S+ has 1\.17\.0; install the same .*"
    assert re.fullmatch(told, row["reason"])
    assert "Traceback" not in err


def test_no_scheduler_is_one_line(tmp_path: Path) -> None:
    ended = subprocess.run(
        [
            sys.executable, "-m", "repo_builder", "build", str(SPECS), "--store", str(tmp_path),
            "--out", str(tmp_path / "out"), "--scheduler", "tcp://127.0.0.1:9",
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert ended.returncode == 2
    assert "no scheduler answers" in ended.stderr
    assert "Traceback" not in ended.stderr
