#!/bin/sh
# OpenVINO: the name of an output of a compiled model, where the net ends in an Identity or an If.
# Guess: `get_any_name()` is the name that the file gives the output, as it is before compiling.
# Really: compiling removes the Identity, or puts the taken branch in place of the If. The port then
# has both names, and `get_any_name()` is the first by alphabet, which may be that of a tensor
# inside. `names` holds the declared one, and asking by it works.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    onnx==1.23.2 openvino==2026.4.1 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys
import numpy as np, onnx, openvino as ov
from onnx import TensorProto, helper, numpy_helper


def tensor(name):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, [2])


def names(what, nodes, stored=()):
    graph = helper.make_graph(nodes, "g", [tensor("x")], [tensor("y")], stored)
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, "model.onnx")
    core = ov.Core()
    read = core.read_model("model.onnx")
    (before,) = (port.get_any_name() for port in read.outputs)
    compiled = core.compile_model(read, "CPU")
    (port,) = compiled.outputs
    answer = compiled(np.array([1, -2], np.float32))["y"]
    print(f"{what}: read '{before}', compiled '{port.get_any_name()}' of {sorted(port.names)}; "
          f"by 'y' {answer}")
    return before, port.get_any_name(), sorted(port.names), answer.tolist()


def branch(operator, name):
    return helper.make_graph([helper.make_node(operator, ["x"], [name])], name, [], [tensor(name)])


print("openvino", ov.__version__)
identity, late = (
    names("Identity", [helper.make_node("Abs", ["x"], [inside]),
                       helper.make_node("Identity", [inside], ["y"])])
    for inside in ("hidden", "z")
)
choice = names(
    "If", [helper.make_node("If", ["c"], ["y"], then_branch=branch("Abs", "hidden"),
                            else_branch=branch("Neg", "other"))],
    [numpy_helper.from_array(np.array(True), "c")],
)
right = late == ("y", "y", ["y", "z"], [1, 2])
sys.exit(not (right and identity == choice == ("y", "hidden", ["hidden", "y"], [1, 2])))
PY
