"""First start on a device and preflight, as whole processes, with a genuine Triton.

There is no NVIDIA hardware here: libcuda and libnvinfer are small C libraries with the same
functions, `tensorrt` is a fake, and the "plan" is an ONNX model that another config serves. What is
tested is what is ours: progress, cache, interruption, the switch of a serving Triton.
"""

from __future__ import annotations

import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
import pytest
import triton_models
from fakes.jetson import Jetson
from onnx import TensorProto, helper
from triton_models import StartTriton
from tritonclient.grpc import InferenceServerClient, InferInput

from repo_builder.base import digest
from repo_builder.base.errors import ModelError, PreflightFailed
from repo_builder.trt import record, request
from repo_builder.trt.record import Device, Record


def times(factor: float) -> onnx.ModelProto:
    """y = factor * x"""
    return triton_models.model(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [("x", TensorProto.FLOAT, ["n", 2])],
        [("y", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])],
    )


@pytest.fixture
def jetson(tmp_path: Path, unavailable: Callable[[str], NoReturn]) -> Jetson:
    if shutil.which("gcc") is None:
        unavailable("gcc is not installed")
    return Jetson.make(tmp_path / "jetson", times(3).SerializeToString())


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
    jetson.hold()
    status = tmp_path / "status.json"
    options = ("--cache", tmp_path / "cache", "--status", status, "--triton", server.http_url)
    process = jetson.start("engines", models, *options)
    wait_until(lambda: jetson.builds == 1)
    assert json.loads(status.read_text())["scaled"]["state"] == "building"
    assert answer(server.grpc_url) == [[2, 20]]
    jetson.go_on()
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


def test_a_plan_of_another_model_in_the_cache_is_built_again(
    jetson: Jetson, models: Path, tmp_path: Path
) -> None:
    """Whole, with a record that fits it, under a key that is not its own."""
    assert jetson.run("engines", models, "--cache", tmp_path / "cache")[0] == 0
    (plan,) = (tmp_path / "cache").glob("*/model.plan")
    replace(record.read(plan.parent), model="0" * 64).write(plan.parent)
    code, _, said = jetson.run("engines", models, "--cache", tmp_path / "cache")
    assert code == 0
    assert "a plan of another model or device" in said
    assert jetson.builds == 2


def test_a_device_without_a_gpu_says_so_in_the_status_file(models: Path, tmp_path: Path) -> None:
    status = tmp_path / "status.json"
    options = ("--cache", tmp_path / "cache", "--status", status)
    command = [sys.executable, "-m", "repo_builder", "engines", models, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        pytest.skip("this machine has an NVIDIA GPU and TensorRT")
    state = json.loads(status.read_text())["scaled"]
    assert state["state"] == "failed"
    assert state["reason"] in done.stderr


def test_a_killed_build_leaves_nothing_half_done(
    jetson: Jetson, models: Path, tmp_path: Path
) -> None:
    jetson.hold()
    process = jetson.start("engines", models, "--cache", tmp_path / "cache")
    wait_until(lambda: jetson.builds == 1)
    other = jetson.run("engines", models, "--cache", tmp_path / "cache")
    assert other[0] == 2
    assert "another run is building plans" in other[2]
    process.kill()
    process.communicate()
    assert not (models / "scaled" / "1" / "model.plan").exists()
    jetson.go_on()
    assert jetson.run("engines", models, "--cache", tmp_path / "cache")[0] == 0
    assert record.read(models / "scaled" / "1")


def test_a_plan_that_triton_refuses_leaves_the_old_model_serving(
    jetson: Jetson, models: Path, tmp_path: Path, triton: StartTriton
) -> None:
    server = triton(models, models=["*"])
    (jetson.libraries / "plan.onnx").write_bytes(b"no plan at all")
    code, _, said = jetson.run(
        "engines", models, "--cache", tmp_path / "cache", "--triton", server.http_url
    )
    assert code == 6
    assert "Triton refuses the plan" in said
    assert answer(server.grpc_url) == [[2, 20]]
    assert "model.plan" not in (models / "scaled" / "config.pbtxt").read_text()


class Ending(http.server.BaseHTTPRequestHandler):
    """Lives, and goes away when it is to load."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_POST(self) -> None:
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def test_a_plan_over_which_triton_ends_is_not_tried_for_ever(
    jetson: Jetson, models: Path, tmp_path: Path
) -> None:
    before = (models / "scaled" / "config.pbtxt").read_text()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ending) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"127.0.0.1:{server.server_port}"
        options = ("--cache", tmp_path / "cache", "--triton", url)
        said = [jetson.run("engines", models, *options)[2] for _ in range(4)]
        server.shutdown()
    assert ["went away" in text for text in said] == [True, True, True, False]
    assert "Triton ended 3 times over this plan; remove" in said[-1]
    assert (models / "scaled" / "config.pbtxt").read_text() == before
    assert jetson.builds == 1


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
        "engines", models, "--cache", tmp_path / "cache", "--triton", server.http_url
    )
    assert code == 6
    assert "digits: Triton refuses the plan" in said
    assert record.read(models / "digits" / "1000000").compute_capability == "8.7"
    tensor = InferInput("image", [2, 1, 8, 8], "FP32")
    tensor.set_data_from_numpy(np.zeros((2, 1, 8, 8), np.float32))
    client = InferenceServerClient(server.grpc_url)
    answer = client.infer("digits", [tensor], client_timeout=30)
    assert answer.as_numpy("logits").shape == (2, 10)


def test_a_plan_is_built_where_the_build_runs(jetson: Jetson, tmp_path: Path) -> None:
    """`compile_at: builder`: one build makes the plan, and a config that serves it."""
    targets, out = tmp_path / "targets", tmp_path / "out"
    targets.mkdir()
    text = "extends: nvidia-gpu\ncompile_at: builder\ntensorrt: {compute_capability: '8.7'}\n"
    (targets / "gpu-here.yaml").write_text(text)
    spec = tmp_path / "vibration.yaml"
    spec.write_text(
        "name: vibration\nversion: 1.0.0\ntargets: [gpu-here]\n"
        f"source: {{onnx: {Path.cwd()}/model_specs/vibration/vibration.onnx}}\n"
    )
    options = ("--out", out, "--store", tmp_path / "store", "--targets-dir", targets, "--json")
    code, said, err = jetson.run("build", spec, *options)
    assert code == 0, err
    (row,) = json.loads(said)["rows"]
    assert row["level"] == "compiled"
    assert row["level_reason"] == "TensorRT 10.3.0 built the plan on Orin; it was not run"
    model = out / "gpu-here" / "models" / "vibration"
    assert 'backend: "tensorrt"' in (model / "config.pbtxt").read_text()
    version = model / "1000000"
    assert (version / "model.plan").read_bytes() == times(3).SerializeToString()
    assert jetson.run("preflight", version, "--device", probed(tmp_path, tensorrt="10.3"))[0] == 0
    code, _, err = jetson.run("preflight", version, "--device", probed(tmp_path, gpu="L4"))
    assert code == PreflightFailed.exit_code
    assert "gpu: built on Orin (compute capability 8.7), the device has L4 (8.7)" in err


def probed(folder: Path, **fields: str) -> Path:
    """A device like the pretended one, but for `fields`, as `preflight --probe` prints it."""
    device = Device("10.3.0.30", "8.7", "Orin", f"linux-{os.uname().machine}")
    (folder / "device.json").write_text(json.dumps(asdict(replace(device, **fields))))
    return folder / "device.json"


def test_a_record_that_was_tampered_with_is_refused(jetson: Jetson, tmp_path: Path) -> None:
    (tmp_path / "model.plan").write_bytes(b"plan")
    fits = replace(FITS, plan=digest.of_file(tmp_path / "model.plan"))
    for tamper, told in (
        (lambda text: text.replace('"8.7"', '"8.9"'), "was changed after it was written"),
        (lambda text: text[:40], "not a portability record"),
        (lambda text: text.replace('"gpu"', '"cpu"'), "not a portability record"),
    ):
        fits.write(tmp_path)
        file = tmp_path / record.FILE
        file.write_text(tamper(file.read_text()))
        code, out, err = jetson.run("preflight", tmp_path / "model.plan")
        assert (code, out) == (ModelError.exit_code, "")
        assert told in err
        assert "build the plan again" in err
        assert len(err.splitlines()) == 1
    fits.write(tmp_path)
    (tmp_path / "model.plan").write_bytes(b"another plan")
    code, _, err = jetson.run("preflight", tmp_path)
    assert code == ModelError.exit_code
    assert "model.plan is not the plan that portability.json describes" in err


FITS = Record(
    plan="",
    model="0" * 64,
    tensorrt="10.3.0.30",
    compute_capability="8.7",
    gpu="Orin",
    platform=f"linux-{os.uname().machine}",
    version_compatible=False,
    hardware="none",
    dla_core=None,
)


def test_preflight(jetson: Jetson, tmp_path: Path) -> None:
    code, out, _ = jetson.run("preflight", "--probe")
    device = record.device_from(out, "stdout")
    machine = os.uname().machine
    assert (code, device) == (0, Device("10.3.0.30", "8.7", "Orin", f"linux-{machine}"))
    (tmp_path / "model.plan").write_bytes(b"plan")
    fits = replace(FITS, plan=digest.of_file(tmp_path / "model.plan"))
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
