"""Files that ONNX Runtime takes and the standard does not, or that declare what is not so."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from workbench import Bench, make

from repo_builder.introspect import why_not_same

node = helper.make_node
value = helper.make_tensor_value_info


def _row(*shape: int) -> dict[str, Any]:
    return {"x": np.random.default_rng(1).standard_normal(shape).astype(np.float32)}


def negative() -> onnx.ModelProto:
    model = make([node("Relu", ["x"], ["y"])], {"x": [1, 3]}, {"y": [1, 3]})
    for port in (model.graph.input[0], model.graph.output[0]):
        port.type.tensor_type.shape.dim[0].dim_value = -1
    return model


def known_by_operators() -> onnx.ModelProto:
    """The file names a dimension whose size follows from the operators."""
    nodes = [node("Concat", ["x", "w"], ["c"], axis=1), node("Slice", ["c", "b", "e", "a"], ["y"])]
    weights = {"w": np.ones((2, 9), np.float32), "b": [-5], "e": [2**31 - 1], "a": [1]}
    return make(nodes, {"x": [2, 9]}, {"y": [2, "cut"]}, weights)


def wrong_rank() -> onnx.ModelProto:
    nodes = [node("Transpose", ["x"], ["t"], perm=[2, 0, 1]), node("Relu", ["t"], ["y"])]
    return make(nodes, {"x": [1, 4, "w"]}, {"y": [1, "length"]})


def wrong_rank_unknown_to_inference() -> onnx.ModelProto:
    nodes = [node("Transpose", ["x"], ["t"], perm=[2, 0, 1]), node("Squeeze", ["t"], ["y"])]
    return make(nodes, {"x": [2, 4, "w"]}, {"y": [1, "length"]}, opset=13)


def wrong_size_of_output() -> onnx.ModelProto:
    """8 is what the first size that is tried gives: a coincidence, which another run shows."""
    nodes = [node("NonZero", ["x"], ["n"]), node("Shape", ["n"], ["s"]), node("Neg", ["s"], ["m"])]
    nodes += [node("Abs", ["m"], ["a"]), node("Expand", ["one", "a"], ["y"])]
    return make(nodes, {"x": ["w"]}, {"y": [1, 8]}, {"one": np.ones((1, 1), np.float32)})


def wrong_reshape_target() -> onnx.ModelProto:
    """A simplifier that believes the declared output writes another Reshape."""
    nodes = [
        node("Transpose", ["x"], ["t"], perm=[2, 0, 1]),
        node("Shape", ["t"], ["s"]),
        node("Gather", ["s", "first"], ["n"], axis=0),
        node("Unsqueeze", ["n"], ["n1"], axes=[0]),
        node("Reshape", ["t", "rows"], ["f"]),
        node("MatMul", ["f", "w"], ["g"]),
        node("Concat", ["n1", "one", "five"], ["to"], axis=0),
        node("Reshape", ["g", "to"], ["y"]),
    ]
    weights = {"first": 0, "rows": [-1, 4], "one": [1], "five": [5]}
    w = np.random.default_rng(0).standard_normal((4, 5)).astype(np.float32)
    inputs, outputs = {"x": [1, 4, "w"]}, {"y": [1, "length"]}
    return make(nodes, inputs, outputs, {**weights, "w": w}, opset=12, ir=6)


def unsorted() -> onnx.ModelProto:
    nodes = [node("Relu", ["a"], ["y"]), node("Neg", ["x"], ["a"])]
    return make(nodes, {"x": ["N", 3]}, {"y": ["N", 3]})


def wrong_inside() -> onnx.ModelProto:
    nodes = [node("Neg", ["x"], ["a"]), node("Flatten", ["a"], ["y"])]
    model = make(nodes, {"x": ["N", 3, 2]}, {"y": ["N", 6]})
    model.graph.value_info.append(value("a", TensorProto.FLOAT, [7, 9]))
    return model


def wrong_type_inside() -> onnx.ModelProto:
    nodes = [node("Neg", ["x"], ["a"]), node("Relu", ["a"], ["y"])]
    model = make(nodes, {"x": ["N", 3]}, {"y": ["N", 3]})
    model.graph.value_info.append(value("a", TensorProto.INT64, ["N", 3]))
    return model


def same_node_names() -> onnx.ModelProto:
    nodes = [node("Neg", ["x"], ["a"], name="n"), node("Relu", ["a"], ["y"], name="n")]
    return make(nodes, {"x": ["N", 3]}, {"y": ["N", 3]})


def weight_stored_twice() -> onnx.ModelProto:
    model = make(
        [node("Add", ["x", "w"], ["y"])],
        {"x": ["N", 3]},
        {"y": ["N", 3]},
        {"w": np.ones(3, np.float32)},
    )
    model.graph.initializer.append(numpy_helper.from_array(np.full(3, 2, np.float32), "w"))
    return model


def weight_that_is_no_input_in_ir_3() -> onnx.ModelProto:
    weights = {"w": np.ones(3, np.float32)}
    nodes = [node("Add", ["x", "w"], ["y"])]
    return make(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, weights, opset=8, ir=3)


def one_name_for_two_sizes() -> onnx.ModelProto:
    nodes = [node("MatMul", ["x", "w"], ["y"])]
    weights = {"w": np.ones((3, 5), np.float32)}
    return make(nodes, {"x": ["n", "n"]}, {"y": ["n", "n"]}, weights)


def output_without_type() -> onnx.ModelProto:
    model = make([node("Relu", ["x"], ["y"])], {"x": ["N", 3]}, {"y": ["N", 3]})
    model.graph.output[0].ClearField("type")
    return model


def no_opset_of_a_domain() -> onnx.ModelProto:
    keys = {"keys_floats": [1.0], "values_floats": [2.0]}
    nodes = [node("LabelEncoder", ["x"], ["y"], domain="ai.onnx.ml", **keys)]
    return make(nodes, {"x": ["N", 3]}, {"y": ["N", 3]})


def output_listed_twice() -> onnx.ModelProto:
    model = make([node("Relu", ["x"], ["y"])], {"x": ["N", 3]}, {"y": ["N", 3]})
    model.graph.output.append(model.graph.output[0])
    return model


def graph_without_name() -> onnx.ModelProto:
    model = make([node("Relu", ["x"], ["y"])], {"x": ["N", 3]}, {"y": ["N", 3]})
    model.graph.name = ""
    return model


def wrong_in_a_subgraph() -> onnx.ModelProto:
    branches = [
        helper.make_graph([node(op, ["x"], [op])], op, [], [value(op, TensorProto.FLOAT, ["N", 9])])
        for op in ("Neg", "Relu")
    ]
    nodes = [
        node("ReduceSum", ["x"], ["t"], keepdims=0),
        node("Greater", ["t", "zero"], ["c"]),
        node("If", ["c"], ["y"], then_branch=branches[0], else_branch=branches[1]),
    ]
    weights = {"zero": np.float32(0)}
    return make(nodes, {"x": ["N", 3]}, {"y": ["N", 3]}, weights, opset=13)


FORMS: dict[Callable[[], onnx.ModelProto], list[dict[str, Any]]] = {
    negative: [_row(1, 3), _row(5, 3)],
    known_by_operators: [_row(2, 9)],
    wrong_rank: [_row(1, 4, 7), _row(1, 4, 2)],
    wrong_rank_unknown_to_inference: [_row(2, 4, 7), _row(2, 4, 3)],
    wrong_size_of_output: [_row(8), _row(5)],
    wrong_reshape_target: [_row(1, 4, 7), _row(1, 4, 2)],
    unsorted: [_row(2, 3)],
    wrong_inside: [_row(2, 3, 2)],
    wrong_type_inside: [_row(2, 3)],
    same_node_names: [_row(2, 3)],
    weight_stored_twice: [_row(2, 3)],
    weight_that_is_no_input_in_ir_3: [_row(2, 3)],
    one_name_for_two_sizes: [_row(2, 3)],
    output_without_type: [_row(2, 3)],
    no_opset_of_a_domain: [_row(2, 3)],
    output_listed_twice: [_row(2, 3)],
    graph_without_name: [_row(2, 3)],
    wrong_in_a_subgraph: [_row(2, 3)],
}

LOADS_ONLY_MENDED = (wrong_type_inside, same_node_names)
"""Which ONNX Runtime refuses as they are: told apart from what it computes for the mended file."""


@pytest.mark.parametrize("form", FORMS, ids=lambda form: form.__name__)
def test_answers_as_the_file_does_and_declares_what_is_so(
    bench: Bench, form: Callable[[], onnx.ModelProto]
) -> None:
    source = bench.model(form())
    out, _ = bench.run("import", model=source)
    out, _ = bench.run("simplify", model=out)
    out, _ = bench.run("compile-onnxruntime", model=out)
    onnx.checker.check_model(out / "model.onnx", full_check=True)
    built = _session(out)
    plain = None if form in LOADS_ONLY_MENDED else _session(source)
    for row in FORMS[form]:
        outputs = built.run(None, row)
        for port, array in zip(built.get_outputs(), outputs, strict=True):
            _fits(port.shape, array)
        if plain is not None:
            for got, want in zip(outputs, plain.run(None, row), strict=False):
                assert got.shape == want.shape
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


def _session(folder: Path) -> Any:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(
        folder / "model.onnx", options, providers=["CPUExecutionProvider"]
    )


def _fits(declared: list[int | str | None], array: Any) -> None:
    assert len(declared) == array.ndim
    sizes = zip(declared, array.shape, strict=True)
    assert all(said == real for said, real in sizes if isinstance(said, int))


def test_what_was_set_right_is_told(bench: Bench) -> None:
    _, facts = bench.run("import", model=bench.model(wrong_rank()))
    assert facts.signature.mended == ("output 'y' is declared [1, length], but is [w, 1, 4]",)
    _, facts = bench.run("import", model=bench.model(unsorted()))
    assert facts.signature.mended == ("nodes sorted, each after those that it reads",)
    _, facts = bench.run("import", model=bench.model(negative()))
    assert len(facts.signature.mended) == 2
    assert facts.signature.batched


def test_a_rewrite_that_changes_answers_or_shapes_is_seen(bench: Bench) -> None:
    """Also where the numbers are equal and only their shape is another."""
    before = bench.model(wrong_rank())
    flat = make(
        [node("Transpose", ["x"], ["t"], perm=[2, 0, 1]), node("Flatten", ["t"], ["y"])],
        {"x": [1, 4, "w"]},
        {"y": ["w", 4]},
    )
    other = make(
        [node("Transpose", ["x"], ["t"], perm=[2, 0, 1]), node("Abs", ["t"], ["y"])],
        {"x": [1, 4, "w"]},
        {"y": ["w", 1, 4]},
    )
    shape, values = (
        why_not_same(before / "model.onnx", bench.model(model) / "model.onnx")
        for model in (flat, other)
    )
    assert "shape [8, 4], not [8, 1, 4]" in shape
    assert values == "output 'y' differs"
    assert why_not_same(before / "model.onnx", before / "model.onnx") == ""


def test_what_the_simplifier_makes_up_about_shapes_is_not_written(bench: Bench) -> None:
    """Squeeze drops a dimension where it is 1, which a simplifier does not think of."""
    source, _ = bench.run("import", model=bench.model(wrong_rank_unknown_to_inference()))
    out, _ = bench.run("simplify", model=source)
    (output,) = onnx.load(out / "model.onnx").graph.output
    assert [dim.WhichOneof("value") for dim in output.type.tensor_type.shape.dim] == [None] * 3


def test_a_question_mark_is_no_name(bench: Bench) -> None:
    """Paddle's exporter writes it for height and width, which need not be equal."""
    model = make([node("Relu", ["x"], ["y"])], {"x": ["?", 3, "?", "?"]}, {"y": ["?", 3, "?", "?"]})
    sizes = {"x[2]": 4, "x[3]": 6}
    _, facts = bench.run("import", params={"sizes": sizes}, model=bench.model(model))
    assert facts.signature.batched
    assert facts.signature.dynamic_axes == sizes
    assert facts.signature.inputs[0].shape == facts.signature.outputs[0].shape == ("", 3, "", "")


FOREST = {
    "nodes_treeids": [0, 0, 0],
    "nodes_nodeids": [0, 1, 2],
    "nodes_featureids": [0, 0, 0],
    "nodes_values": [0.5, 0.0, 0.0],
    "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
    "nodes_truenodeids": [1, 0, 0],
    "nodes_falsenodeids": [2, 0, 0],
    "class_treeids": [0] * 6,
    "class_nodeids": [1, 1, 1, 2, 2, 2],
    "class_ids": [0, 1, 2, 0, 1, 2],
    "class_weights": [0.125, 0.625, 0.25, 0.5, 0.125, 0.375],
}


def forest(labels: dict[str, Any], kind: int) -> onnx.ModelProto:
    """As scikit-learn's converters write a classifier: a label, and maps of probabilities."""
    nodes = [
        node("Scaler", ["x"], ["z"], domain="ai.onnx.ml", offset=[0.5, 0.0], scale=[2.0, 1.0]),
        node(
            "TreeEnsembleClassifier", ["z"], ["label", "p"], domain="ai.onnx.ml", **FOREST, **labels
        ),
        node("ZipMap", ["p"], ["probability"], domain="ai.onnx.ml", **labels),
    ]
    model = make(nodes, {"x": ["", 2]}, {"label": [""]})
    model.graph.output[0].type.tensor_type.elem_type = kind
    maps = model.graph.output.add(name="probability").type.sequence_type.elem_type.map_type
    maps.key_type = kind
    maps.value_type.tensor_type.elem_type = TensorProto.FLOAT
    model.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return model


LABELS = {
    "words": (
        {"classlabels_strings": ["zebra", "ant", "bee"]},
        TensorProto.STRING,
        ("zebra", "ant", "bee"),
    ),
    "numbers": ({"classlabels_int64s": [7, 3, 5]}, TensorProto.INT64, (7, 3, 5)),
}


@pytest.mark.parametrize("case", LABELS)
def test_maps_of_probabilities_become_a_table(bench: Bench, case: str) -> None:
    """One column for each class, in the order of the classifier, which maps do not keep."""
    labels, kind, classes = LABELS[case]
    source = bench.model(forest(labels, kind))
    out, facts = bench.run("import", model=source)
    columns = ", ".join(map(str, classes))
    table = f"output 'probability' is a table of scores, not maps (ZipMap): {columns}"
    assert facts.signature.mended == (table,)
    assert [t.name for t in facts.signature.outputs] == ["label", "probability"]
    assert facts.signature.outputs[1].dtype == "FP32"
    assert facts.signature.batched
    out, _ = bench.run("simplify", model=out)
    row = _row(50, 2)
    words, table = _session(out).run(None, row)
    plain_words, maps = _session(source).run(None, row)
    np.testing.assert_array_equal(words, plain_words)
    assert len(set(words)) == 2
    for column, name in enumerate(classes):
        np.testing.assert_array_equal(table[:, column], np.float32([m[name] for m in maps]))


def test_what_rounding_does_anyway_is_no_change(bench: Bench) -> None:
    """What cancels out leaves noise alone, which the last bits of the inputs move as much."""
    w = np.random.default_rng(0).standard_normal((64, 64)).astype(np.float32)
    weights: dict[str, Any] = {f"w{i}": w[i * 16 : (i + 1) * 16] for i in range(4)}
    weights.update(w=w, k=np.float32(100))
    sums = [node("Split", ["x"], [f"x{i}" for i in range(4)], axis=1)]
    sums += [node("MatMul", [f"x{i}", f"w{i}"], [f"p{i}"]) for i in range(4)]
    sums.append(node("Sum", [f"p{i}" for i in range(4)], ["s"]))
    whole = [*sums, node("MatMul", ["x", "w"], ["t"])]
    turned = [*sums, node("Sum", [f"p{i}" for i in (3, 1, 2, 0)], ["t"])]
    before, after, wrong = (
        bench.model(make(nodes, {"x": [3, 64]}, {"y": [3, 64]}, weights)) / "model.onnx"
        for nodes in (
            [*whole, node("Sub", ["t", "s"], ["y"])],
            [*turned, node("Sub", ["t", "s"], ["y"])],
            [*turned, node("Sub", ["t", "s"], ["d"]), node("Mul", ["d", "k"], ["y"])],
        )
    )
    x = _row(3, 64)
    first, second = (_session(path.parent).run(None, x)[0] for path in (before, after))
    assert not np.allclose(first, second, rtol=1e-3, atol=1e-3 * np.abs(first).max())
    assert why_not_same(before, after) == ""
    assert why_not_same(before, wrong) == "output 'y' differs"
