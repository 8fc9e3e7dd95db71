#!/bin/sh
# PyTorch: `torch.onnx.export(dynamo=True, opset_version=17)`, as a runtime may need it.
# Guess: a file of opset 17, or an error where it cannot be written.
# Really: it depends on the net. It is written in opset 18 and converted down; where the converter
# finds an operator that changed in 18 (here ReduceMean, whose axes became an input), the file stays
# at 18; no error is raised, only the log tells. A net of one Linear gets its 17.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnx-ir==1.1.0 onnxruntime==1.32.0 numpy==1.26.4 || exit 2
venv/bin/python -W ignore - <<'PY'
import sys
import onnx, torch


class Mean(torch.nn.Module):
    def forward(self, x):
        return x.mean(dim=1)


print("torch", torch.__version__, "onnx", onnx.__version__)
nets = {"Linear": torch.nn.Linear(4, 3), "Mean": Mean()}
written = {}
for name, net in nets.items():
    for asked in (13, 17, 20):
        program = torch.onnx.export(net.eval(), (torch.ones(2, 4),), dynamo=True, verbose=False,
                                    opset_version=asked)
        model = program.model_proto
        onnx.checker.check_model(model)
        written[name, asked] = model.opset_import[0].version
        operators = ", ".join(node.op_type for node in model.graph.node)
        print(f"{name} ({operators}), asked for {asked}: opset {written[name, asked]}")
sys.exit(written != {("Linear", 13): 13, ("Linear", 17): 17, ("Linear", 20): 20,
                     ("Mean", 13): 18, ("Mean", 17): 18, ("Mean", 20): 20})
PY
