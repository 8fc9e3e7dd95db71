"""First start on a device and preflight, as whole processes, with a genuine Triton.

There is no NVIDIA hardware here: libcuda and libnvinfer are small C libraries with the same
functions, `tensorrt` is a fake, and the "plan" is an ONNX model that another config serves. What is
tested is what is ours: progress, cache, interruption, the switch of a serving Triton.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
import pytest
import triton_models
from onnx import TensorProto, helper
from triton_models import StartTriton
from tritonclient.grpc import InferenceServerClient, InferInput

from repo_builder import digest
from repo_builder.errors import PreflightFailed
from repo_builder.trt import record, request
from repo_builder.trt.record import Device, Record

CUDA = """
int cuInit(unsigned flags) { return flags != 0; }
int cuDeviceGet(int *device, int ordinal) { *device = 7; return ordinal != 0; }
int cuDeviceGetName(char *name, int length, int device) {
  const char text[] = "Orin"; int i;
  for (i = 0; i < 5 && i < length; i++) name[i] = text[i];
  return device != 7; }
int cuDeviceGetAttribute(int *value, int attribute, int device) {
  *value = attribute == 75 ? 8 : attribute == 76 ? 7 : -1; return device != 7; }
"""
NVINFER = """
int getInferLibMajorVersion(void) { return 10; }
int getInferLibMinorVersion(void) { return 3; }
int getInferLibPatchVersion(void) { return 0; }
int getInferLibBuildVersion(void) { return 30; }
"""
# Replaces itself by the fake; waits in the middle of a build while the file `hold` is there.
TENSORRT = """
import os, sys, time
from pathlib import Path
from fakes import fake_tensorrt
fake = fake_tensorrt.module("10.3.0")
here = Path(__file__).parent
fake.plan = (here / "plan.onnx").read_bytes()
def while_building():
    with (here / "builds").open("a") as file:
        file.write("x")
    while (here / "hold").exists():
        time.sleep(0.01)
fake.while_building = while_building
sys.modules["tensorrt"] = fake
"""


def times(factor: float) -> onnx.ModelProto:
    """y = factor * x"""
    return triton_models.model(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [("x", TensorProto.FLOAT, ["n", 2])],
        [("y", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])],
    )


@dataclass(frozen=True)
class Jetson:
    """A pretended device: where its libraries lie, and how to run a command on it."""

    libraries: Path

    def start(self, *arguments: str | Path) -> subprocess.Popen[str]:
        paths = [str(self.libraries), "tests", str(Path.cwd())]
        return subprocess.Popen(
            [sys.executable, "-m", "repo_builder", *map(str, arguments)],
            env={
                **os.environ,
                "LD_LIBRARY_PATH": str(self.libraries),
                "PYTHONPATH": os.pathsep.join(paths),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *arguments: str | Path) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=60)
        return process.returncode, out, err

    @property
    def builds(self) -> int:
        file = self.libraries / "builds"
        return len(file.read_text()) if file.exists() else 0


@pytest.fixture
def jetson(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Jetson:
    if shutil.which("gcc") is None:
        unavailable("gcc is not installed")
    folder = tmp_path / "jetson"
    folder.mkdir()
    for name, source in (("libcuda.so.1", CUDA), ("libnvinfer.so.10", NVINFER)):
        command = ["gcc", "-shared", "-fPIC", "-xc", "-", "-o", folder / name]
        subprocess.run(command, input=source.encode(), check=True)
    (folder / "tensorrt.py").write_text(TENSORRT)
    onnx.save(times(3), folder / "plan.onnx")
    return Jetson(folder)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A repository with `scaled`: 2x by ONNX Runtime, and a request for a plan."""
    folder = tmp_path / "models"
    model = triton_models.add(folder, "scaled", times(2), max_batch_size=4)
    request.Request(model=digest.of_file(model / "1" / "model.onnx")).write(model / "1")
    (model / "configs").mkdir()
    config = (model / "config.pbtxt").read_text()
    (model / "configs" / "tensorrt.pbtxt").write_text(
        config + '\ndefault_model_filename: "model.plan"\n'
    )
    return folder


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.01)


def answer(url: str) -> Any:
    client = InferenceServerClient(url)
    tensor = InferInput("x", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.array([[1, 10]], np.float32))
    return client.infer("scaled", [tensor], client_timeout=30).as_numpy("y").tolist()


def test_triton_serves_onnx_runtime_until_the_plan_is_there(
    jetson: Jetson, models: Path, tmp_path: Path, triton: StartTriton
) -> None:
    server = triton(models, models=["*"])
    (jetson.libraries / "hold").touch()
    status = tmp_path / "status.json"
    options = ("--cache", tmp_path / "cache", "--status", status, "--triton", server.grpc_url)
    process = jetson.start("engines", models, *options)
    wait_until(lambda: jetson.builds == 1)
    assert json.loads(status.read_text())["scaled"]["state"] == "building"
    assert answer(server.grpc_url) == [[2, 20]]
    (jetson.libraries / "hold").unlink()
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "scaled: Building Engine 2/2" in said
    assert answer(server.grpc_url) == [[3, 30]]
    state = json.loads(status.read_text())["scaled"]
    assert (state["state"], state["serving"]) == ("built", "tensorrt")
    assert record.read(models / "scaled" / "1").tensorrt == "10.3.0"


def test_a_second_start_builds_nothing(jetson: Jetson, models: Path, tmp_path: Path) -> None:
    for _ in range(2):
        code, _, said = jetson.run("engines", models, "--cache", tmp_path / "cache")
        assert code == 0, said
        assert (models / "scaled" / "1" / "model.plan").is_file()
        (models / "scaled" / "1" / "model.plan").unlink()
    assert jetson.builds == 1


def test_a_damaged_plan_in_the_cache_is_built_again(
    jetson: Jetson, models: Path, tmp_path: Path
) -> None:
    assert jetson.run("engines", models, "--cache", tmp_path / "cache")[0] == 0
    (plan,) = (tmp_path / "cache").glob("*/model.plan")
    plan.write_bytes(b"cut")
    assert jetson.run("engines", models, "--cache", tmp_path / "cache")[0] == 0
    assert jetson.builds == 2
    assert record.read(models / "scaled" / "1")


def test_a_killed_build_leaves_nothing_half_done(
    jetson: Jetson, models: Path, tmp_path: Path
) -> None:
    (jetson.libraries / "hold").touch()
    process = jetson.start("engines", models, "--cache", tmp_path / "cache")
    wait_until(lambda: jetson.builds == 1)
    other = jetson.run("engines", models, "--cache", tmp_path / "cache")
    assert other[0] == 2
    assert "another run is building plans" in other[2]
    process.kill()
    process.communicate()
    assert not (models / "scaled" / "1" / "model.plan").exists()
    (jetson.libraries / "hold").unlink()
    assert jetson.run("engines", models, "--cache", tmp_path / "cache")[0] == 0
    assert record.read(models / "scaled" / "1")


def test_a_plan_that_triton_refuses_leaves_the_old_model_serving(
    jetson: Jetson, models: Path, tmp_path: Path, triton: StartTriton
) -> None:
    server = triton(models, models=["*"])
    (jetson.libraries / "plan.onnx").write_bytes(b"no plan at all")
    code, _, said = jetson.run(
        "engines", models, "--cache", tmp_path / "cache", "--triton", server.grpc_url
    )
    assert code == 6
    assert "Triton refuses the plan" in said
    assert answer(server.grpc_url) == [[2, 20]]


def test_a_built_repository_serves_until_its_plans_are_there(
    jetson: Jetson, tmp_path: Path, triton: StartTriton
) -> None:
    """This Triton has no tensorrt backend, so the switch is refused, and nothing else changes."""
    out = tmp_path / "out"
    options = ("--target", "jetson-orin-nx", "--out", out, "--store", tmp_path / "store")
    code, _, said = jetson.run("build", "model_specs/digits.yaml", *options)
    assert code == 0, said
    models = out / "jetson-orin-nx" / "models"
    assert 'backend: "tensorrt"' in (models / "digits/configs/tensorrt.pbtxt").read_text()
    server = triton(models, models=["*"])
    code, _, said = jetson.run(
        "engines", models, "--cache", tmp_path / "cache", "--triton", server.grpc_url
    )
    assert code == 6
    assert "digits: Triton refuses the plan" in said
    assert record.read(models / "digits" / "1000000").compute_capability == "8.7"
    tensor = InferInput("image", [2, 1, 8, 8], "FP32")
    tensor.set_data_from_numpy(np.zeros((2, 1, 8, 8), np.float32))
    client = InferenceServerClient(server.grpc_url)
    answer = client.infer("digits", [tensor], client_timeout=30)
    assert answer.as_numpy("logits").shape == (2, 10)


def test_preflight(jetson: Jetson, tmp_path: Path) -> None:
    code, out, _ = jetson.run("preflight", "--probe")
    device = record.device_from(out, "stdout")
    machine = os.uname().machine
    assert (code, device) == (0, Device("10.3.0.30", "8.7", "Orin", f"linux-{machine}"))
    (tmp_path / "model.plan").write_bytes(b"plan")
    fits = Record(
        plan=digest.of_file(tmp_path / "model.plan"),
        model="0" * 64,
        tensorrt="10.3.0.30",
        compute_capability="8.7",
        gpu="Orin",
        platform=device.platform,
        version_compatible=False,
        hardware="none",
        dla_core=None,
    )
    fits.write(tmp_path)
    code, out, err = jetson.run("preflight", tmp_path / "model.plan")
    assert (code, err) == (0, "")
    assert out.endswith(f"model.plan fits Orin, TensorRT 10.3.0.30, linux-{machine}\n")
    replace(fits, compute_capability="8.9", tensorrt="10.7.0").write(tmp_path)
    code, out, err = jetson.run("preflight", tmp_path)
    assert (code, out) == (PreflightFailed.exit_code, "")
    assert "built with TensorRT 10.7.0, the device has 10.3.0.30" in err
    assert "compute capability 8.9" in err


def test_preflight_without_a_gpu_says_so() -> None:
    command = [sys.executable, "-m", "repo_builder", "preflight", "--probe"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        pytest.skip("this machine has an NVIDIA GPU and TensorRT")
    assert done.returncode == 2
    assert "run this on the device" in done.stderr
