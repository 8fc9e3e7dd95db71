#!/bin/sh
# onnx: `ReferenceEvaluator`, asked for the truth about an LSTM over sequences of several lengths.
# Guess: the reference does what the text of the operator says, or raises that it does not.
# Really: it takes sequence_lens and computes on through the padding, and takes clip and does not
# clip. ONNX Runtime is right, and a comparison blames it.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

rng = np.random.default_rng(0)
x = rng.normal(size=(3, 1, 2)).astype(np.float32)
stored = [numpy_helper.from_array(rng.normal(0, 3, (1, 8, 2)).astype(np.float32), name)
          for name in ("w", "r")]


def answers(steps, length, **attributes):
    """The last hidden state of the first `length` steps, from the reference and ONNX Runtime."""
    node = helper.make_node("LSTM", ["x", "w", "r", "", "lengths"], ["", "y", ""], hidden_size=2,
                            **attributes)
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [len(steps), 1, 2]),
                      helper.make_tensor_value_info("lengths", TensorProto.INT32, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 1, 2])], stored,
    )
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opset, ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    feed = {"x": steps, "lengths": np.array([length], np.int32)}
    reference = ReferenceEvaluator(model).run(None, feed)[0].ravel()
    runtime = ort.InferenceSession(model.SerializeToString()).run(None, feed)[0].ravel()
    print(f"{len(steps)} steps, length {length} {attributes or ''}: "
          f"reference {reference}, ONNX Runtime {runtime}")
    return reference, runtime


print("onnx", onnx.__version__, "onnxruntime", ort.__version__)
cut, padded, whole, clipped = (answers(x[:1], 1), answers(x, 1), answers(x, 3),
                               answers(x, 3, clip=0.1))
same = np.allclose
right = same(*cut) and same(*whole) and same(cut[1], padded[1]) and not same(whole[1], clipped[1])
wrong = same(padded[0], whole[0]) and same(clipped[0], whole[0]) and not same(cut[0], whole[0])
sys.exit(not (right and wrong))
PY
