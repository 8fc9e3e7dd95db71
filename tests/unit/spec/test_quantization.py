"""What a spec asks of quantization: resolved by the target's table, or refused with a way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from repo_builder import targets
from repo_builder.base.errors import SpecError
from repo_builder.spec import load, types


def resolved(
    folder: Path,
    target: str,
    *,
    calibration: bool = True,
    precision: str | None = "int8",
    **asked: Any,
) -> Any:
    """The quantization of a spec that asks for `asked` on `target`."""
    (folder / "m.onnx").touch()
    (folder / "c.npz").touch()
    optimize: dict[str, Any] = {"quantization": asked}
    if precision:
        optimize["precision"] = precision
    content: dict[str, Any] = {
        "name": "m",
        "version": "1.0.0",
        "targets": [target],
        "source": {"onnx": "m.onnx"},
        "optimize": optimize,
    }
    if calibration:
        content["data"] = {"calibration": {"path": "c.npz"}}
    (folder / "m.yaml").write_text(yaml.safe_dump(content))
    (found,) = load.load([folder / "m.yaml"], targets.load())
    assert not isinstance(found, types.Pipeline)
    return found.optimize


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({}, "int8"),
        ({"weights": "int4", "activations": "none"}, "int4 weights"),
        ({"activations": "dynamic"}, "int8 weights, dynamic activations"),
    ],
)
def test_the_scheme_has_a_name(tmp_path: Path, asked: dict[str, Any], name: str) -> None:
    assert resolved(tmp_path, "cpu", **asked).scheme == name


def test_what_is_not_said_is_what_the_table_says(tmp_path: Path) -> None:
    plain = resolved(tmp_path, "cpu").quantization
    assert (plain.symmetric, plain.repair) == (False, ("equalize", "smooth"))
    assert resolved(tmp_path, "jetson-orin-nx").quantization.symmetric
    assert resolved(tmp_path, "cpu-openvino").quantization.repair == ("equalize", "smooth", "bias")
    alone: dict[str, Any] = {"weights": "int4", "activations": "none"}
    found = resolved(tmp_path, "cpu", **alone).quantization
    assert found.repair == ("equalize", "smooth", "bias", "round")


def test_weights_alone_need_no_data_and_are_not_repaired_then(tmp_path: Path) -> None:
    found = resolved(tmp_path, "cpu", calibration=False, weights="int4", activations="none")
    assert found.quantization.repair == ()
    with pytest.raises(SpecError, match="'round' needs calibration data; add `data: {calibration"):
        resolved(tmp_path, "cpu", calibration=False, activations="none", repair=["round"])
    with pytest.raises(SpecError, match="int8 needs calibration data"):
        resolved(tmp_path, "cpu", calibration=False)


@pytest.mark.parametrize(
    ("target", "asked", "words"),
    [
        ("cpu", {"activations": "int16"}, "round the 16 bits to 8 again (MatMulNBits"),
        ("cpu", {"weights": "int4"}, "4-bit convolutions not at all"),
        ("cpu-openvino", {"activations": "int16"}, "write `activations: none`"),
        ("cpu-openvino", {"method": "mse"}, "it has: minmax, percentile"),
        ("cpu-openvino", {"method": "entropy"}, "NNCF has no entropy calibration"),
        ("cpu-openvino", {"repair": ["round"]}, "it has: equalize, smooth, bias"),
        ("intel-npu", {"activations": "none"}, "only OpenVINO's CPU device was here"),
        ("jetson-orin-nx", {"symmetric": False}, "takes zero points of 0 only; leave it out"),
        ("jetson-orin-nx", {"weights": "int4", "activations": "none"}, "or `precision: fp16`"),
        ("snapdragon-qcs8275", {"activations": "dynamic"}, "write `activations: int16`"),
        ("ethos-u55", {"symmetric": True}, "ranges of their own, with zero points"),
        ("tflite-micro", {"activations": "int16"}, "writes 8 bits only"),
        ("cpu", {"activations": "none", "method": "entropy"}, "no activation is rounded"),
        ("cpu", {"activations": "dynamic", "per_channel": False}, "a scale for each block of 32"),
    ],
)
def test_what_no_runtime_computes_is_refused_with_a_way_out(
    tmp_path: Path, target: str, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(SpecError) as failure:
        resolved(tmp_path, target, **asked)
    (problem,) = failure.value.problems
    assert words in str(problem)
    assert target in str(problem)
    assert "optimize.quantization" in str(problem)


def test_integers_that_no_precision_asks_for_are_told(tmp_path: Path) -> None:
    with pytest.raises(
        SpecError, match="read with `precision: int8` only, and the precision is fp"
    ):
        resolved(tmp_path, "cpu", precision=None, weights="int4", activations="none")
    assert resolved(tmp_path, "cpu", precision="fp32", weights="int4").scheme == "fp32"
