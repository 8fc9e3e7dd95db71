#!/bin/sh
# torch: a weight that was parametrized (weight norm, spectral norm, pruning, fake quantization) and
# whose parametrization was then removed, so that the module is as it was before.
# Guess: it is. Same names, same shapes, same answers.
# Really: the weight comes back behind the module's other parameters, so `parameters()` has another
# order. What goes by position is off without a word where shapes are equal: vector_to_parameters
# exchanges weights, an optimizer's state that is loaded exchanges momenta. Go by names.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check torch==2.13.0 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

torch.manual_seed(0)
net, x = nn.RNN(4, 4), torch.randn(5, 2, 4)


def answer():
    with torch.no_grad():
        return net(x)[0]


def order():
    return [name for name, _ in net.named_parameters()]


optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
net(x)[0].square().sum().backward()
optimizer.step()
before, expected = order(), answer()
vector = nn.utils.parameters_to_vector(net.parameters()).detach().clone()
momenta = dict(zip(before, (s["exp_avg"] for s in optimizer.state_dict()["state"].values())))

parametrizations.weight_norm(net, "weight_ih_l0")
parametrize.remove_parametrizations(net, "weight_ih_l0")
after = order()
unchanged = torch.allclose(answer(), expected, atol=1e-6)
nn.utils.vector_to_parameters(vector, net.parameters())
off = float((answer() - expected).abs().max())
resumed = torch.optim.Adam(net.parameters(), lr=0.01)
resumed.load_state_dict(optimizer.state_dict())
found = resumed.state[net.weight_ih_l0]["exp_avg"]
of = [name for name in before if momenta[name].shape == found.shape and momenta[name].equal(found)]

print("torch", torch.__version__)
print("before:", before)
print("after: ", after, "- the same answers:", unchanged)
print(f"its own vector put back: answers are off by {off:.2g}")
print("the momentum of weight_ih_l0 after loading is that of", of or "none of them in shape")
sys.exit(not (sorted(before) == sorted(after) and before != after and unchanged and off > 0.1))
PY
