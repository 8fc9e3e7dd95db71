"""Which targets a spec may name: by the tables of support, and by what int8 needs."""

from __future__ import annotations

import pytest

from repo_builder import targets
from repo_builder.base.artifact import Contents, Operator
from repo_builder.base.errors import DataError, ModelError, UsageError
from repo_builder.propose import fits

CATALOG = targets.load(None)
PLAIN = Contents((Operator("", "Gemm", 1, "dense"),), {"x": "FP32", "y": "FP32"})
TREES = Contents((Operator("ai.onnx.ml", "TreeEnsembleClassifier", 1, "trees"),), {"x": "FP32"})


def test_what_needs_data_is_told_apart_from_what_cannot() -> None:
    found = fits.fits(PLAIN, CATALOG, int8=False)
    assert {"ethos-u55", "ethos-u85", "tflite-micro"} == set(found.after_data)
    assert {*found.able, *found.after_data} == set(CATALOG)
    assert found.not_able == {}
    assert set(fits.fits(PLAIN, CATALOG, int8=True).able) == set(CATALOG)


def test_trees_go_to_cpus_only() -> None:
    found = fits.fits(TREES, CATALOG, int8=True)
    assert set(found.able) == {"cpu", "raspberry-pi-5"}
    (reason,) = (r for r, names in found.not_able.items() if "jetson-orin-nx" in names)
    assert "TensorRT has no ai.onnx.ml.TreeEnsembleClassifier" in reason


@pytest.mark.parametrize(
    ("asked", "precision", "base", "others"),
    [
        (("cpu",), "fp32", "fp32", {}),
        (("cpu", "movidius-myriad-x"), "int8", "int8", {"movidius-myriad-x": "fp16"}),
        (("cpu", "tflite-micro"), "fp32", "fp32", {"tflite-micro": "int8"}),
        (("tflite-micro", "ethos-u55"), "fp32", "int8", {}),
        (("snapdragon-qcs8275",), "fp32", "fp16", {}),
    ],
)
def test_each_target_gets_a_precision_that_it_has(
    asked: tuple[str, ...], precision: fits.Precision, base: str, others: dict[str, str]
) -> None:
    chosen = fits.choose(asked, fits.fits(PLAIN, CATALOG, int8=True), CATALOG, precision)
    assert (tuple(chosen.targets), chosen.precision, chosen.others) == (asked, base, others)


def test_what_is_asked_and_cannot_be() -> None:
    without = fits.fits(PLAIN, CATALOG, int8=False)
    with pytest.raises(DataError, match="int8 only, which needs calibration data"):
        fits.choose(["tflite-micro"], without, CATALOG, "fp32")
    with pytest.raises(UsageError, match="did you mean 'cpu-openvino'"):
        fits.choose(["cpu-openvin"], without, CATALOG, "fp32")
    trees = fits.fits(TREES, CATALOG, int8=True)
    with pytest.raises(ModelError, match="OpenVINO has no ai.onnx.ml"):
        fits.choose(["cpu-openvino"], trees, CATALOG, "fp32")
    assert fits.choose(["*"], trees, CATALOG, "fp32").targets == ["cpu", "raspberry-pi-5"]


def test_a_model_of_other_operators_is_for_no_target_of_int8_alone() -> None:
    masks = Contents((Operator("", "Add", 1, "add"),), {"x": "FP32", "y": "FP32"})
    assert [fits.quantizable(one) for one in (PLAIN, masks, TREES, None)] == [
        True, False, False, True,
    ]  # fmt: skip
    found = fits.fits(masks, CATALOG, int8=False)
    assert set(found.not_able["nothing in it can be quantized"]) == {
        "ethos-u55", "ethos-u85", "tflite-micro",
    }  # fmt: skip
    assert found.after_data == ()
