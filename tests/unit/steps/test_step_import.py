from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from workbench import Bench, cnn, make, relu

from repo_builder.base.errors import ModelError
from repo_builder.steps import _onnx


def dense(size: int = 64) -> onnx.ModelProto:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    weights = {"w": np.ones((size, size), np.float32)}
    return make([node], {"x": ["N", size]}, {"y": ["N", size]}, weights)


def external(bench: Bench, location: str = "weights.bin") -> Path:
    folder = bench.folder()
    onnx.save_model(
        dense(),
        folder / "model.onnx",
        save_as_external_data=True,
        location="weights.bin",
        size_threshold=0,
    )
    if location != "weights.bin":
        model = onnx.load(folder / "model.onnx", load_external_data=False)
        model.graph.initializer[0].external_data[0].value = location
        (folder / "model.onnx").write_bytes(model.SerializeToString())
    return folder


def test_facts(bench: Bench) -> None:
    out, facts = bench.run("import", model=bench.model(cnn()))
    assert facts.signature.batched
    assert [t.name for t in facts.signature.inputs] == ["x"]
    assert (facts.opset, facts.ir_version) == (17, 8)
    assert facts.parameters == 8 * 27 + 4 * 8 + 8 * 72 + 40 + 5 + 5
    assert sorted(p.name for p in out.iterdir()) == ["model.onnx"]


def test_a_dimension_of_size_0_becomes_dynamic(bench: Bench) -> None:
    """In the file as well: Triton compares it with the config, which cannot say 0."""
    node = helper.make_node("Relu", ["x"], ["y"])
    out, facts = bench.run("import", model=bench.model(make([node], {"x": [0, 3]}, {"y": [0, 3]})))
    assert facts.signature.inputs[0].shape == facts.signature.outputs[0].shape == ("", 3)
    assert not facts.signature.batched
    model = _onnx.load(out)
    assert {shape for _, shape in _onnx.interface(model).values()} == {("", 3)}
    assert not model.graph.input[0].type.tensor_type.shape.dim[0].HasField("dim_value")


def test_an_old_opset_is_converted_and_said_so(bench: Bench) -> None:
    """With its weights, wherever they lie, and with the names of its dimensions."""
    folder = external(bench)
    model = onnx.load(folder / "model.onnx", load_external_data=False)
    model.opset_import[0].version = 6
    onnx.save(model, folder / "model.onnx")
    out, facts = bench.run("import", model=folder)
    assert (facts.signature.converted_from, facts.opset) == (6, 7)
    written = onnx.load(out / "model.onnx")
    assert written.opset_import[0].version == 7
    assert written.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"
    weight = onnx.numpy_helper.to_array(written.graph.initializer[0])
    np.testing.assert_array_equal(weight, np.ones((64, 64)))
    onnx.checker.check_model(written)


BAD: dict[str, tuple[Any, str]] = {
    "empty file": (b"", "empty"),
    "not onnx": (b"just some text, no model", "not an ONNX model"),
    "truncated": (cnn().SerializeToString()[:-7], "cut short"),
    "no nodes": (make([], {"x": ["N", 3]}, {"x": ["N", 3]}), "no nodes"),
    "no outputs": (make([], {}, {}), "no output"),
    "new opset": (relu(opset=99), "opset 99 is newer"),
    "new ir": (relu(ir=99), "IR version 99 is newer"),
    "unknown operator": (relu(op="Foo"), "Foo"),
    "custom operator": (relu(op="Foo", domain="my.own"), "my.own:Foo"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_model_is_one_clear_line(bench: Bench, case: str) -> None:
    model, expected = BAD[case]
    with pytest.raises(ModelError, match=expected) as caught:
        bench.run("import", model=bench.model(model))
    assert "\n" not in str(caught.value)
    assert "onnxruntime_src" not in str(caught.value)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("other.bin", "'other.bin' is missing"),
        ("../weights.bin", "outside the model's folder"),
        ("/etc/hostname", "outside the model's folder"),
    ],
)
def test_external_data_must_lie_beside_the_model(
    bench: Bench, location: str, expected: str
) -> None:
    with pytest.raises(ModelError, match=expected):
        bench.run("import", model=external(bench, location))


def test_external_data_cut_short(bench: Bench) -> None:
    folder = external(bench)
    (folder / "weights.bin").write_bytes(b"\0" * 100)
    with pytest.raises(ModelError, match="cut short: 100 of 16384 bytes"):
        bench.run("import", model=folder)


def test_external_data_through_a_link_out_of_the_folder(bench: Bench) -> None:
    folder = external(bench)
    (folder / "weights.bin").rename(bench.folder() / "elsewhere.bin")
    (folder / "weights.bin").symlink_to(bench.scratch / str(bench.count) / "elsewhere.bin")
    with pytest.raises(ModelError, match="escapes"):
        bench.run("import", model=folder)


def test_small_weights_come_inside_and_bytes_do_not_depend_on_the_form(bench: Bench) -> None:
    apart, _ = bench.run("import", model=external(bench))
    inside, _ = bench.run("import", model=bench.model(dense()))
    assert [p.name for p in apart.iterdir()] == ["model.onnx"]
    assert (apart / "model.onnx").read_bytes() == (inside / "model.onnx").read_bytes()


def test_big_weights_lie_in_one_file(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_onnx, "INLINE_LIMIT", 1000)
    out, facts = bench.run("import", model=bench.model(dense()))
    assert sorted(p.name for p in out.iterdir()) == ["model.onnx", "model.onnx.data"]
    assert (out / "model.onnx").stat().st_size < 1000
    assert facts.parameters == 64 * 64
    for step in ("simplify", "compile-onnxruntime"):
        out, _ = bench.run(step, model=out)
        assert (out / "model.onnx.data").stat().st_size >= 4 * 64 * 64
    onnx.checker.check_model(out / "model.onnx")


def test_weights_that_are_also_inputs_become_constants(bench: Bench) -> None:
    model = dense()
    model.graph.input.append(helper.make_tensor_value_info("w", 1, [64, 64]))
    model.ir_version = 3
    del model.opset_import[:]
    model.opset_import.append(helper.make_opsetid("", 8))
    out, facts = bench.run("import", model=bench.model(model))
    written = onnx.load(out / "model.onnx")
    assert [v.name for v in written.graph.input] == ["x"]
    assert (written.ir_version, facts.ir_version) == (4, 3)
    onnx.checker.check_model(written)
