"""Weights that are rounded while they are trained: on the grid of the step that stores them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from repo_builder.base.errors import ModelError
from repo_builder.nets.train import Recipe, fit
from repo_builder.steps import _grid

torch = pytest.importorskip("torch")
fake_quant = pytest.importorskip("repo_builder.nets.fake_quant")
tiny_net = pytest.importorskip("tiny_net")

BLOCKS = fake_quant.Grid(4, 32, symmetric=False)
RANDOM = np.random.default_rng(0)


def on(grid: Any, weights: Any) -> Any:
    """The nearest numbers by the arithmetic of the steps, in numpy."""
    high = (1 << (grid.bits - 1)) - 1
    fitted = _grid.fit(
        weights,
        low=-high if grid.symmetric else 0,
        high=high if grid.symmetric else (1 << grid.bits) - 1,
        symmetric=grid.symmetric,
        sharing="block" if grid.block else "channel",
    )
    return fitted.values(fitted.nearest(weights))


@pytest.mark.parametrize(
    "grid", [BLOCKS, fake_quant.Grid(4, 32, True), fake_quant.Grid(4, 0, True)]
)
@pytest.mark.parametrize("inputs", [1, 31, 32, 70])
def test_the_grid_is_that_of_the_steps_and_holds_what_lies_on_it(grid: Any, inputs: int) -> None:
    weights = RANDOM.standard_normal((5, inputs)).astype(np.float32)
    weights[0] = np.abs(weights[0])  # no number below 0
    weights[1] = 0
    found = fake_quant.rounded(torch.from_numpy(weights), grid).numpy()
    np.testing.assert_allclose(found, on(grid, weights), rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(on(grid, found), found, rtol=1e-5, atol=1e-7)
    block = found[2, : grid.block or inputs]
    assert len(np.unique(np.round(block / np.abs(block).max(), 4))) <= 1 << grid.bits


def test_gradients_pass_as_if_nothing_were_rounded() -> None:
    layer = torch.nn.Linear(3, 2, bias=False)
    exact = layer.weight.detach().clone()
    names = fake_quant.attach(torch.nn.Sequential(layer), fake_quant.Grid(2, 0, True))
    x = torch.tensor([[1.0, -2.0, 3.0]])
    answer = layer(x)
    assert not torch.equal(answer, x @ exact.T)
    answer.sum().backward()
    (original,) = layer.parameters()
    assert torch.equal(original.grad, x.expand(2, 3))
    assert names == ("0",)


def test_what_was_trained_lies_on_the_grid_and_is_plain_again() -> None:
    net, rows = tiny_net.net(width=40), tiny_net.rows()
    names = fake_quant.attach(net, BLOCKS)
    trained = fit(net, rows, Recipe(epochs=4, batch_size=16, learning_rate=0.02))
    with torch.no_grad():
        seen = net(torch.from_numpy(rows.validation["x"])).numpy()
    fake_quant.bake(net, names)
    assert names == ("0", "4")
    assert net.state_dict().keys() == tiny_net.net(width=40).state_dict().keys()
    for name in names:
        weights = net.get_submodule(name).weight.detach().numpy()
        np.testing.assert_allclose(on(BLOCKS, weights), weights, rtol=1e-5, atol=1e-7)
    with torch.no_grad():
        np.testing.assert_array_equal(net(torch.from_numpy(rows.validation["x"])).numpy(), seen)
    assert (trained.score or 0) > 0.75


def test_convolutions_are_rounded_where_they_get_4_bits_too() -> None:
    net = torch.nn.Sequential(torch.nn.Conv1d(3, 4, 5), torch.nn.Flatten(), torch.nn.Linear(8, 2))
    assert fake_quant.attach(net, BLOCKS) == ("2",)
    other = torch.nn.Sequential(torch.nn.Conv1d(3, 4, 5))
    assert fake_quant.attach(other, fake_quant.Grid(4, 0, True, convolutions=True)) == ("0",)
    with pytest.raises(ModelError, match="no linear layers with weights of their own"):
        fake_quant.attach(torch.nn.Sequential(torch.nn.Conv1d(3, 4, 5)), BLOCKS)


def test_weights_that_layers_share_stay_as_they_are() -> None:
    net = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 4))
    net[2].weight = net[0].weight
    assert fake_quant.attach(net, BLOCKS) == ("1",)
