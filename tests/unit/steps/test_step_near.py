"""near: weights a few steps from those that devices have, where labels and score allow it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from workbench import Bench, make

from repo_builder.steps import near

EVALUATION = {"metric": "accuracy", "labels": {"label": "label"}, "outputs": {"scores": "y"}}


def net(change: float, dtype: str = "float32", name: str = "w") -> onnx.ModelProto:
    r = np.random.default_rng(0)
    w = r.normal(size=(64, 40))
    w += np.random.default_rng(1).normal(size=w.shape) * change
    nodes = [helper.make_node("MatMul", ["x", name], ["y"])]
    model = make(nodes, {"x": ["N", 64]}, {"y": ["N", 40]}, {name: w.astype(dtype)})
    if dtype == "float16":
        for value in (*model.graph.input, *model.graph.output):
            value.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    return model


def weights(folder: Path) -> Any:
    return numpy_helper.to_array(onnx.load(folder / "model.onnx").graph.initializer[0])


def brought(
    bench: Bench, model: onnx.ModelProto, base: onnx.ModelProto, **params: Any
) -> tuple[Path, near.Facts]:
    held = onnx.load_from_string(model.SerializeToString())
    kind = "float16" if held.graph.initializer[0].data_type == 10 else "float32"
    x = np.random.default_rng(2).normal(size=(300, 64)).astype(kind)
    w = numpy_helper.to_array(held.graph.initializer[0])
    label = (x.astype(np.float64) @ w.astype(np.float64)).argmax(axis=1)
    out: tuple[Path, near.Facts] = bench.run(
        "near",
        params={**EVALUATION, **params},
        model=bench.model(model),
        base=bench.model(base),
        evaluation=bench.data("evaluation", x=x, label=label),
    )
    return out


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_weights_are_old_ones_plus_steps(bench: Bench, dtype: str) -> None:
    change = 1e-3 if dtype == "float32" else 1e-2
    model, base = net(change, dtype), net(0.0, dtype)
    out, facts = brought(bench, model, base)
    old, new = (numpy_helper.to_array(m.graph.initializer[0]) for m in (base, model))
    made = weights(out)
    assert facts.step in near.FINENESS
    assert facts.why_not == ""
    exponent = np.rint(np.log2(np.std(new.astype(float) - old) * facts.step))
    q = np.rint((made.astype(float) - old) / 2.0**exponent)
    assert np.array_equal((old.astype(float) + q * 2.0**exponent).astype(dtype), made)
    assert (
        np.abs(made.astype(float) - new).max()
        <= 2.0 ** (exponent - 1) + np.spacing(np.abs(new)).max()
    )
    assert facts.with_it < 0.6 * facts.without
    assert facts.agreement >= near.AGREEMENT
    assert (facts.before, facts.after) == (1.0, pytest.approx(1.0, abs=0.01))


def test_what_shares_nothing_with_the_base_stays(bench: Bench) -> None:
    model = net(1e-3)
    out, facts = brought(bench, model, net(0.0, name="v"))
    assert facts.step is None
    assert "no weights of the two models have the same name" in facts.why_not
    assert np.array_equal(weights(out), numpy_helper.to_array(model.graph.initializer[0]))


def test_leaves_it_where_labels_would_change(bench: Bench) -> None:
    """A change as large as the weights: even fine steps turn labels of rows that are near."""
    model = net(30.0)
    out, facts = brought(bench, model, net(0.0))
    assert facts.step is None
    assert "of the labels would stay" in facts.why_not
    assert facts.with_it == facts.without
    assert np.array_equal(weights(out), numpy_helper.to_array(model.graph.initializer[0]))


def test_a_tensor_without_change_or_with_one_too_far_off_stays() -> None:
    old = np.zeros(1_000_000, np.float32)
    assert near.rounded(old, old, 0.5) is None
    far = old.copy()
    far[0] = 1e9
    assert near.rounded(old, far, 0.125) is None
