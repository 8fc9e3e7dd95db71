"""What runtimes throw, taken apart: the sentence that says why stays, where in the source goes."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper

from repo_builder.introspect.runtime import reason_of


def _openvino(*nodes: object) -> str:
    openvino = pytest.importorskip("openvino")
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(RuntimeError) as caught:
        openvino.Core().read_model(model.SerializeToString())
    return reason_of(caught.value)


def test_an_operator_that_openvino_lacks_is_named() -> None:
    line = _openvino(helper.make_node("Det", ["x"], ["y"]))
    assert line == "No conversion rule found for operations: Det-21"


def test_a_node_that_openvino_refuses_is_named_with_its_reason() -> None:
    line = _openvino(helper.make_node("BitShift", ["x", "x"], ["y"]))
    assert "Required attribute 'direction' is not specified" in line
    assert "BitShift node 'y'" in line
    assert not any(part in line for part in ("Exception from", "Check '", ".cpp"))


def test_the_cause_inside_a_node_is_what_is_said() -> None:
    branches = [
        helper.make_graph(
            [helper.make_node(kind, ["x"], ["o"], **more)],
            kind,
            [],
            [helper.make_tensor_value_info("o", TensorProto.FLOAT, None)],
        )
        for kind, more in (("Squeeze", {}), ("Identity", {}))
    ]
    line = _openvino(
        helper.make_node("ReduceSum", ["x"], ["s"], keepdims=0),
        helper.make_node("Cast", ["s"], ["c"], to=TensorProto.BOOL),
        helper.make_node("If", ["c"], ["r"], then_branch=branches[0], else_branch=branches[1]),
        helper.make_node("Conv", ["r", "r"], ["y"], "conv"),
    )
    assert line == "Conv node 'conv'; The input data tensor's rank has to be known (static)"


def test_onnx_runtime_says_what_it_said() -> None:
    import onnxruntime

    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "x"], ["y"], "product")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["a", "b"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    with pytest.raises(Exception, match="product") as caught:
        session.run(None, {"x": np.ones((2, 3), np.float32)})
    line = reason_of(caught.value)
    assert line.startswith("MatMul node 'product': ")
    assert ".h:" not in line


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "ValueError"),
        ("plain", "plain"),
        ("Check 'a > b' failed at src/x.cpp:12:", "its check 'a > b' failed"),
        (
            "Exception from src/x.cpp:1:\nCheck 'false' failed at src/y.cpp:2:\nthe cause",
            "the cause",
        ),
        ("one\none\ntwo", "one; two"),
        ("x" * 400, "x" * 299 + "…"),
    ],
)
def test_lines_that_say_nothing_go(text: str, said: str) -> None:
    assert reason_of(ValueError(text)) == said
