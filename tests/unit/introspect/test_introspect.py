"""Introspection on small models, one for each thing that can be odd about a model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest

from repo_builder.base.errors import ModelError
from repo_builder.introspect import settled, signature

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'


def look(tmp_path: Path, text: str):
    model = onnx.parser.parse_model(text if text.startswith("<") else HEAD + text)
    path = tmp_path / "model.onnx"
    onnx.save(model, path)
    return signature(path)


BATCHED = {
    "relu": ("g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }", {}),
    "batch-only output": (
        "g (float[N, 4] x) => (float[N] y) { a = Constant<value_ints = [1]>() "
        "y = ReduceSum<keepdims = 0>(x, a) }",
        {},
    ),
    "unnamed batch": ("g (float[?, 4] x) => (float[?, 4] y) { y = Relu(x) }", {}),
    "symbolic dims shared between inputs": (
        "g (float[N, S] a, float[N, S] b) => (float[N, S] y) { y = Add(a, b) }",
        {"S": 8},
    ),
    "convolution with dynamic channels, height and width": (
        "g (float[N, C, H, W] x) => (float[N, 2, H, W] y) <float[2, 3, 1, 1] w = "
        "{1, 2, 3, 4, 5, 6}> { y = Conv(x, w) }",
        {"C": 3, "H": 64, "W": 64},
    ),
    "indices": (
        "g (int64[N] x) => (float[N, 2] y) <float[4, 2] t = {1,2,3,4,5,6,7,8}> "
        "{ y = Gather(t, x) }",
        {},
    ),
    "strings": ("g (string[N, 2] x) => (string[N, 2] y) { y = Identity(x) }", {}),
    "bfloat16": ("g (bfloat16[N, 2] x) => (bfloat16[N, 2] y) { y = Identity(x) }", {}),
    "subgraph": (
        "g (float[N, 2] x) => (float[N, 2] y) <bool c = {1}> { y = If(c) "
        "<then_branch = t () => (float[N, 2] a) { a = Relu(x) }, "
        "else_branch = e () => (float[N, 2] b) { b = Neg(x) }> }",
        {},
    ),
    "function": (
        '<ir_version: 8, opset_import: ["" : 17, "mine" : 1]> '
        "g (float[N, 2] x) => (float[N, 2] y) { y = mine.twice(x) } "
        '<domain: "mine", opset_import: ["" : 17]> twice (a) => (b) { b = Add(a, a) }',
        {},
    ),
    "oldest opset": (
        '<ir_version: 3, opset_import: ["" : 7]> g (float[N, 2] x) => (float[N, 2] y) '
        "{ y = Relu(x) }",
        {},
    ),
}


@pytest.mark.parametrize("case", BATCHED)
def test_batch_is_proven(tmp_path: Path, case: str) -> None:
    text, axes = BATCHED[case]
    found = look(tmp_path, text)
    assert found.why_not_batched == ""
    assert found.batched
    assert dict(found.dynamic_axes) == axes


NOT_BATCHED = {
    "static": ("g (float[1, 4] x) => (float[1, 4] y) { y = Relu(x) }", "fixed at 1"),
    "scalar": ("g (float x) => (float y) { y = Relu(x) }", "input 'x' is a scalar"),
    "scalar output": (
        "g (float[N] x) => (float y) { y = ReduceSum<keepdims = 0>(x) }",
        "output 'y' is a scalar",
    ),
    "fixed 1 inside a reshape": (
        "g (float[N, 4] x) => (float[M, 4] y) <int64[2] s = {1, 4}> { y = Reshape(x, s) }",
        "fixed at 1",
    ),
    "fixed 1 that shape inference does not see": (
        "g (float[N, 4] x) => (float[M, 4] y) "
        "{ o = Constant<value_ints = [1]>() f = Constant<value_ints = [4]>() "
        "z = Sub(o, o) p = Add(z, o) s = Concat<axis = 0>(p, f) r = Reshape(x, s) y = Relu(r) }",
        "",
    ),
    "batch not first": (
        "g (float[S, N, 4] x) => (float[S, N, 4] y) <int64 axis = {0}> { y = CumSum(x, axis) }",
        "changes with the other rows",
    ),
    "softmax over the batch": (
        "g (float[N, 4] x) => (float[N, 4] y) { y = Softmax<axis = 0>(x) }",
        "changes with the other rows",
    ),
    "batch doubled in the output": (
        "g (float[N, 4] x) => (float[M, 4] y) { y = Concat<axis = 0>(x, x) }",
        "a batch of 1 gives output 'y' the shape [2, 4]",
    ),
    "pairwise": (
        "g (float[N, N] x) => (float[N, N] y) { y = Relu(x) }",
        "also dimension 1",
    ),
    "random": (
        "g (float[N, 4] x) => (float[N, 4] y) { r = RandomNormalLike(x) y = Add(x, r) }",
        "differs between two runs",
    ),
    "no input": ("g () => (float[2] y) { y = Constant<value_floats = [1.0, 2.0]>() }", "no input"),
}


@pytest.mark.parametrize("case", NOT_BATCHED)
def test_batch_is_refuted(tmp_path: Path, case: str) -> None:
    text, why = NOT_BATCHED[case]
    found = look(tmp_path, text)
    assert not found.batched
    assert found.why_not_batched
    assert why in found.why_not_batched


def test_names_types_and_shapes(tmp_path: Path) -> None:
    found = look(tmp_path, "g (float16[N, 3, ?] x) => (double[N, 3, ?] y) { y = Cast<to = 11>(x) }")
    (x,), (y,) = found.inputs, found.outputs
    assert (x.name, x.dtype, x.shape) == ("x", "FP16", ("N", 3, ""))
    assert (y.name, y.dtype, y.shape) == ("y", "FP64", ("N", 3, ""))
    assert dict(found.dynamic_axes) == {"x[2]": 8}
    assert found.opset == 17


def test_an_initializer_listed_as_input_is_no_input(tmp_path: Path) -> None:
    found = look(
        tmp_path, "g (float[N, 2] x, float[2] b = {1, 2}) => (float[N, 2] y) { y = Add(x, b) }"
    )
    assert [t.name for t in found.inputs] == ["x"]
    assert found.batched


UNRANKED = """g (float[N, 4] x) => (float[M] y) {
  c = Shape(x) s = Constant<value_ints = [2, -1]>() b = Greater(c, s)
  k = Compress(c, b) r = Reshape(x, k) y = Identity(r) }"""


def test_an_undeclared_rank_is_found_by_running(tmp_path: Path) -> None:
    model = onnx.parser.parse_model(HEAD + UNRANKED)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, tmp_path / "m.onnx")
    found = signature(tmp_path / "m.onnx")
    assert [t.shape for t in found.outputs] == [("", "")]
    model = settled(model, found)
    onnx.save(model, tmp_path / "m.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "m.onnx")
    assert session.get_outputs()[0].shape == [None, None]


EMPTY = {
    "not dimension 0": ("g (float[N, 0] x) => (float[N, 0] y) { y = Relu(x) }", ("N", ""), True),
    "dimension 0": ("g (float[0, 5] x) => (float[0, 5] y) { y = Relu(x) }", ("", 5), False),
}


@pytest.mark.parametrize("case", EMPTY)
def test_a_dimension_declared_empty_is_dynamic(tmp_path: Path, case: str) -> None:
    """Dimension 0 is then no batch, of which Triton asks at least one row."""
    text, shape, batched = EMPTY[case]
    found = look(tmp_path, text)
    assert found.inputs[0].shape == found.outputs[0].shape == shape
    assert found.batched is batched
    model = onnx.load(tmp_path / "model.onnx")
    model = settled(model, found)
    onnx.save(model, tmp_path / "model.onnx")
    assert signature(tmp_path / "model.onnx").inputs == found.inputs


def test_an_empty_dimension_beside_external_data(tmp_path: Path) -> None:
    model = _external(tmp_path)
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 0
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    found = signature(tmp_path / "model.onnx")
    assert found.inputs[0].shape == ("", 512)
    assert found.runs_with_zeros


CONVERTED = {
    "old": (
        '<ir_version: 3, opset_import: ["" : 1]> g (float[N, 3] x) => (float[N, 3] y) '
        "{ r = Tanh(x) y = LeakyRelu<alpha = 0.25>(r) }",
        (1, 7),
    ),
    "new": (
        '<ir_version: 13, opset_import: ["" : 28]> g (float[N, 4] x) => (uint8[N, 4] y) '
        "<float s = {0.5}, uint8 z = {128}> { y = QuantizeLinear(x, s, z) }",
        (28, 27),
    ),
}


@pytest.mark.parametrize("case", CONVERTED)
def test_an_opset_that_onnx_runtime_lacks_is_converted(tmp_path: Path, case: str) -> None:
    text, opsets = CONVERTED[case]
    found = look(tmp_path, text)
    assert (found.converted_from, found.opset) == opsets
    assert found.inputs[0].shape[0] == found.outputs[0].shape[0] == "N"
    assert found.batched


REFUSED = {
    "optional": ("g (optional(float[2]) x) => (float[2] y) { y = OptionalGetElement(x) }", "opt"),
    "sequence": ("g (float[2] x) => (seq(float[2]) y) { y = SequenceConstruct(x) }", "sequence"),
    "complex": ("g (complex64[2] x) => (complex64[2] y) { y = Identity(x) }", "complex64"),
    "always empty": (
        "g (float[2] x) => (float[0] y) <int64[1] s = {0}> { y = Slice(x, s, s) }",
        "always has size 0",
    ),
    "custom domain": (
        '<ir_version: 8, opset_import: ["" : 17, "acme" : 1]> '
        "g (float[2] x) => (float[2] y) { y = acme.Rocket(x) }",
        "acme:Rocket",
    ),
    "old opset that cannot be converted": (
        '<ir_version: 3, opset_import: ["" : 6]> g (float[2] x, bool[2] z) => (float[2] y) '
        "{ y = Rocket(x) }",
        "opset 6 is older than 7, the oldest that ONNX Runtime has; ONNX cannot convert it",
    ),
    "old opset that nothing runs": (
        '<ir_version: 3, opset_import: ["" : 6]> g (float[2, 3] x) => (float[2, 3] y) '
        "{ y = Dropout<is_test = 1>(x) }",
        "it runs in opset 7, but is not shown to be the same model there: No implementation for",
    ),
    "a new operator's type": (
        '<ir_version: 13, opset_import: ["" : 28]> g (int16[2] x) => (int16[2] y) '
        "{ y = Max(x, x) }",
        "Could not find an implementation for Max",
    ),
    "converted, but random": (
        '<ir_version: 10, opset_import: ["" : 22]> g (float[N, 9] x) => (float[N, 9] y) '
        "{ y = RandomUniformLike(x) }",
        "in opset 21, but is not shown to be the same model there: output 'y' differs",
    ),
    "a locale that no machine has": (
        "g (string[2] x) => (string[2] y) "
        '{ y = StringNormalizer<case_change_action = "LOWER", locale = "xx_YY.UTF-8">(x) }',
        "this machine lacks the locale xx_YY.UTF-8",
    ),
    "unknown operator": ("g (float[2] x) => (float[2] y) { y = Rocket(x) }", "Rocket"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_triton_cannot_carry_is_refused(tmp_path: Path, case: str) -> None:
    text, reason = REFUSED[case]
    with pytest.raises(ModelError, match=r"Triton|model") as refusal:
        look(tmp_path, text)
    assert reason in str(refusal.value)


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "empty"), (b"\x00garbage\xff" * 9, "not an ONNX"), (b"hello", "not an ONNX")],
)
def test_files_that_are_no_models(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=reason):
        signature(path)


def _external(tmp_path: Path) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        HEAD + "g (float[N, 512] x) => (float[N, 512] y) { y = Add(x, w) }"
    )
    weight = np.ones(512, np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    onnx.save(model, tmp_path / "model.onnx", save_as_external_data=True, location="w.bin")
    return onnx.load(tmp_path / "model.onnx", load_external_data=False)


def test_external_data(tmp_path: Path) -> None:
    _external(tmp_path)
    assert signature(tmp_path / "model.onnx").batched
    (tmp_path / "w.bin").unlink()
    with pytest.raises(ModelError, match=r"'w\.bin' is missing"):
        signature(tmp_path / "model.onnx")


def test_external_data_outside_the_folder(tmp_path: Path) -> None:
    model = _external(tmp_path)
    model.graph.initializer[0].external_data[0].value = "../w.bin"
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="outside the model's folder"):
        signature(tmp_path / "model.onnx")


def test_truncated(tmp_path: Path) -> None:
    _external(tmp_path)
    path = tmp_path / "model.onnx"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ModelError, match="cut short"):
        signature(path)


def test_lack_of_memory_is_no_fact_about_the_model(tmp_path: Path) -> None:
    """4 TB: what this machine cannot hold says nothing about the batch."""
    text = "g (float[N, 1] x) => (float[N, L] y) <int64[2] s = {1, 1000000000000}>"
    with pytest.raises(MemoryError):
        look(tmp_path, text + " { y = Expand(x, s) }")


def test_one_name_for_dimensions_of_different_sizes(tmp_path: Path) -> None:
    text = (
        "g (float[N, s] a, float[N, s] b) => (float[N, 2] y) <float[3, 2] v = {1, 2, 3, 4, 5, 6}, "
        "float[2, 2] w = {1, 2, 3, 4}> { p = MatMul(a, v) q = MatMul(b, w) y = Add(p, q) }"
    )
    found = look(tmp_path, text)
    assert [tensor.shape for tensor in found.inputs] == [("N", ""), ("N", "")]
    assert found.dynamic_axes == {"a[1]": 3, "b[1]": 2}
    assert found.mended == ("dimensions called 's' are of different sizes",)
    assert found.batched


def test_sound_longer_than_a_window_is_tried(tmp_path: Path) -> None:
    model = onnx.parser.parse_model("""
        <ir_version: 8, opset_import: ["" : 17]>
        sound (float[n, 1, samples] x, float[1, 1, 400] w) => (float[n, 1, frames] y) {
          y = Conv(x, w)
        }""")
    window = onnx.numpy_helper.from_array(np.ones((1, 1, 400), np.float32), "w")
    del model.graph.input[1]
    model.graph.initializer.append(window)
    onnx.save(model, tmp_path / "sound.onnx")
    assert signature(tmp_path / "sound.onnx").dynamic_axes["samples"] > 400


@pytest.mark.parametrize("declared", ["float", "int32"])
def test_an_output_of_another_type_than_declared_has_its_own(tmp_path: Path, declared: str) -> None:
    found = look(
        tmp_path,
        f"g (float[N, 4] x) => ({declared}[N] y) {{ y = ArgMax<axis = 1, keepdims = 0>(x) }}",
    )
    assert found.outputs[0].dtype == "INT64"
    said = {"float": "FP32", "int32": "INT32"}[declared]
    assert f"output 'y', declared {said}, is INT64" in found.mended
    model = settled(onnx.load(tmp_path / "model.onnx"), found)
    onnx.checker.check_model(model, full_check=True)
