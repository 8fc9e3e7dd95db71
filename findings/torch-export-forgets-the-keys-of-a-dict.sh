#!/bin/sh
# PyTorch: `torch.onnx.export(dynamo=True)` of a net that returns a dict, with the inputs given by
# name and no `output_names`.
# Guess: outputs are called by the keys of the dict, as inputs are by the parameters of forward.
# Really: by the operation that made each, as `view` and `mean`; the keys are lost. And with
# `output_names` the order decides alone: names that are the very keys, in another order, are put
# on each other's tensors.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    torch==2.13.0 onnx==1.23.2 onnxscript==0.7.2 onnx-ir==1.1.0 onnxruntime==1.32.0 numpy==1.26.4 || exit 2
venv/bin/python -W ignore - <<'PY'
import sys
import onnxruntime, torch


class Net(torch.nn.Module):
    def forward(self, image):
        return {"boxes": image.view(image.shape[0], -1), "scores": image.mean(dim=(1, 2))}


def names(**given):
    program = torch.onnx.export(Net().eval(), (), kwargs={"image": torch.ones(2, 3, 4)},
                                dynamo=True, verbose=False, **given)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString())
    print([i.name for i in session.get_inputs()], "->",
          {o.name: o.shape for o in session.get_outputs()}, given or "")
    return ([i.name for i in session.get_inputs()],
            {o.name: len(o.shape) for o in session.get_outputs()})


print("torch", torch.__version__, "onnxruntime", onnxruntime.__version__)
inputs, plain = names()
_, swapped = names(output_names=["scores", "boxes"])
sys.exit(not (inputs == ["image"] and plain == {"view": 2, "mean": 1}
              and swapped == {"scores": 2, "boxes": 1}))
PY
