#!/bin/sh
# torch-pruning: a net with a channel shuffle (view, transpose, reshape, as in ShuffleNet), half of
# whose channels have weights of exactly 0 on both sides, so that they say nothing.
# Guess: the dependency graph follows the shuffle, or refuses it; removing the channels that say
# nothing leaves every answer as it was.
# Really: views count as element-wise. `step()` removes the right channels before the shuffle and,
# after it, columns that belonged to others. The net runs, with the right shapes, and answers
# something else; nothing is said of it. Without the shuffle the answers stay.
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


class Net(nn.Module):
    def __init__(self, shuffled):
        super().__init__()
        self.shuffled = shuffled
        self.before, self.after = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 5, 1)

    def forward(self, x):
        x = self.before(x).relu()
        if self.shuffled:
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.after(x).mean((2, 3))


torch.manual_seed(0)
x = torch.randn(2, 3, 6, 6)
off = {}
print("torch", torch.__version__, "torch-pruning", version("torch-pruning"))
for shuffled in (False, True):
    net = Net(shuffled).eval()
    silent = [1, 2, 4, 7]  # two in each half, so that the shuffle stays a whole one
    # Output i of a shuffle of two halves of 4 is channel i // 2 + 4 * (i % 2).
    columns = [i for i in range(8) if (i // 2 + 4 * (i % 2) if shuffled else i) in silent]
    with torch.no_grad():
        net.before.weight[silent], net.before.bias[silent] = 0, 0
        net.after.weight[:, columns] = 0
        wanted = net(x)
    pruner = torch_pruning.pruner.BasePruner(
        net, x, torch_pruning.importance.MagnitudeImportance(p=2, group_reduction="first"),
        pruning_ratio=0.5, ignored_layers=[net.after])
    pruner.step()
    got = net(x)
    assert got.shape == wanted.shape and net.before.out_channels == 4
    off[shuffled] = float(((got - wanted).norm() / wanted.norm()).detach())
    print("shuffled:" if shuffled else "plain:   ", f"relative error {off[shuffled]:.2g}")
sys.exit(not (off[False] < 1e-5 and off[True] > 0.05))
PY
