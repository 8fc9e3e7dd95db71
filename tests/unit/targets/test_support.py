"""What runtimes take: tables asked of models, and held against the runtimes that are here."""

from __future__ import annotations

import warnings
from typing import Any

import onnx
import pytest
from onnx import TensorProto, helper

from repo_builder import targets
from repo_builder.base.artifact import Contents, Operator
from repo_builder.introspect import declared
from repo_builder.targets import support
from repo_builder.targets.advise import Machine, Need, Workload, rank
from repo_builder.targets.advise.workload import Layer

RUNTIMES = ("onnxruntime", "openvino", "tensorrt", "qnn", "vela", "tflite-micro")


def model(*nodes: onnx.NodeProto, outputs: tuple[str, ...] = ("y",), **kinds: int) -> Any:
    """A model on a float input `x`, unless `kinds` says otherwise of an end."""
    ends = {"x": TensorProto.FLOAT, **dict.fromkeys(outputs, TensorProto.FLOAT), **kinds}
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", ends["x"], ["n", 4])],
        [helper.make_tensor_value_info(name, ends[name], None) for name in outputs],
        [helper.make_tensor("w", TensorProto.FLOAT, [4], [1, 2, 3, 4])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]
    return helper.make_model(graph, opset_imports=opsets)


def said(runtime: Any, made: Any, **more: Any) -> list[str]:
    found = support.of(runtime).problems(declared.contents_of(made), **more)
    return [str(problem) for problem in found]


FOREST = helper.make_node("TreeEnsembleRegressor", ["x"], ["y"], "trees", domain="ai.onnx.ml")


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_every_runtime_of_the_catalog_has_a_table(runtime: Any) -> None:
    assert support.of(runtime).sources
    assert said(runtime, model(helper.make_node("Relu", ["x"], ["y"]))) == []


@pytest.mark.parametrize("runtime", RUNTIMES[1:])
def test_a_forest_runs_in_onnx_runtime_alone(runtime: Any) -> None:
    (line,) = said(runtime, model(FOREST))
    assert "has no ai.onnx.ml.TreeEnsembleRegressor (1 node, first 'trees')" in line
    assert "cpu" not in line
    (elsewhere,) = said(runtime, model(FOREST), elsewhere=True)
    assert elsewhere.endswith("or build it for cpu, where ONNX Runtime runs it")
    assert said("onnxruntime", model(FOREST)) == []


def test_a_forest_is_no_yes_for_any_other_device() -> None:
    contents = declared.contents_of(model(FOREST))
    workload = Workload("forest", 1, (Layer("Conv", 10**6, 1, 1, 1),), 1)
    found = rank(workload, targets.load().values(), Need(), Machine(2, 4000), contents=contents)
    verdicts = {candidate.target.name: candidate for candidate in found}
    in_onnxruntime = {"cpu", "raspberry-pi-5"}
    assert {n for n, c in verdicts.items() if c.verdict == "yes"} == in_onnxruntime
    assert {c.verdict for n, c in verdicts.items() if n not in in_onnxruntime} == {"no"}
    assert "TreeEnsembleRegressor" in verdicts["jetson-orin-nx"].why[0]


def test_nodes_are_counted_and_the_first_is_named() -> None:
    made = model(
        helper.make_node("Det", ["x"], ["a"], "one"),
        helper.make_node("Det", ["a"], ["y"], "two"),
    )
    assert said("tensorrt", made) == [
        "TensorRT has no Det (2 nodes, first 'one'); replace it, or cut the model before it"
    ]


def test_many_kinds_of_operator_are_three_lines() -> None:
    kinds = ("Det", "Compress", "Unique", "BitShift", "MaxUnpool", "SequenceAt")
    contents = Contents(tuple(Operator("", kind, 1, kind.lower()) for kind in kinds), {})
    lines = [str(problem) for problem in support.of("tensorrt").problems(contents)]
    assert len(lines) == 3
    assert "nor 2 other kinds of operator" in lines[-1]


def test_what_is_computed_beforehand_does_not_count() -> None:
    made = model(
        helper.make_node("Det", ["w"], ["d"]),
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Unique", ["s"], ["u"]),
        helper.make_node("Mul", ["x", "d"], ["y"]),
    )
    assert [operator.type for operator in declared.contents_of(made).operators] == ["Mul"]


def test_bodies_and_functions_count_and_local_functions_do_not() -> None:
    body = helper.make_graph(
        [helper.make_node("Det", ["x"], ["b"], "inner")],
        "body",
        [],
        [helper.make_tensor_value_info("b", TensorProto.FLOAT, None)],
    )
    own = helper.make_function(
        "mine",
        "Own",
        ["a"],
        ["b"],
        [helper.make_node("Unique", ["a"], ["b"])],
        [helper.make_opsetid("", 17)],
    )
    made = model(
        helper.make_node("Cast", ["x"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["i"], then_branch=body, else_branch=body),
        helper.make_node("Own", ["i"], ["y"], domain="mine"),
    )
    made.functions.append(own)
    kinds = {operator.type: operator.count for operator in declared.contents_of(made).operators}
    assert kinds == {"Unique": 1, "Cast": 1, "If": 1, "Det": 2}


def test_unsorted_nodes_count() -> None:
    made = model(helper.make_node("Relu", ["a"], ["y"]), helper.make_node("Det", ["x"], ["a"]))
    assert {operator.type for operator in declared.contents_of(made).operators} == {"Relu", "Det"}


def test_types_are_asked_too() -> None:
    made = model(
        helper.make_node("Identity", ["x"], ["y"]), x=TensorProto.STRING, y=TensorProto.STRING
    )
    (line,) = said("tensorrt", made)
    assert line.startswith("TensorRT takes no STRING as input or output ('x')")
    assert said("onnxruntime", made) == []
    double = model(
        helper.make_node("Relu", ["x"], ["y"]), x=TensorProto.DOUBLE, y=TensorProto.DOUBLE
    )
    for runtime in ("tensorrt", "openvino"):
        (line,) = said(runtime, double)
        assert line.endswith("export the model in float32")
    assert said("onnxruntime", double) == []


def test_the_table_of_openvino_is_what_openvino_says() -> None:
    openvino = pytest.importorskip("openvino")
    core, listed = openvino.Core(), support.of("openvino").lacks
    wrong = []
    for name in sorted(
        {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    ):
        try:
            schema = onnx.defs.get_schema(name, 21, "")
        except onnx.defs.SchemaError:
            continue  # newer than what the frontend is asked for
        names = [f"i{i}" for i in range(max(1, schema.min_input))]
        made = [f"o{i}" for i in range(max(1, schema.min_output))]
        graph = helper.make_graph(
            [helper.make_node(name, names, made)],
            "g",
            [helper.make_tensor_value_info(i, TensorProto.FLOAT, [1, 2, 4, 4]) for i in names],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in made],
        )
        asked = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        lacking = False
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                core.read_model(asked.SerializeToString())
            except RuntimeError as failure:  # of other kinds: the node lacks its attributes
                lacking = "No conversion rule found" in str(failure)
        if lacking != (name in listed):
            wrong.append(name)
    assert wrong == []


def test_the_table_of_onnx_runtime_lists_what_has_no_kernel() -> None:
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    kernels = {
        kernel.op_name
        for kernel in state.get_all_opkernel_def()
        if kernel.provider == "CPUExecutionProvider"
    }
    assert kernels.isdisjoint(support.of("onnxruntime").lacks)


def test_what_the_writer_of_tflite_can_write_is_not_refused() -> None:
    from repo_builder.tflite import OPS

    assert set(OPS).isdisjoint(support.of("tflite-micro").lacks)
