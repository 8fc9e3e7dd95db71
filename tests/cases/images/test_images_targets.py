"""Images of the other targets, with stand-ins for the makers' bases and drivers."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import image_kit as kit
import numpy as np
import pytest
from containers import Running, X, expected, infer, ready
from image_kit import WIDTHS, World

from repo_builder.cli import _images

PYTHON_MODEL = b"""
import numpy as np
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        arrays = [pb_utils.get_input_tensor_by_name(r, "x").as_numpy() for r in requests]
        sums = [a.sum(axis=1, keepdims=True).astype(np.float32) for a in arrays]
        return [pb_utils.InferenceResponse([pb_utils.Tensor("y", s)]) for s in sums]
"""


def test_the_openvino_image_serves(
    world: World, run: Callable[..., Running], tmp_path: Path
) -> None:
    models = {"ir": ("1.0.0", kit.openvino_model(5, 64, tmp_path))}
    folder = kit.publish_models(tmp_path / "build", "cpu-openvino", "openvino", models)
    name = world.build(folder, "--name", "repo-builder-test/openvino:1")
    for answer in infer(ready(run(name)), "ir", X):
        np.testing.assert_allclose(answer, expected(5, 64), rtol=1e-2, atol=0.1)


def test_the_npu_image_has_its_plugin_and_the_bases_driver(
    world: World,
    run: Callable[..., Running],
    tmp_path: Path,
    unavailable: Callable[[str], NoReturn],
) -> None:
    """No NPU is here: the driver's libraries are empty ones, and the model runs on the CPU."""
    if shutil.which("gcc") is None:
        unavailable("gcc is not installed")
    models = {"ir": ("1.0.0", kit.openvino_model(5, 64, tmp_path))}
    folder = kit.publish_models(tmp_path / "build", "intel-npu", "openvino", models)
    assert "name it by --base" in world.cli("images", "build", folder, fails=2).stderr
    context = tmp_path / "base"
    context.mkdir()
    libraries = ("libze_loader.so.1", "libze_intel_npu.so.1", "libnpu_driver_compiler.so")
    for name in libraries:
        command = ["gcc", "-shared", "-xc", "/dev/null", "-o", context / name]
        subprocess.run(command, check=True)
    text = f"FROM {world.base}\nCOPY {' '.join(libraries)} /usr/lib/x86_64-linux-gnu/\n"
    (context / "Dockerfile").write_text(text)
    base = "repo-builder-test/npu-base:1"
    world.client.images.build(path=str(context), tag=base, network_mode="none", forcerm=True)
    done = world.cli("images", "build", folder, "--base", base, "--name", "repo-builder-test/npu:1")
    one = ready(run(done.stdout.strip()))
    np.testing.assert_allclose(infer(one, "ir", X)[0], expected(5, 64), rtol=1e-2, atol=0.1)
    look = (
        "import ctypes, openvino, os\n"
        "plugin = os.path.dirname(openvino.__file__) + '/libs/libopenvino_intel_npu_plugin.so'\n"
        f"[print(ctypes.CDLL(name)) for name in (plugin, *{libraries})]\n"
        "open('/var/cache/npu/x', 'w')"
    )
    code, output = one.container.exec_run(["python3", "-c", look])
    assert b"libnpu_driver_compiler.so" in output, output
    assert (code, b"Read-only file system" in output) == (1, True), output
    world.client.images.remove(base, force=True)


@pytest.mark.usefixtures("world")
def test_a_build_pulls_no_base_of_nvidias_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {"sum": ("1.0.0", {"model.py": PYTHON_MODEL})}
    kit.publish_models(tmp_path / "build", "nvidia-gpu", "python", models)
    _images.make(["nvidia-gpu"], tmp_path / "build", required=False)
    assert capsys.readouterr().err == ""
    assert not (tmp_path / "build/images").exists()


@pytest.mark.parametrize("target", ["nvidia-gpu", "jetson-orin-nx"])
def test_nvidias_layout_is_slimmed_and_serves(
    world: World, ngc: str, run: Callable[..., Running], tmp_path: Path, target: str
) -> None:
    models = {"sum": ("1.0.0", {"model.py": PYTHON_MODEL})}
    folder = kit.publish_models(tmp_path / "build", target, "python", models)
    own = tmp_path / "pins.yaml"
    own.write_text(f"targets: {{{target}: {{platforms: [linux/amd64]}}}}\n")
    done = world.cli("images", "build", folder, "--base", ngc, "--pins", own)
    for answer in infer(ready(run(done.stdout.strip())), "sum", X):
        np.testing.assert_allclose(answer, X.sum(axis=1, keepdims=True))


def test_the_qualcomm_image_builds_and_serves_on_its_cores(
    world: World, run: Callable[..., Running], tmp_path: Path
) -> None:
    """On x86-64, whose wheel of ONNX Runtime QNN has the same layout; no Hexagon is here."""
    models = {"one": ("1.0.0", {"model.onnx": kit.onnx_model(1, WIDTHS["one"])})}
    folder = kit.publish_models(tmp_path / "build", "snapdragon-qcs8275", "onnxruntime", models)
    own = tmp_path / "pins.yaml"
    sha256 = "c56c01562b8534fe8980cfea4601408d950c065f8251fb862ce82101c52c9849"
    own.write_text(
        "targets: {snapdragon-qcs8275: {platforms: [linux/amd64]}}\n"
        f"packages: {{onnxruntime-qnn: {{sha256: {{amd64: {sha256}}}}}}}\n"
    )
    done = world.cli("images", "build", folder, "--base", world.base, "--pins", own)
    one = ready(run(done.stdout.strip()))
    np.testing.assert_allclose(infer(one, "one", X)[0], expected(1, WIDTHS["one"]), rtol=1e-4)
    code, output = one.container.exec_run(
        ["python3", "-c", "import onnxruntime_qnn as q; print(q.get_library_path())"]
    )
    assert (code, b"libonnxruntime_providers_qnn.so" in output) == (0, True), output
