"""Every example on every tier that it fits, in one build: levels, and the figures behind them."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import pytest

from repo_builder import targets
from repo_builder.base import machine

ROOT = Path(__file__).parents[2]
SPECS = ROOT / "model_specs"
MODELS = ("digits", "shapes", "vibration")
BUILT = (*MODELS, "digits-large")
LEVELS = {
    "cpu": "executed",
    "cpu-openvino": "executed",
    "jetson-orin-nx": "prepared",
    "jetson-agx-orin": "prepared",
    "intel-npu": "prepared",
    "movidius-myriad-x": "prepared",
    "snapdragon-qcs8275": "simulated",
    "ethos-u55": "compiled",
    "ethos-u85": "compiled",
    "tflite-micro": "simulated",
}
MORE = {
    "digits": {},
    "shapes": {"jetson-orin-nx-8gb": "prepared", "jetson-agx-orin-32gb": "prepared"},
    "vibration": {"jetson-orin-nano": "prepared", "raspberry-pi-5": "prepared"},
}
MOST_DROP = {"digits": 0.005, "shapes": 0.02, "vibration": 0.01}
TOOLS = ("openvino", "nncf", "onnxruntime_qnn", "ai_edge_litert", "ethosu")


@dataclass(frozen=True)
class Built:
    """What one build of all examples left."""

    rows: dict[tuple[str, str], Any]
    store: Path
    out: Path

    def facts(self, step: str) -> Iterator[Any]:
        """The facts of every entry that a step made."""
        for file in (self.store / "entries").rglob("*.json"):
            entry = json.loads(file.read_text().partition("\n")[2])
            if entry["recipe"]["step"] == step:
                yield entry["facts"]


def build(specs: Path, folder: Path, *options: str, path: Path = ROOT) -> Any:
    """`repo-builder build` as a user runs it."""
    command = [sys.executable, "-m", "repo_builder", "build", str(specs), "--json", *options]
    command += ["--store", str(folder / "store"), "--out", str(folder / "out")]
    env = {**os.environ, "PYTHONPATH": f"{path}:{ROOT}"}
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def built(
    tmp_path_factory: pytest.TempPathFactory, unavailable: Callable[[str], NoReturn]
) -> Built:
    if lacking := [tool for tool in TOOLS if importlib.util.find_spec(tool) is None]:
        unavailable(f"these tools are not installed: {', '.join(lacking)}")
    folder = tmp_path_factory.mktemp("tiers")
    ended = build(SPECS, folder, *(f"--only={model}@*" for model in BUILT))
    assert ended.returncode == 0, ended.stderr
    rows = {(row["name"], row["target"]): row for row in json.loads(ended.stdout)["rows"]}
    return Built(rows, folder / "store", folder / "out")


@pytest.mark.parametrize("model", MODELS)
def test_every_tier_is_built_to_its_level(built: Built, model: str) -> None:
    rows = {target: row for (name, target), row in built.rows.items() if name == model}
    assert {target: row["level"] for target, row in rows.items()} == LEVELS | MORE[model]
    for row in rows.values():
        assert row["level_reason"]
        assert row["score"]["drop"] <= MOST_DROP[model]
    int8 = rows["cpu"]["score"]["built"]
    assert abs(rows["snapdragon-qcs8275"]["score"]["built"] - int8) <= 0.005


def test_every_target_of_the_catalog_is_used_by_an_example(built: Built) -> None:
    used = {target for _, target in built.rows}
    assert used == set(targets.load()), "nvidia-gpu is the cloud's side of digits"
    cloud = built.rows["digits-large", "nvidia-gpu"]
    assert cloud["level"] == "prepared"


def test_another_architecture_is_not_measured_here(built: Built) -> None:
    pi = built.rows["vibration", "raspberry-pi-5"]
    here = machine.architecture()
    assert pi["level_reason"] == f"ran in ONNX Runtime on {here}; no arm64 machine was here"
    assert pi["latency"] is None
    assert built.rows["vibration", "cpu"]["latency"] is not None


def test_tflite_equals_onnx_within_one_step(built: Built) -> None:
    facts = list(built.facts("compile-tflite"))
    assert len(facts) == len(MODELS)
    assert {f["data"] for f in facts} == {"evaluation"}
    assert {f["litert"]["within_one_step"] for f in facts} == {1.0}


def test_vela_places_nearly_all_on_the_npu(built: Built) -> None:
    facts = list(built.facts("compile-vela"))
    assert len(facts) == 2 * len(MODELS)
    for fact in facts:
        assert fact["npu_share"] >= 0.95
        assert fact["performance"]["cycles"] > 0


def test_microcontrollers_get_a_bundle_and_no_repository(built: Built) -> None:
    for target in ("ethos-u55", "ethos-u85", "tflite-micro"):
        assert not (built.out / target / "models").exists()
        bundle = built.out / target / "bundles" / "vibration" / "1.0.0"
        assert {"vibration_model.cc", "vibration_model.h", "README.md"} <= {
            file.name for file in bundle.iterdir()
        }


HIDE = """\
import importlib.metadata as metadata
found = metadata.version
def version(name):
    if name in {0}:
        raise metadata.PackageNotFoundError(name)
    return found(name)
metadata.version = version
"""
SPEC = """\
name: vibration
version: 1.0.0
source: {{onnx: {0}/vibration.onnx}}
targets: [{1}]
data:
  calibration: {{path: {0}/calibration.npz}}
  evaluation: {{path: {0}/evaluation.npz, metric: auroc}}
optimize: {{precision: int8}}
"""


def spec(folder: Path, targets: str) -> Path:
    file = folder / "specs" / "vibration.yaml"
    file.parent.mkdir()
    file.write_text(SPEC.format(SPECS / "vibration", targets))
    return file


@pytest.mark.parametrize(
    ("hidden", "failed", "built"),
    [
        (
            ("ai-edge-litert",),
            {"tflite-micro": "tflite"},
            {"cpu", "jetson-orin-nx"},
        ),
        (
            ("openvino", "onnxruntime-qnn", "ethos-u-vela"),
            {
                "cpu-openvino": "openvino",
                "intel-npu": "openvino",
                "snapdragon-qcs8275": "qualcomm",
                "ethos-u55": "ethos",
            },
            {"cpu", "jetson-orin-nx", "tflite-micro"},
        ),
    ],
)
def test_a_missing_extra_costs_only_its_own_tier(
    tmp_path: Path, hidden: tuple[str, ...], failed: dict[str, str], built: set[str]
) -> None:
    (tmp_path / "sitecustomize.py").write_text(HIDE.format(hidden))
    ended = build(spec(tmp_path, ", ".join([*failed, *built])), tmp_path, path=tmp_path)
    assert ended.returncode == 6
    rows = {row["target"]: row for row in json.loads(ended.stdout)["rows"]}
    assert {target for target, row in rows.items() if row["status"] == "built"} == built
    for target, extra in failed.items():
        assert rows[target]["status"] == "failed"
        assert rows[target]["reason"].endswith(f"[{extra}]'")
    assert "Traceback" not in ended.stderr


def test_a_compiler_that_crashes_costs_only_its_own_tier_and_its_log_is_kept(
    tmp_path: Path,
) -> None:
    vela = tmp_path / "ethosu" / "vela" / "__main__.py"
    vela.parent.mkdir(parents=True)
    for package in (vela.parent, vela.parent.parent):
        (package / "__init__.py").touch()
    vela.write_text("import os\nprint('mapping tensors', flush=True)\nos.kill(os.getpid(), 11)\n")
    ended = build(spec(tmp_path, "cpu, ethos-u55, tflite-micro"), tmp_path, path=tmp_path)
    assert ended.returncode == 6
    rows = {row["target"]: row for row in json.loads(ended.stdout)["rows"]}
    assert [rows[t]["status"] for t in ("cpu", "tflite-micro")] == ["built", "built"]
    told, log = rows["ethos-u55"]["reason"].split("; log: ")
    assert told == "Vela failed (killed by SIGSEGV): mapping tensors"
    assert "mapping tensors" in Path(log).read_text()
    assert "Traceback" not in ended.stderr


def test_a_model_too_large_for_its_device_fails_a_gate(tmp_path: Path) -> None:
    devices = tmp_path / "targets"
    devices.mkdir()
    text = "extends: tflite-micro\nmicro: {flash_kb: 32, ram_kb: 1}\n"
    (devices / "tiny.yaml").write_text(text)
    ended = build(spec(tmp_path, "tiny"), tmp_path, "--targets-dir", str(devices))
    assert ended.returncode == 7, ended.stderr
    (row,) = json.loads(ended.stdout)["rows"]
    assert row["status"] == "gate failed"
    assert "bytes of flash, the device has 32768" in row["reason"]
    assert "bytes of RAM, the device has 1024" in row["reason"]
    assert row["score"]["built"] > 0.9


def test_a_model_too_large_for_its_memory_fails_a_gate(tmp_path: Path) -> None:
    devices = tmp_path / "targets"
    devices.mkdir()
    text = "extends: jetson-orin-nx\nmemory: {size_mb: 4}\nassumptions: {reserved_mb: 3.99}\n"
    (devices / "tiny.yaml").write_text(text)
    ended = build(spec(tmp_path, "tiny"), tmp_path, "--targets-dir", str(devices))
    assert ended.returncode == 7, ended.stderr
    (row,) = json.loads(ended.stdout)["rows"]
    assert row["status"] == "gate failed"
    assert row["reason"] == (
        "its weights alone take 1 MB, tiny has 0.01 MB free of 4; "
        "use a smaller model or a lower precision"
    )
    assert row["score"]["built"] > 0.9
    assert not (tmp_path / "out" / "tiny" / "models" / "vibration").exists()


def test_a_gpu_that_is_not_here_costs_only_its_own_tier(tmp_path: Path) -> None:
    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("this machine has TensorRT")
    ended = build(spec(tmp_path, "cpu, nvidia-gpu"), tmp_path)
    assert ended.returncode == 6
    rows = {row["target"]: row for row in json.loads(ended.stdout)["rows"]}
    assert rows["cpu"]["status"] == "built"
    assert "where the build runs" in rows["nvidia-gpu"]["reason"]
    assert len(rows["nvidia-gpu"]["reason"].splitlines()) == 1
