"""The microcontroller tiers end to end: TFLite, Vela, C compilers, each the real one."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import nets
import numpy as np
import onnx
import pytest
from qdq_models import Net, quantize

from repo_builder.base.errors import GateFailed, ModelError, StepError
from repo_builder.steps import _tool, compile_tflite, compile_tflite_micro, compile_vela

U55 = compile_vela.Params(
    model="digits:1.0.0",
    device="Arm Ethos-U55",
    accelerator="ethos-u55-256",
    system_config="Ethos_U55_High_End_Embedded",
    memory_mode="Shared_Sram",
)
MICRO = compile_tflite_micro.Params("digits:1.0.0", "STM32L4R5", flash_kb=2048, ram_kb=640)
STRICT = ("-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror")

# What a resolver looks like to the generated header; it counts what is added.
FIRMWARE = """
#include "digits_model.h"
struct Resolver { int added = 0;
  int AddConv2D() { added++; return 0; } int AddFullyConnected() { added++; return 0; }
  int AddMaxPool2D() { added++; return 0; } int AddReshape() { added++; return 0; } };
int main() {
  Resolver resolver;
  const bool added = digits_add_ops(resolver) && resolver.added == DIGITS_OP_COUNT;
  const bool magic = digits_model[4] == 'T' && digits_model[7] == '3';
  return added && magic && digits_model_size > 1000u && DIGITS_INPUT0_SIZE == 64u ? 0 : 1;
}
"""


@pytest.fixture(scope="module", autouse=True)
def _tools(unavailable: Callable[[str], NoReturn]) -> None:
    if any(importlib.util.find_spec(tool) is None for tool in ("ai_edge_litert", "ethosu")):
        unavailable("the extra `ethos` is not installed")


@pytest.fixture(scope="module")
def tflite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`digits` as `compile-tflite` makes it."""
    folder = tmp_path_factory.mktemp("digits")
    specs = Path("model_specs/digits")
    source = onnx.load(specs / "digits.onnx")
    rows = np.load(specs / "calibration.npz", allow_pickle=False)["image"]
    (folder / "qdq").mkdir()
    model = quantize(source, folder, [row[None] for row in rows])
    onnx.save(model, folder / "qdq" / "model.onnx")
    out = folder / "tflite"
    out.mkdir()
    facts = compile_tflite.run(
        compile_tflite.Inputs(folder / "qdq", specs), compile_tflite.Params(rows=100), out
    )
    assert facts.data == "evaluation"
    assert (facts.litert.max_steps, facts.litert.within_one_step) == (0, 1.0)
    assert facts.reference.max_steps <= 1
    return out


@pytest.fixture
def compiler(unavailable: Callable[[str], NoReturn]) -> Callable[..., None]:
    """Runs a compiler, or skips where this machine has none of that name."""

    def compile_(name: str, *arguments: str, folder: Path) -> None:
        if shutil.which(name) is None:
            unavailable(f"{name} is not installed; apt-get install gcc g++ gcc-arm-none-eabi")
        subprocess.run([name, *arguments], cwd=folder, check=True)

    return compile_


def test_micro_bundle_compiles_runs_and_fits(
    tflite: Path, tmp_path: Path, compiler: Callable[..., None]
) -> None:
    facts = compile_tflite_micro.run(compile_tflite_micro.Inputs(tflite), MICRO, tmp_path)
    assert facts.level.name == "simulated"
    assert facts.resolver == ("AddConv2D", "AddFullyConnected", "AddMaxPool2D", "AddReshape")
    assert facts.size == (tflite / "model.tflite").stat().st_size
    compiler("gcc", *STRICT, "-std=c99", "-xc", "-c", "digits_model.cc", folder=tmp_path)
    (tmp_path / "main.cc").write_text(FIRMWARE)
    compiler("g++", *STRICT, "main.cc", "digits_model.cc", "-o", "main", folder=tmp_path)
    subprocess.run([tmp_path / "main"], check=True)


def test_micro_bundle_compiles_for_cortex_m(
    tflite: Path, tmp_path: Path, compiler: Callable[..., None]
) -> None:
    compile_tflite_micro.run(compile_tflite_micro.Inputs(tflite), MICRO, tmp_path)
    arguments = (*STRICT, "-mcpu=cortex-m4", "-xc", "-c", "digits_model.cc")
    compiler("arm-none-eabi-gcc", *arguments, folder=tmp_path)


def test_a_model_too_large_for_the_device_says_what_is_missing(
    tflite: Path, tmp_path: Path
) -> None:
    small = compile_tflite_micro.Params("digits", "tiny", flash_kb=8, ram_kb=2)
    with pytest.raises(GateFailed, match="digits does not fit tiny") as caught:
        compile_tflite_micro.run(compile_tflite_micro.Inputs(tflite), small, tmp_path)
    assert [problem.what.split()[3] for problem in caught.value.problems] == ["of", "of"]
    assert "flash" in str(caught.value)
    assert "RAM" in str(caught.value)


def test_vela_places_everything_on_the_npu(tflite: Path, tmp_path: Path) -> None:
    facts = compile_vela.run(compile_vela.Inputs(tflite), U55, tmp_path)
    assert (facts.cpu_ops, facts.npu_share) == (0, 1.0)
    assert facts.level.name == "compiled"
    assert facts.performance.cycles > facts.performance.npu_cycles > 0
    assert facts.performance.macs == 26176  # 8*9*64 + 8*16*9*16 + 16*32*4 + 32*10, by hand
    assert facts.arena.planned >= facts.performance.sram_used
    assert "Ethos-U55" in (tmp_path / "README.md").read_text()
    assert "AddEthosU" in (tmp_path / "digits_model.h").read_text()


def test_too_little_on_the_npu_names_the_operators(tmp_path: Path) -> None:
    net = Net(1, 3, 12, 12)
    size = net.constant(np.array([1, 8, 19, 19], np.int64))
    x = net.op("Resize", net.conv("x", 3, 8, 3, 3), "", "", size, mode="linear")
    made = _tflite(net.model(x), tmp_path)
    with pytest.raises(GateFailed, match=r"RESIZE_BILINEAR \(1 node, first '.*'\): "):
        compile_vela.run(compile_vela.Inputs(made), U55, tmp_path / "vela")


def test_a_scalar_is_told_before_vela_fails_on_it(tmp_path: Path) -> None:
    net = Net(1, 3, 12, 12)
    model = net.model(net.op("ReduceMean", net.conv("x", 3, 8, 3, 3), keepdims=0))
    made = _tflite(model, tmp_path)
    with pytest.raises(ModelError, match=r"is a scalar, which Vela cannot read; .*shape \[1\]"):
        compile_vela.run(compile_vela.Inputs(made), U55, tmp_path / "vela")


def test_vela_fails_in_one_line(tflite: Path, tmp_path: Path) -> None:
    wrong = compile_vela.Params("digits", "x", "ethos-u55-256", "No_Such_System", "Shared_Sram")
    with pytest.raises(StepError, match=r"Vela failed \(exit code 1\): .*No_Such_System"):
        compile_vela.run(compile_vela.Inputs(tflite), wrong, tmp_path)


def test_without_data_noise_is_used_and_said(tmp_path: Path) -> None:
    model = quantize(nets.conv1d(), tmp_path)
    onnx.save(model, tmp_path / "model.onnx")
    (tmp_path / "out").mkdir()
    facts = compile_tflite.run(
        compile_tflite.Inputs(tmp_path), compile_tflite.Params(rows=5), tmp_path / "out"
    )
    assert (facts.data, facts.rows) == ("noise", 5)


def test_a_tool_that_hangs_is_stopped_with_its_children(tmp_path: Path) -> None:
    script = "sleep 60 & echo $! > child; echo started; wait"
    with pytest.raises(StepError, match="still running after 2 s"):
        _tool.run("sh", ["sh", "-c", script], tmp_path, 2)
    child = int((tmp_path / "child").read_text())
    until = time.monotonic() + 10
    while _lives(child):
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_tool_that_crashes_is_told_by_its_signal(tmp_path: Path) -> None:
    with pytest.raises(StepError, match=r"sh failed \(killed by SIGSEGV\): about to crash"):
        _tool.run("sh", ["sh", "-c", "echo about to crash; kill -SEGV $$"], tmp_path, 10)


def _lives(process: int) -> bool:
    """Whether it runs; a killed one may wait for its parent to take notice."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    return False


def _tflite(model: onnx.ModelProto, folder: Path) -> Path:
    quantized = quantize(model, folder)
    onnx.save(quantized, folder / "model.onnx")
    for name in ("made", "vela"):
        (folder / name).mkdir()
    compile_tflite.run(
        compile_tflite.Inputs(folder), compile_tflite.Params(rows=5), folder / "made"
    )
    return folder / "made"
