#!/bin/sh
# torch-pruning: `GroupHessianImportance.accumulate_grad`, called after the backward pass of every
# row, as its docstring shows.
# Guess: it sums the squares of the gradients of all rows, and counts them.
# Really: it looks the parameter's name up in a mapping whose keys are the parameters themselves,
# so each row replaces the one before and the count stays 1: the criterion is that of the last row.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
"${PYTHON:-python3.11}" -m venv venv || exit 2
venv/bin/pip install -qq --disable-pip-version-check \
    torch==2.13.0 torch-pruning==1.6.1 numpy==1.26.4 || exit 2
venv/bin/python - <<'PY'
import sys
from importlib.metadata import version
import torch, torch_pruning
from torch import nn

torch.manual_seed(0)
net = nn.Sequential(nn.Conv2d(1, 4, 1, bias=False), nn.Conv2d(4, 1, 1, bias=False))
rows = torch.tensor([2.0, 3.0, 1.0]).reshape(3, 1, 1, 1, 1)
graph = torch_pruning.DependencyGraph().build_dependency(net, example_inputs=rows[0])
every = list(range(4))
group = graph.get_pruning_group(net[0], torch_pruning.prune_conv_out_channels, every)
with torch.no_grad():  # two channels that matter for the first rows, two for the last
    net[0].weight.copy_(torch.tensor([4.0, 3.0, 2.0, 1.0]).reshape(4, 1, 1, 1))
    net[1].weight.copy_(torch.ones(1, 4, 1, 1))


def loss(row, number):
    """The last row looks at the channels 2 and 3 alone, the others at 0 and 1."""
    seen = net[0](row) * net[1].weight.reshape(1, 4, 1, 1)
    return seen[:, 2:].sum() if number == 2 else seen[:, :2].sum()


scorer = torch_pruning.importance.GroupHessianImportance()
squares, count = torch.zeros_like(net[0].weight), 0
for number, row in enumerate(rows):
    net.zero_grad()
    loss(row, number).backward()
    scorer.accumulate_grad(net)
    squares, count = squares + net[0].weight.grad ** 2, count + 1
    last = net[0].weight.grad ** 2
kept = scorer._accu_grad[net[0].weight]
print("torch", torch.__version__, "torch-pruning", version("torch-pruning"))
print("sum of squares of", count, "rows:", squares.flatten().tolist())
print("accumulated:              ", kept.flatten().tolist())
print("of the last row:          ", last.flatten().tolist())
print("importance:", [round(value, 3) for value in scorer(group).tolist()])
sys.exit(not (torch.equal(kept, last) and not torch.equal(kept, squares)))
PY
