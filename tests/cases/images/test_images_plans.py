"""TensorRT plans made with the image, or on the device at its first start; TensorRT is a fake."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import image_kit as kit
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from containers import Running, X, infer, ready, refused
from fakes import jetson
from image_kit import ROOT, World
from tritonclient.utils import InferenceServerException

from repo_builder.base import digest
from repo_builder.trt import request

# The plan of the stand-in's TensorRT: what this model answers shows whether it was loaded.
PLANNED_MODEL = b"""
import json
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        planned = "PLAN" in json.loads(args["model_config"])["parameters"]
        home = Path(args["model_repository"], args["model_version"])
        plan = (home / "model.plan").read_bytes() if planned else b""
        self.factor = 3 if plan == b"plan of 10.3.0" else 1

    def execute(self, requests):
        arrays = [pb_utils.get_input_tensor_by_name(r, "x").as_numpy() for r in requests]
        sums = [self.factor * a.sum(axis=1, keepdims=True).astype(np.float32) for a in arrays]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", s)]) for s in sums]
"""

# A module that replaces itself by the one that the fake makes.
FAKE_TENSORRT = (
    (ROOT / "tests/fakes/fake_tensorrt.py").read_text()
    + """
import sys
sys.modules["tensorrt"] = module("10.3.0")
"""
)

WITH_TENSORRT = """
FROM {base}
COPY libcuda.so.1 libnvinfer.so.10 /usr/lib/x86_64-linux-gnu/
COPY tensorrt.py /usr/local/lib/python3.11/dist-packages/
"""

# Serves as long as no plan is asked of it, as a Triton does that cannot load the plan.
REFUSING_MODEL = PLANNED_MODEL.replace(
    b"        home = ", b"        assert not planned, 'not this plan'\n        home = "
)


@pytest.fixture
def with_tensorrt(
    world: World, ngc: str, tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> Iterator[str]:
    """The stand-in with a pretended GPU and the fake of TensorRT's Python module."""
    if shutil.which("gcc") is None:
        unavailable("gcc is not installed")
    context = tmp_path / "with-tensorrt"
    context.mkdir()
    jetson.compile_libraries(context)
    (context / "tensorrt.py").write_text(FAKE_TENSORRT)
    (context / "Dockerfile").write_text(WITH_TENSORRT.format(base=ngc))
    name = "repo-builder-test/ngc:tensorrt"
    world.client.images.build(path=str(context), tag=name, network_mode="none", forcerm=True)
    yield name
    world.client.images.remove(name, force=True)


def planned_repository(out: Path, target: str, seed: int = 1) -> Path:
    """A repository whose model asks for a plan that is made with the image."""
    model = kit.onnx_model(seed, 8)
    asked = request.Request(model=digest.of_bytes(model)).to_json()
    files = {
        "model.onnx": model,
        "model.py": PLANNED_MODEL,
        request.FILE: json.dumps(asked).encode(),
    }
    config = kit.CONFIG.format(name="sum", backend="python")
    parameter = 'parameters { key: "PLAN" value: { string_value: "model.plan" } }\n'
    return kit.publish_models(
        *(out, target, "onnxruntime", {"sum": ("1.0.0", files)}),
        configs={"configs/tensorrt.pbtxt": config + parameter},
        record={"compiler": {"at": "image"}},
    )


@pytest.fixture
def volume(world: World) -> Iterator[str]:
    """A new volume; ask for it before `run`, whose containers must go first."""
    made = world.client.volumes.create()
    yield made.name
    made.remove()


def ended(one: Running) -> Any:
    """What the status file says once each model is served by its plan, or has failed."""
    look = "print(open('/var/cache/repo-builder/status.json').read())"
    code, text = one.container.exec_run(["python3", "-c", look])
    status = json.loads(text) if code == 0 else {}
    states = [
        model["state"] == "failed" or model["serving"] == "tensorrt" for model in status.values()
    ]
    return status if states and all(states) else None


def test_a_plan_made_with_the_image_is_served_and_checked(
    world: World, with_tensorrt: str, run: Callable[..., Running], tmp_path: Path
) -> None:
    """No TensorRT is here: the plan is made by a fake, by the program and stage that are ours."""
    folder = planned_repository(tmp_path / "build", "nvidia-gpu")
    own = tmp_path / "pins.yaml"
    own.write_text("families: {nvidia: {compiler: []}}\n")
    world.cli("keys", "new", "planner")
    options = ("--base", with_tensorrt, "--pins", own, "--name", "repo-builder-test/planned:1")
    done = world.cli("images", "build", folder, "--key", "planner", *options)
    assert "building the TensorRT plan" in done.stderr
    name = done.stdout.strip()
    for answer in infer(ready(run(name)), "sum", X):
        np.testing.assert_allclose(answer, 3 * X.sum(axis=1, keepdims=True))
    assert "signed and whole" in world.cli("verify", name).stderr
    # What was made is kept, so nothing is made again, and the image is the same one.
    before = world.client.images.get(name).id
    again = world.cli("images", "build", folder, "--key", "planner", *options)
    assert "Step " not in again.stderr
    assert world.client.images.get(name).id == before

    other = tmp_path / "model.plan"
    other.write_bytes(b"another")
    changed = {str(other): {"bind": "/models/sum/1000000/model.plan", "mode": "ro"}}
    assert "sum/1000000/model.plan: sha256" in refused(run(name, volumes=changed))
    empty = tmp_path / "empty"
    empty.touch()
    for file, said in (("plans.json", "not in the manifest"), ("plans.json.sig", "damaged")):
        hidden = {str(empty): {"bind": f"/etc/repo-builder/{file}", "mode": "ro"}}
        assert said in refused(run(name, volumes=hidden))

    # The same by hand, without a key; and with one, which a plain build cannot use.
    for key, serves in ((), True), (("--key", "planner"), False):
        world.cli("images", "build", folder, *key, *options, "--context-only")
        plain, _ = world.client.images.build(
            path=str(folder.parent / "images" / "nvidia-gpu"),
            network_mode="none",
            tag="repo-builder-test/planned:plain",
            forcerm=True,
        )
        if serves:
            answer = infer(ready(run(plain.id)), "sum", X)[0]
            np.testing.assert_allclose(answer, 3 * X.sum(axis=1, keepdims=True))
        else:
            assert "plans.json is not signed" in refused(run(plain.id))


def test_a_spec_asks_for_plans_made_with_the_image(world: World, tmp_path: Path) -> None:
    specs = tmp_path / "specs"
    shutil.copytree(ROOT / "model_specs" / "digits", specs / "digits")
    text = (ROOT / "model_specs" / "digits.yaml").read_text()
    asked = "\noptimize:\n  tensorrt: {compile_at: image}\n"
    (specs / "digits.yaml").write_text(text.replace("\noptimize:\n", asked))
    places = ("--store", tmp_path / "store", "--out", tmp_path / "build", "--no-images")
    world.cli("build", specs, "--target", "jetson-orin-nx", *places)
    world.cli("images", "build", tmp_path / "build" / "jetson-orin-nx", "--context-only")
    dockerfile = (tmp_path / "build/images/jetson-orin-nx/Dockerfile").read_text()
    assert "COPY models/digits/ /models/digits/\nRUN python3 -m repo_builder.trt" in dockerfile
    assert '"--model-config-name=tensorrt"' in dockerfile
    assert "backends/tensorrt:" in dockerfile
    assert "backends/onnxruntime:" not in dockerfile
    assert list((tmp_path / "build/images/jetson-orin-nx/compiler/wheels").glob("tensorrt_*.whl"))


def test_a_device_builds_its_plans_at_its_first_start(
    world: World, with_tensorrt: str, volume: str, run: Callable[..., Running], tmp_path: Path
) -> None:
    """No TensorRT is here: a fake makes plans, which models of the Python backend load."""
    models = {}
    for seed, (name, code) in enumerate({"sum": PLANNED_MODEL, "stays": REFUSING_MODEL}.items()):
        model = kit.onnx_model(seed, 8)
        asked = json.dumps(request.Request(model=digest.of_bytes(model)).to_json())
        files = {"model.onnx": model, "model.py": code, request.FILE: asked.encode()}
        models[name] = "1.0.0", files
    config = kit.CONFIG.format(name="", backend="python")
    parameter = 'parameters { key: "PLAN" value: { string_value: "model.plan" } }\n'
    folder = kit.publish_models(
        *(tmp_path / "build", "jetson-orin-nx", "python", models),
        configs={"configs/tensorrt.pbtxt": config + parameter},
        record={"compiler": {"at": "device"}},
    )
    own = tmp_path / "pins.yaml"
    own.write_text(
        "targets: {jetson-orin-nx: {platforms: [linux/amd64]}}\n"
        "families: {jetson: {compiler: []}}\n"
    )
    options = ("--base", with_tensorrt, "--pins", own, "--name", "repo-builder-test/first:1")
    name = world.cli("images", "build", folder, *options).stdout.strip()
    sums = X.sum(axis=1, keepdims=True)

    one = ready(run(name))
    assert b"mount a volume at /var/cache/repo-builder; models stay" in one.container.logs()
    for served in ("sum", "stays"):
        np.testing.assert_allclose(infer(one, served, X)[0], sums)

    driver = tmp_path / "with-tensorrt" / "libcuda.so.1"  # as NVIDIA's runtime brings it
    mounts = {
        str(driver): {"bind": "/usr/lib/x86_64-linux-gnu/libcuda.so.1", "mode": "ro"},
        volume: {"bind": "/var/cache/repo-builder", "mode": "rw"},
    }
    for state in ("built", "cached"):
        one = ready(run(name, volumes=mounts))
        status = kit.wait_for(lambda one=one: ended(one), "the end of the first start")
        assert (status["sum"]["state"], status["sum"]["serving"]) == (state, "tensorrt")
        assert (status["stays"]["state"], status["stays"]["serving"]) == ("failed", "onnxruntime")
        assert "Triton refuses the plan" in status["stays"]["reason"]
        assert "not this plan" in status["stays"]["reason"]
        np.testing.assert_allclose(infer(one, "sum", X)[0], 3 * sums)
        np.testing.assert_allclose(infer(one, "stays", X)[0], sums)
        for module, url in ((tritonclient.grpc, one.grpc), (tritonclient.http, one.http)):
            client = module.InferenceServerClient(url)
            with pytest.raises(InferenceServerException, match="restricted"):
                client.unload_model("sum")
            client.close()
        second = ready(run(name, volumes=mounts))
        assert b"is in use by another container" in second.container.logs()
        np.testing.assert_allclose(infer(second, "sum", X)[0], sums)
        second.container.stop(timeout=30)
        assert second.container.wait()["StatusCode"] == 0
        # After a model of the Python backend failed to load, this Triton ends at its time limit.
        one.container.kill()
        one.container.wait()


def test_the_jetsons_image_has_what_builds_plans(world: World, tmp_path: Path) -> None:
    places = ("--store", tmp_path / "store", "--out", tmp_path / "build", "--no-images")
    world.cli("build", ROOT / "model_specs/digits.yaml", "--target", "jetson-orin-nx", *places)
    world.cli("images", "build", tmp_path / "build" / "jetson-orin-nx", "--context-only")
    context = tmp_path / "build/images/jetson-orin-nx"
    (wheel,) = (context / "wheels").glob("tensorrt_*.whl")
    unpacked = f"-e wheels/{wheel.name} rootfs/opt/repo-builder/first-start/"
    assert unpacked in (context / "Dockerfile").read_text()
    program = context / "rootfs/opt/repo-builder/first-start"
    command = [sys.executable, "-S", "-m", "repo_builder.trt", "models", "plans"]
    done = subprocess.run(command, cwd=program, capture_output=True, text=True, check=False)
    assert "builds of images must get the GPU" in done.stderr or done.returncode == 0


def test_one_image_has_one_place_for_plans(world: World, tmp_path: Path) -> None:
    folder = planned_repository(tmp_path / "build", "jetson-orin-nx")
    manifest = folder / "manifest.json"
    raw = json.loads(manifest.read_text())
    raw["models"]["other"] = {**raw["models"]["sum"], "compiler": {"at": "device"}}
    shutil.copytree(folder / "models/sum", folder / "models/other")
    manifest.write_text(json.dumps(raw))
    done = world.cli("images", "build", folder, "--context-only", fails=2)
    assert "sum gets its plan with the image, other on the device" in done.stderr


def test_an_engine_without_a_gpu_makes_no_plans_and_says_so(
    world: World, ngc: str, tmp_path: Path
) -> None:
    folder = planned_repository(tmp_path / "build", "jetson-orin-nx")
    own = tmp_path / "pins.yaml"
    own.write_text(
        "targets: {jetson-orin-nx: {platforms: [linux/amd64]}}\n"
        "families: {jetson: {compiler: []}}\n"
    )
    done = world.cli("images", "build", folder, "--base", ngc, "--pins", own, fails=13)
    assert "no NVIDIA driver here" in done.stderr
    assert "builds of images must get the GPU" in done.stderr
    own.write_text("targets: {jetson-orin-nx: {family: cpu, platforms: [linux/amd64]}}\n")
    done = world.cli("images", "build", folder, "--base", ngc, "--pins", own, fails=2)
    assert "the family 'cpu' has no stage that builds TensorRT plans" in done.stderr
