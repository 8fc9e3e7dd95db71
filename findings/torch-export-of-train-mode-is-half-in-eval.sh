#!/bin/sh
# PyTorch: `torch.onnx.export(dynamo=True)` of a net that was left in train mode.
# Guess: the ONNX is for inference, as ONNX files are and as the older exporter made them (its
# `training` is EVAL unless told); or it is all as in training; or the export is refused.
# Really: half of it. BatchNorm is written as in eval mode, with the running mean, and Dropout stays
# alive: the file draws other values at every run, and nothing was said.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnx-ir==1.1.0 onnxruntime==1.32.0 numpy==1.26.4 || exit 2
venv/bin/python -W ignore - <<'PY'
import sys
import numpy as np, onnxruntime, torch

torch.manual_seed(0)
norm = torch.nn.BatchNorm1d(64)
norm.running_mean.fill_(5.0)  # far from that of the rows below, so that one sees which is used
net = torch.nn.Sequential(norm, torch.nn.Dropout(0.5))
rows = torch.ones(2, 64)


def exported(mode):
    net.train(mode)
    program = torch.onnx.export(net, (rows,), dynamo=True, verbose=False,
                                input_names=["x"], output_names=["y"])
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    return program, [session.run(["y"], {"x": rows.numpy()})[0] for _ in range(2)]


print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__)
net.eval()
with torch.no_grad():
    expected = net(rows).numpy()  # about (1 - 5) / 1 everywhere; in train mode it would be 0
found = {}
for mode in (False, True):
    program, (first, second) = exported(mode)
    operators = [node.op_type for node in program.model_proto.graph.node]
    alive = float(np.mean(first == 0))
    kept = first[first != 0]
    running = bool(np.allclose(np.abs(kept), np.abs(expected).max() * (2 if mode else 1), rtol=1e-3))
    found[mode] = alive > 0.2, not np.array_equal(first, second), running
    print(f"{'train' if mode else 'eval'} mode: {', '.join(operators)}; {alive:.0%} of y is 0;",
          "two runs differ;" if found[mode][1] else "two runs are equal;",
          "running mean used" if running else "batch mean used")
sys.exit(found != {False: (False, False, True), True: (True, True, True)})
PY
