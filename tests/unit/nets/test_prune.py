"""Structured pruning: which channels go, how many, and what is refused, by value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import prunable
import pytest
import torch
from torch import nn

from repo_builder.base.errors import ModelError
from repo_builder.nets import channels, costs, dependencies
from repo_builder.nets.prune import Request, prune
from repo_builder.spec.pruning import Criterion, Of


@pytest.fixture(autouse=True)
def _same_weights() -> None:
    torch.manual_seed(0)


def on(*shape: int) -> costs.Run:
    """Calls a net on some rows of noise, always the same."""
    rows = torch.randn(shape)
    return lambda net: net(rows)


def image() -> costs.Run:
    return on(2, 3, 6, 6)


def sized(norms: list[float]) -> Any:
    """Linear(2, n) -> ReLU -> Linear(n, 1): row i of the first has the L2 norm `norms[i]`."""
    net = nn.Sequential(nn.Linear(2, len(norms)), nn.ReLU(), nn.Linear(len(norms), 1))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[0.6 * norm, 0.8 * norm] for norm in norms]))
        net[2].weight.fill_(1.0)
    return net


def test_the_channels_with_the_smallest_norms_go() -> None:
    made = prune(sized([5, 1, 4, 2, 3, 6]), on(2, 2), Request(0.5, round_to=1))
    assert made.cuts["0"]["out"] == channels.Cut(6, (1, 3, 4))
    assert made.cuts["2"]["in"].removed == (1, 3, 4)
    assert [round(float(norm), 4) for norm in made.net[0].weight.detach().norm(dim=1)] == [5, 4, 6]
    assert made.left == {"2": "its channels are the net's answer"}


def test_what_reads_a_channel_counts_as_what_makes_it() -> None:
    net = sized([1, 2, 3, 4])
    with torch.no_grad():  # squares of both sides: 1 + 25, 4 + 16, 9 + 1, 16 + 1
        net[2].weight.copy_(torch.tensor([[5.0, 4.0, 1.0, 1.0]]))
    made = prune(net, on(2, 2), Request(0.5, round_to=1))
    assert made.cuts["0"]["out"].removed == (2, 3)


def test_taylor_takes_the_mean_gradient_and_hessian_the_mean_square() -> None:
    """y = sum_i w_i x_i with x = (+-1, 1): over both rows the first gradient is 0, its square 1."""
    net = nn.Sequential(nn.Linear(1, 3, bias=False), nn.Linear(3, 1, bias=False))
    with torch.no_grad():
        net[0].weight.copy_(torch.tensor([[1.0], [2.0], [3.0]]))
        net[1].weight.copy_(torch.tensor([[3.0, 1.0, 2.0]]))

    def losses(given: Any) -> Iterator[Any]:
        for x in (-1.0, 3.0):
            yield given(torch.tensor([[x]])).sum()

    # dL/da_i = b_i x and dL/db_i = a_i x, so |w dL/dw| is a_i b_i |mean x| of either layer, and
    # w^2 (dL/dw)^2 is (a_i b_i)^2 mean x^2; torch-pruning divides by the mean of the channels.
    products = torch.tensor([3.0, 2.0, 6.0])
    expected: dict[Criterion, Any] = {
        "taylor": products / products.mean(),
        "hessian": products**2 / (products**2).mean(),
    }
    for criterion, wanted in expected.items():
        (group,), _ = dependencies.find(net, on(1, 1), (), criterion, losses)
        assert group.importance == pytest.approx(wanted.tolist())


def test_multiplications_are_those_counted_by_hand() -> None:
    net = prunable.Skip(width=4, classes=5)
    counted = costs.count(net, on(1, 3, 6, 6))
    by_hand = 36 * (3 * 4 * 9 + 4 * 8 + 8 * 9 + 8 * 4) + 4 * 5
    assert counted.macs == by_hand
    assert counted.channels == 4 + 8 + 8 + 4 + 5
    weights = 3 * 4 * 9 + (4 * 8 + 8) + (8 * 9 + 8) + (8 * 4 + 4) + (4 * 5 + 5)
    assert counted.parameters == weights + 2 * (4 + 8 + 8)


def test_layers_keep_a_multiple_and_at_least_one() -> None:
    made = prune(prunable.Skip(32), image(), Request(0.3, round_to=16))
    net = made.net
    assert net.stem[0].out_channels == 16  # 22.4, rounded down
    assert net.wide[0].out_channels == net.deep[0].groups == 32  # 44.8
    assert net.thin.out_channels == net.head.in_features == 16
    most = prune(prunable.Skip(32), image(), Request(0.9, round_to=16)).net
    assert (most.stem[0].out_channels, most.wide[0].out_channels) == (16, 16)


def test_shares_of_multiplications_and_parameters_are_reached_with_the_fewest_channels() -> None:
    net, run = prunable.Skip(64), image()
    kinds: tuple[Of, ...] = ("macs", "parameters")
    for of in kinds:
        made = prune(net, run, Request(0.5, of, round_to=4))
        now, dense = costs.count(made.net, run), costs.count(net, run)
        assert made.achieved == pytest.approx(1 - getattr(now, of) / getattr(dense, of))
        assert made.achieved >= 0.5
        less = prune(net, run, Request(made.ratio - 0.01, round_to=4))
        assert getattr(costs.count(less.net, run), of) > 0.5 * getattr(dense, of)


def test_a_share_of_the_time_is_found_by_what_a_run_says() -> None:
    """A runtime whose time follows the width of one layer in steps of 8, as blocked kernels do."""
    net, asked = prunable.Skip(64), []

    def time_saved(candidate: Any) -> float:
        width = candidate.wide[0].out_channels
        asked.append(width)
        return 1 - float(-(-width // 8) * 8) / 128

    made = prune(net, image(), Request(0.25, "latency", round_to=1), time_saved=time_saved)
    assert made.net.wide[0].out_channels == 96
    assert made.achieved == 0.25
    assert len(asked) == len(set(asked)) <= 8
    with pytest.raises(ModelError, match="needs the target's runtime here"):
        prune(net, image(), Request(0.25, "latency"))


def test_a_schedule_counts_from_the_dense_net() -> None:
    dense, run = prunable.Skip(64), image()
    first = prune(dense, run, Request(0.25, round_to=1))
    second = prune(first.net, run, Request(0.5, round_to=1), dense=dense, before=first.cuts)
    assert second.net.stem[0].out_channels == 32
    assert second.cuts["stem.0"]["out"].of == 64
    assert set(first.cuts["stem.0"]["out"].removed) < set(second.cuts["stem.0"]["out"].removed)
    again = prunable.Skip(64)
    channels.apply(again, second.cuts)
    again.load_state_dict(second.net.state_dict())
    assert torch.equal(run(again.eval()), run(second.net))


def test_a_part_of_a_schedule_may_find_nothing_left_to_do() -> None:
    """Of 32 and 64 channels 30 % leaves 22 and 44, rounded to the 16 and 32 that 40 % leaves."""
    dense, run = prunable.Skip(32), image()
    asked: dict[Of, float] = {"channels": 0.3, "macs": 0.5}
    for of, share in asked.items():
        first = prune(dense, run, Request(share, of))
        more = 0.4 if of == "channels" else first.achieved
        again = prune(first.net, run, Request(more, of), dense=dense, before=first.cuts)
        assert again.cuts == first.cuts
        assert torch.equal(run(again.net), run(first.net))


def test_a_pruned_net_answers_as_the_dense_one_with_those_channels_silenced() -> None:
    net, run = prunable.Skip(32).eval(), image()
    made = prune(net, run, Request(0.5, round_to=8))
    quiet = channels.silenced(net, made.cuts)
    assert torch.allclose(run(made.net), run(quiet), atol=1e-5)
    assert net.stem[0].out_channels == 32


def test_answers_and_layers_that_are_named_keep_their_channels() -> None:
    net = prunable.TwoAnswers()
    made = prune(net, image(), Request(0.5))
    assert made.net.body.out_channels == 16
    assert (made.net.boxes.out_channels, made.net.scores.out_channels) == (8, 4)
    assert set(made.left) == {"boxes", "scores"}
    kept = prune(prunable.Skip(32), image(), Request(0.5, keep=["st*"]))
    assert kept.net.stem[0].out_channels == 32  # and what is added to it
    assert kept.net.thin.out_channels == 32
    assert kept.net.wide[0].out_channels == 32
    assert kept.left["thin"] == "`keep` names 'stem.1'"


@pytest.mark.parametrize(
    ("net", "run", "says"),
    [
        (prunable.Halves, image(), "torch-pruning cannot follow the channels of 'inner'"),
        (prunable.Shuffled, image(), "breaks the net at 'before' (its channels changed places"),
        (prunable.Attention, on(2, 5, 8), "breaks the net at 'v' (its channels changed"),
    ],
)
def test_a_net_that_pruning_would_break_is_refused_with_the_place(
    net: Any, run: costs.Run, says: str
) -> None:
    with pytest.raises(ModelError) as refused:
        prune(net(), run, Request(0.5))
    assert says in str(refused.value)
    assert "name the layers in `keep`" in str(refused.value)


def test_the_rest_is_pruned_once_the_place_is_kept() -> None:
    made = prune(prunable.Halves(), image(), Request(0.5, keep=["split", "inner"]))
    assert made.net.join.out_channels == 16
    made = prune(prunable.Shuffled(), image(), Request(0.5, keep=["before"]))
    assert made.net.after.out_channels == 16
    made = prune(prunable.Attention(), on(2, 5, 8), Request(0.5, keep=["q", "k", "v"]))
    assert made.net.place.shape == (1, 5, 16)
    assert made.net.norm.normalized_shape == (16,)
    assert made.cuts["place"]["2"].of == 32


def test_layers_that_deal_channels_to_groups_keep_them_and_say_so() -> None:
    made = prune(prunable.Grouped(), image(), Request(0.5))
    widths = {
        name: made.net.get_submodule(name).out_channels for name in ("a", "dealt", "c", "free")
    }
    assert widths == {"a": 32, "dealt": 32, "c": 32, "free": 16}
    assert made.left["c"] == "'norm' deals its channels to groups, or is of a kind not known here"
    assert set(made.left) == {"a", "dealt", "c", "head"}


def test_a_forward_that_fails_is_refused_with_the_place() -> None:
    with pytest.raises(ModelError, match=r"at 'v' \(forward fails: shape .* is invalid"):
        prune(prunable.Attention(), on(2, 5, 8), Request(0.3, round_to=1))


def test_what_cannot_be_is_refused_with_the_way_out() -> None:
    for request, says in (
        (Request(0.99, round_to=1), "leaves 'thin' empty, which has 32"),
        (Request(0.5, round_to=64), "removes none: layers have at most 64"),
        (Request(0.999, "macs", round_to=16), "is more than can go"),
        (Request(0.5, keep=["heap"]), "`keep` has 'heap', which is no layer of the net"),
        (Request(0.5, keep=["*"]), "there is nothing to prune: 'head': its channels are"),
        (Request(0.5, criterion="taylor"), "`criterion: taylor` needs training data"),
    ):
        with pytest.raises(ModelError) as refused:
            prune(prunable.Skip(32), image(), request)
        assert says in str(refused.value)


def test_frozen_weights_are_pruned_and_stay_frozen() -> None:
    net = prunable.Skip(32).requires_grad_(False)
    made = prune(net, image(), Request(0.5))
    assert made.net.stem[0].out_channels == 16
    assert not any(parameter.requires_grad for parameter in made.net.parameters())
