"""What the report and the gate make of what `verify` found."""

from __future__ import annotations

from typing import Any

import pytest

from repo_builder.base.artifact import Artifact, Entry
from repo_builder.build import proof
from repo_builder.steps import _keep


def entry(**facts: Any) -> Entry:
    usual = {"outputs": [], "unproven": []}
    return Entry("key", {}, Artifact({}), {**usual, **facts}, 0.1)


OVERFLOWING = [{"node": "node 'p' (Pow)", "value": 3.3e6}, {"node": "node 'v' (Add)", "value": 1e5}]


def test_nothing_beyond_the_limits() -> None:
    good = entry(broken=[], first="", arithmetic="fp16")
    assert proof.failures({}, good) == []
    ranges = entry(count=2, overflowing=OVERFLOWING)
    assert proof.failures({"fp16-ranges": ranges}, good) == []


def test_all_of_it_in_one_line() -> None:
    found = entry(broken=["output 'y' is wrong", "output 'z' too"], first="n", arithmetic="int8")
    assert proof.failures({}, found) == [
        "output 'y' is wrong; output 'z' too; it begins at n; exclude nodes from quantization, "
        "take another precision, or set `gates: {max_difference: ...}` if that is right"
    ]


def test_a_model_with_scales_of_its_own_has_nothing_to_exclude() -> None:
    found = entry(broken=["output 'y' is wrong"], first="", arithmetic="int8")
    (line,) = proof.failures({"import": entry(quantized="QOperator")}, found)
    assert line.startswith("output 'y' is wrong; take another target, give the floating-point ")


@pytest.mark.parametrize("found", [{"shape": "shape [1] instead of [2]"}, {"misplaced": 3}])
def test_no_limit_is_offered_for_what_has_none(found: dict[str, Any]) -> None:
    output = {"shape": "", "misplaced": 0, **found}
    facts = entry(broken=["output 'y' is wrong"], first="", arithmetic="fp32", outputs=[output])
    assert proof.failures({}, facts) == ["output 'y' is wrong; use another target"]


def test_what_data_cannot_prove_wants_other_data() -> None:
    facts = entry(
        broken=["output 'y' has only NaN in the source"],
        first="",
        arithmetic="fp32",
        unproven=["y"],
    )
    assert proof.failures({}, facts) == [
        "output 'y' has only NaN in the source; give evaluation or calibration data on which it is "
        "a number"
    ]


def test_nodes_that_overflow_are_named_with_what_they_reach() -> None:
    ranges = entry(count=7, overflowing=OVERFLOWING)
    found = entry(broken=["output 'y' is wrong"], first="", arithmetic="fp16")
    (line,) = proof.failures({"fp16-ranges": ranges}, found)
    reach = "node 'p' (Pow) 3.3e+06, node 'v' (Add) 1e+05 and 5 more"
    assert line.startswith(
        f"output 'y' is wrong; fp16 ends at 65504, but on these rows reach: {reach}; write "
    )
    kept = entry(kept=["p", "v"])
    assert proof.changes({"fp16-ranges": ranges, "compile-onnxruntime": kept}) == [
        f"2 nodes stay in fp32, since fp16 ends at 65504, but on these rows reach: {reach}"
    ]
    assert proof.changes({"compile-onnxruntime": entry(kept=[])}) == []


def test_figures_of_the_report() -> None:
    one = {
        "name": "y", "max_abs": 1.0, "mean_abs": 0.1, "relative": 0.2, "cosine": 0.99,
        "columns": 0.3, "column": 0.4, "worst": "column 1", "labels": None, "misplaced": 0,
        "shape": "", "left_out": 0,
    }  # fmt: skip
    found = proof.differences(entry(outputs=[one]))
    assert (found["y"].relative, found["y"].columns, found["y"].labels) == (0.2, 0.3, None)


@pytest.mark.parametrize("step", ["quantize", "compile-openvino"])
def test_what_stays_in_floating_point_and_what_was_balanced(step: str) -> None:
    left = {"a": "feeds 'c', which stays in floating point", "b": "works on values up to 1e+09"}
    facts = entry(left=left | {"c": "reads or makes infinite values"}, balanced={"conv": 64.0})
    assert proof.notes({step: facts}) == (
        "3 nodes stay in floating point: 'b' works on values up to 1e+09; "
        "'c' reads or makes infinite values and 1 more",
        "channels balanced before int8, largest over median: 'conv' (64x)",
    )


def test_layers_that_mixed_precision_leaves_are_told_by_layer() -> None:
    def layer(name: str, error: float, form: str) -> dict[str, Any]:
        return {"name": name, "error": error, "form": form}

    layers = [
        layer("q", 0.26, "weights"),
        layer("k", 0.25, "float"),
        layer("v", 0.2, "weights"),
        layer("head", 0.01, "int8"),
    ]
    left = {"q": _keep.why(0.26), "k": _keep.why(0.25), "mask": "works on values up to 1e+09"}
    ranked = entry(layers=layers, whole=0.339, error=0.0475)
    assert proof.notes({"sensitivity": ranked, "quantize": entry(left=left, balanced={})}) == (
        "mixed precision: 3 of 4 layers compute in floating point, 2 of them with weights stored "
        "in int8, so that answers on calibration rows are off by 0.048 of their norm, not 0.34: "
        "'q' (alone 0.26), 'k' (alone 0.25) and 1 more",
        "1 node stays in floating point: 'mask' works on values up to 1e+09",
    )
    nothing = entry(layers=layers[3:], whole=0.01, error=0.01)
    assert proof.notes({"sensitivity": nothing, "quantize": entry(left={}, balanced={})}) == ()


def test_training_is_told() -> None:
    facts = {"history": [{}, {}, {}], "best_epoch": 2, "score": 0.91234, "stopped": ""}
    assert proof.notes({"train": entry(**facts)}) == (
        "trained for 3 epochs; epoch 2 is kept, scored 0.9123 on validation rows",
    )
    assert proof.warnings({"train": entry(**facts, diverged=False)}) == ()
    why = "the loss is nan in epoch 4, batch 1"
    ended = entry(**facts | {"score": None, "stopped": why}, diverged=True)
    assert proof.notes({"train": ended}) == (
        f"trained for 3 epochs, ended early ({why}); epoch 2 is kept",
    )
    assert proof.warnings({"train": ended}) == (
        f"training ended as {why}; epoch 2 is kept: try a lower learning rate",
    )
    assert proof.warnings({"export": entry(), "train": None}) == ()


def test_nothing_to_note() -> None:
    assert proof.notes({"quantize": entry(left={}, balanced={})}) == ()
    assert proof.notes({"compile-onnxruntime": entry(), "quantize": None}) == ()


def test_bits_and_repairs_are_told() -> None:
    packed = entry(
        in_4_bits={"Gemm": 1, "MatMul": 3},
        in_8_bits={"Conv": 2},
        rounded=["a", "b"],
        corrected=["a"],
        balanced={"b": 60.0},
    )
    assert proof.notes({"quantize-weights": packed, "compile-openvino": entry(left={})}) == (
        "channels balanced before int8, largest over median: 'b' (60x)",
        "weights of 1 Gemm, 3 MatMul in 4 bits; 2 Conv in 8 bits",
        "weights of 2 nodes rounded together, so that errors cancel",
        "biases of 1 node corrected by the mean shift",
    )
    assert proof.notes({"quantize-weights": entry(in_4_bits={}, in_8_bits={"Conv": 2})}) == ()
