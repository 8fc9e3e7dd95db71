#!/bin/sh
# ONNX Runtime on a CPU: a convolutional net from which 10 % of the channels are removed, as
# structured pruning does it (here inverted bottlenecks with 144 channels inside, then 130).
# Guess: with fewer multiplications it takes less time, or as long as before.
# Really: it takes about twice as long. Convolutions run in a layout of blocks of channels (NCHWc)
# only where the number of channels suits it; the others run in slower kernels, with a reordering
# of the tensor before and after. With 128 channels, which do, it is faster than the dense net.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    onnx==1.23.2 onnxruntime==1.32.0 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys, time
from collections import Counter
import numpy as np, onnx, onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

THIN, SIZE, BLOCKS = 24, 40, 6


def model(wide):
    """Inverted bottlenecks: 1x1 to `wide` channels, 3x3 depthwise, 1x1 back, plus a skip."""
    random, nodes, weights, x = np.random.default_rng(0), [], [], "x"

    def conv(name, given, out, per_group, kernel, groups):
        shape = (out, per_group, kernel, kernel)
        values = random.normal(size=shape).astype(np.float32) / per_group
        weights.append(numpy_helper.from_array(values, f"{name}.w"))
        nodes.append(helper.make_node(
            "Conv", [given, f"{name}.w"], [name], pads=[kernel // 2] * 4, group=groups))
        return name

    for block in range(BLOCKS):
        y = conv(f"up{block}", x, wide, THIN, 1, 1)
        nodes.append(helper.make_node("Relu", [y], [f"a{block}"]))
        y = conv(f"deep{block}", f"a{block}", wide, 1, 3, wide)
        nodes.append(helper.make_node("Relu", [y], [f"b{block}"]))
        y = conv(f"down{block}", f"b{block}", THIN, wide, 1, 1)
        nodes.append(helper.make_node("Add", [x, y], [f"y{block}"]))
        x = f"y{block}"
    shape = [1, THIN, SIZE, SIZE]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(x, TensorProto.FLOAT, shape)], weights)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    onnx.checker.check_model(made, full_check=True)
    return made


feed = {"x": np.random.default_rng(1).normal(size=(1, THIN, SIZE, SIZE)).astype(np.float32)}
sessions, blocked = {}, {}
for wide in (144, 130, 128):
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.optimized_model_filepath = f"{wide}.onnx"
    options.log_severity_level = 3
    sessions[wide] = ort.InferenceSession(model(wide).SerializeToString(), options)
    nodes = onnx.load(f"{wide}.onnx").graph.node
    blocked[wide] = Counter(n.domain.endswith("nchwc") for n in nodes if n.op_type.endswith("Conv"))
best = dict.fromkeys(sessions, float("inf"))
for _ in range(60):  # in turns; the least time of the processor, which others do not lengthen
    for wide, session in sessions.items():
        begun = time.process_time()
        session.run(None, feed)
        best[wide] = min(best[wide], time.process_time() - begun)
print("onnxruntime", ort.__version__)
for wide, seconds in best.items():
    print(f"{wide} channels: {1e3 * seconds:.2f} ms, {seconds / best[144]:.2f} of the dense net's;"
          f" {blocked[wide][True]} convolutions in blocks, {blocked[wide][False]} not")
if not blocked[144][True]:
    print("on this processor ONNX Runtime has no blocked layout")
    sys.exit(2)
sys.exit(not (best[130] > 1.1 * best[144] and best[128] < best[144] and blocked[130][False]))
PY
