"""`keep_float`: what a spec may ask for, and where nothing can stay in floating point."""

from __future__ import annotations

from pathlib import Path

import pytest

from repo_builder import targets
from repo_builder.base.errors import SpecError
from repo_builder.spec.load import load

CATALOG = targets.load()


def spec(folder: Path, asked: str, target: str = "cpu", precision: str = "int8") -> Path:
    for name in ("m.onnx", "c.npz"):
        (folder / name).write_bytes(b"x")
    file = folder / "a.yaml"
    file.write_text(
        f"name: digits\nversion: 1.2.3\nsource: {{onnx: m.onnx}}\ntargets: [{target}]\n"
        "data: {calibration: {path: c.npz}}\n"
        f"optimize:\n  precision: {precision}\n  quantization:\n    keep_float: {asked}\n"
    )
    return file


@pytest.mark.parametrize(
    ("asked", "precision", "bound"),
    [
        ("none", "int8", None),
        ("auto", "int8", 0.05),
        ("0.01", "int8", 0.01),
        ("auto", "fp32", None),
    ],
)
def test_a_bound_is_given_or_usual(
    tmp_path: Path, asked: str, precision: str, bound: float | None
) -> None:
    (found,) = load([spec(tmp_path, asked, precision=precision)], CATALOG)
    assert found.optimize.quantization.max_error == bound  # type: ignore[union-attr]


@pytest.mark.parametrize("target", ["ethos-u55", "ethos-u85", "tflite-micro"])
def test_devices_of_int8_alone_refuse_it(tmp_path: Path, target: str) -> None:
    with pytest.raises(SpecError) as caught:
        load([spec(tmp_path, "auto", target)], CATALOG)
    (problem,) = caught.value.problems
    assert str(problem).endswith(
        f"a.yaml:9: optimize.quantization.keep_float: {target} has no mixed precision: every "
        "layer is computed in int8, none in floating point; write `keep_float: none` for it under "
        "`overrides`"
    )


@pytest.mark.parametrize("asked", ["0", "1.5", "some", "true"])
def test_what_is_no_bound_is_refused(tmp_path: Path, asked: str) -> None:
    with pytest.raises(SpecError) as caught:
        load([spec(tmp_path, asked)], CATALOG)
    assert "optimize.quantization.keep_float" in str(caught.value.problems[0])
