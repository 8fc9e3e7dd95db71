"""What was pruned, as a file that makes the same net again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from repo_builder.base.errors import ModelError
from repo_builder.nets import channels
from repo_builder.nets.channels import Cut


def test_cuts_come_back_from_their_file(tmp_path: Path) -> None:
    cuts = {"b": {"in": Cut(4, (0,)), "out": Cut(6, (1, 3))}, "a": {"2": Cut(3, (2,))}}
    channels.write(cuts, tmp_path)
    assert channels.read(tmp_path) == cuts
    first = (tmp_path / channels.FILE).read_bytes()
    channels.write(dict(reversed(cuts.items())), tmp_path)
    assert (tmp_path / channels.FILE).read_bytes() == first
    assert channels.read(tmp_path / "nowhere") == {}


def test_cuts_that_follow_each_other_count_from_the_dense_net() -> None:
    first = {"a": {"out": Cut(6, (1, 3))}}  # leaves 0, 2, 4, 5
    then = {"a": {"out": Cut(4, (0, 2))}, "b": {"in": Cut(4, (0,))}}
    assert channels.joined(first, then) == {
        "a": {"out": Cut(6, (0, 1, 3, 4))},
        "b": {"in": Cut(4, (0,))},
    }


def test_every_kind_of_layer_keeps_the_values_that_stay() -> None:
    net = nn.ModuleDict(
        {
            "conv": nn.Conv2d(3, 4, 1),
            "back": nn.ConvTranspose2d(4, 3, 1),
            "depth": nn.Conv2d(4, 4, 3, groups=4),
            "norm": nn.BatchNorm2d(4),
            "inst": nn.InstanceNorm1d(4, affine=True),
            "layer": nn.LayerNorm(4),
            "prelu": nn.PReLU(4),
            "table": nn.Embedding(7, 4),
            "line": nn.Linear(4, 5),
        }
    )
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    out, read = {"out": Cut(4, (1,))}, {"in": Cut(4, (1,))}
    readers = ("back", "line")
    names = list(net)
    channels.apply(net, {name: read if name in readers else out for name in names})
    left = [0, 2, 3]
    for name, tensor in net.state_dict().items():
        expected = before[name]
        if name in ("back.bias", "line.bias") or expected.dim() == 0:
            pass
        elif name in ("line.weight", "table.weight"):
            expected = expected[:, left]
        else:
            expected = expected[left]
        assert torch.equal(tensor, expected), name
    assert (net["conv"].out_channels, net["back"].in_channels, net["depth"].groups) == (3, 3, 3)
    assert (net["norm"].num_features, net["inst"].num_features) == (3, 3)
    assert (net["layer"].normalized_shape, net["prelu"].num_parameters) == ((3,), 3)
    assert (net["table"].embedding_dim, net["line"].in_features) == (3, 3)


def test_cuts_of_another_net_are_refused(tmp_path: Path) -> None:
    net = nn.Sequential(nn.Linear(2, 4), nn.Conv2d(4, 4, 1, groups=2))
    for cuts, says in (
        ({"7": {"out": Cut(4, (0,))}}, "the layer '7', which is not there"),
        ({"7.w": {"0": Cut(4, (0,))}}, "the parameter '7.w', which is not there"),
        ({"0": {"out": Cut(8, (0,))}}, "has 8 channels of '0.weight', the net 4"),
        ({"1": {"out": Cut(4, (0,))}}, "cuts '1', a Conv2d, which cannot be"),
    ):
        with pytest.raises(ModelError) as refused:
            channels.apply(net, cuts)
        assert says in str(refused.value)
    (tmp_path / channels.FILE).write_text("[]", encoding="utf-8")
    with pytest.raises(ModelError, match=r"pruned\.json is damaged"):
        channels.read(tmp_path)


def test_forgotten_layers_begin_as_layers_of_their_size_do() -> None:
    net, cuts = nn.Sequential(nn.Linear(2, 400), nn.Linear(400, 4)), {"1": {"in": Cut(400, (0,))}}
    channels.apply(net, cuts)
    kept = net[0].weight.clone()
    channels.forget(net, cuts, seed=3)
    torch.manual_seed(3)
    assert torch.equal(net[1].weight, nn.Linear(399, 4).weight)
    assert torch.equal(net[0].weight, kept)
