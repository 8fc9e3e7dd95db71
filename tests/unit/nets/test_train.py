"""Training: it learns, it repeats itself, it survives a kill and a loss that is no number."""

from __future__ import annotations

import dataclasses
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from repo_builder.base.errors import DataError, ModelError, RepoBuilderError
from repo_builder.nets import checkpoint
from repo_builder.nets.distill import Distilled
from repo_builder.nets.losses import LOGITS, Own, Task
from repo_builder.nets.recipe import learning_rate
from repo_builder.nets.train import Epoch, Recipe, Rows, fit

torch = pytest.importorskip("torch")
tiny_net = pytest.importorskip("tiny_net")

RECIPE = Recipe(epochs=6, batch_size=16, learning_rate=0.02)


def weights(net: Any) -> bytes:
    return checkpoint.dump(checkpoint.state(net))


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("schedule", ["cosine", "constant", "step"])
def test_a_net_learns(optimizer: Any, schedule: Any) -> None:
    net = tiny_net.net()
    told: list[Epoch] = []
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer, schedule=schedule)
    trained = fit(net, tiny_net.rows(), recipe, progress=told.append)
    assert tuple(told) == trained.history
    assert [epoch.epoch for epoch in trained.history] == [1, 2, 3, 4, 5, 6]
    assert trained.history[-1].loss < trained.history[0].loss
    assert (trained.score or 0) > 0.75
    assert trained.score == max(epoch.score or 0 for epoch in trained.history)
    assert not net.training
    validation = tiny_net.rows().validation
    right = net(torch.from_numpy(validation["x"])).argmax(1).numpy() == validation["label"]
    assert right.mean() == trained.score


def test_the_same_seed_gives_the_same_bytes_and_leaves_torch_as_it_was() -> None:
    torch.manual_seed(1)
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    made = []
    for seed in (0, 0, 1):
        net = tiny_net.net(dropout=0.3)
        torch.manual_seed(1)
        fit(net, tiny_net.rows(), dataclasses.replace(RECIPE, seed=seed))
        made.append(weights(net))
    assert made[0] == made[1] != made[2]
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


def test_schedules_of_the_learning_rate() -> None:
    rates = {
        schedule: [
            learning_rate(Recipe(1, learning_rate=0.8, schedule=schedule), at)
            for at in (0.0, 0.25, 0.5, 0.75, 1.0)
        ]
        for schedule in ("cosine", "constant", "step")
    }
    assert rates["cosine"] == pytest.approx([0.8, 0.682843, 0.4, 0.117157, 0.0], abs=1e-6)
    assert rates["constant"] == [0.8] * 5
    assert rates["step"] == pytest.approx([0.8, 0.8, 0.08, 0.008, 0.008])


def test_a_step_of_sgd_is_worked_out_by_hand() -> None:
    """One batch, one step: w - rate * (1 + 0.9) * (gradient + decay * w), Nesterov's first."""
    net = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(2.0)
    rows = Rows(("x",), {"x": np.ones((2, 1), np.float32), "label": np.zeros((2, 1), np.float32)})
    recipe = Recipe(1, 2, "sgd", 0.1, "constant", weight_decay=0.5, loss="mse")
    trained = fit(net, rows, recipe)
    # The loss is w^2, its gradient 2 w.
    assert float(net.weight.detach()) == pytest.approx(2 - 0.1 * 1.9 * (2 * 2 + 0.5 * 2))
    assert trained.history[0].loss == 4.0
    assert trained.score is None


def test_a_last_batch_of_one_row_does_no_harm_to_batch_norm() -> None:
    rows = tiny_net.rows(train=33)
    assert len(fit(tiny_net.net(), rows, RECIPE).history) == 6


def test_it_stops_early_and_keeps_the_best() -> None:
    """The score falls from the second epoch on, as the loss of training asks for it."""
    net = torch.nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        net.weight.fill_(0.0)
    x = np.ones((4, 1), np.float32)
    rows = Rows(("x",), {"x": x, "label": 9 * x}, {"x": x, "label": 0.3 * x})
    recipe = Recipe(50, 4, "sgd", 0.01, "constant", early_stop=3, loss="mse")
    trained = fit(net, rows, recipe)
    scores = [epoch.score or 0.0 for epoch in trained.history]
    assert trained.best_epoch == int(np.argmin(scores)) + 1
    assert len(trained.history) == trained.best_epoch + 3
    assert trained.stopped == "no better score for 3 epochs"
    assert trained.score == pytest.approx((float(net.weight.detach()) - 0.3) ** 2, rel=1e-5)


def breaks_after(epochs: int) -> Own:
    """A loss that is no number from some call on; 6 batches are an epoch."""
    calls = iter(range(10_000))

    def loss(outputs: Any, arrays: Any) -> Any:
        value = torch.nn.functional.cross_entropy(outputs["y"], arrays["label"])
        return value * float("nan") if next(calls) > 6 * epochs else value

    return Own(loss, ("y",))


def test_a_loss_that_is_no_number_keeps_the_last_good_weights() -> None:
    rows = dataclasses.replace(tiny_net.rows(), validation={})
    net, other = tiny_net.net(), tiny_net.net()
    trained = fit(net, rows, RECIPE, objective=breaks_after(3))
    assert trained.best_epoch == len(trained.history) == 3
    assert trained.stopped == "the loss is nan in epoch 4, batch 1"
    assert trained.diverged
    good: list[bytes] = []
    fit(other, rows, RECIPE, progress=lambda _: good.append(weights(other)))
    assert weights(net) == good[2]
    assert all(bool(tensor.isfinite().all()) for tensor in net.state_dict().values())


def test_a_loss_that_is_no_number_at_once_is_an_error() -> None:
    with pytest.raises(ModelError, match=r"the loss is nan in epoch 1, batch 1; lower the learn"):
        fit(tiny_net.net(), tiny_net.rows(), RECIPE, objective=breaks_after(0))


def distilled() -> tuple[Any, Rows, Distilled]:
    """A student that learns logits and features, on rows of which some have no label."""
    rows = tiny_net.rows()
    random = np.random.default_rng(5)
    train = {
        **rows.train,
        LOGITS: 4 * np.eye(3, dtype=np.float32)[rows.train["label"]],
        "deep": random.standard_normal((96, 12)).astype(np.float32),
        "label": np.where(np.arange(96) % 3 == 0, -1, rows.train["label"]),
    }
    goal = Distilled(Task("cross_entropy"), features={"2": "deep"})
    return tiny_net.net(dropout=0.2), dataclasses.replace(rows, train=train), goal


CHILD = """
import dataclasses, os, signal, sys
sys.path.insert(0, sys.argv[1])
import test_train
from repo_builder.nets.train import fit
from pathlib import Path

net, rows, goal = test_train.distilled()
recipe = dataclasses.replace(test_train.RECIPE, optimizer=sys.argv[3])

def die(epoch):
    if epoch.epoch == 3:
        os.kill(os.getpid(), signal.SIGKILL)

fit(net, rows, recipe, objective=goal, checkpoint=Path(sys.argv[2]), progress=die)
"""


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_killed_run_goes_on_and_ends_with_the_same_bytes(tmp_path: Path, optimizer: Any) -> None:
    file = tmp_path / "training.safetensors"
    arguments = [sys.executable, "-c", CHILD, str(Path(__file__).parent), str(file), optimizer]
    child = subprocess.run(arguments, env=os.environ, capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    recipe = dataclasses.replace(RECIPE, optimizer=optimizer)
    whole, rows, goal = distilled()
    expected = fit(whole, rows, recipe, objective=goal)
    net, _, _ = distilled()
    told: list[int] = []
    resumed = fit(
        net,
        rows,
        recipe,
        objective=goal,
        checkpoint=file,
        progress=lambda epoch: told.append(epoch.epoch),
    )
    assert told == [4, 5, 6]
    assert resumed == expected
    assert weights(net) == weights(whole)
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
    again, _, _ = distilled()
    assert fit(again, rows, recipe, objective=goal, checkpoint=file) == expected
    assert weights(again) == weights(whole)


@pytest.mark.parametrize("damage", ["cut", "empty", "other seed", "other rows"])
def test_a_checkpoint_that_is_damaged_or_of_another_run_is_passed_over(
    tmp_path: Path, damage: str
) -> None:
    file, rows = tmp_path / "training.safetensors", tiny_net.rows()
    recipe = dataclasses.replace(RECIPE, seed=1) if damage == "other seed" else RECIPE
    if damage == "other rows":
        rows = dataclasses.replace(rows, train=tiny_net.arrays(96, 2))
    fit(tiny_net.net(), rows, recipe, checkpoint=file)
    if damage in ("cut", "empty"):
        file.write_bytes(file.read_bytes()[: 200 if damage == "cut" else 0])
    net, fresh = tiny_net.net(), tiny_net.net()
    told: list[int] = []
    fit(net, tiny_net.rows(), RECIPE, checkpoint=file, progress=lambda e: told.append(e.epoch))
    fit(fresh, tiny_net.rows(), RECIPE)
    assert told == [1, 2, 3, 4, 5, 6]
    assert weights(net) == weights(fresh)


def test_weights_that_are_shared_are_kept_under_each_name(tmp_path: Path) -> None:
    net = tiny_net.net()
    net.again = net[0]
    file = tmp_path / "weights.safetensors"
    checkpoint.write(file, checkpoint.state(net), {})
    tensors, about = checkpoint.read(file)
    assert about == {}
    assert torch.equal(tensors["0.weight"], tensors["again.weight"])
    other = tiny_net.net()
    other.again = other[0]
    other.load_state_dict(tensors)


def test_many_outputs_are_read_by_number() -> None:
    class Two(torch.nn.Module):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.body = tiny_net.net()

        def forward(self, x: Any) -> Any:
            return {"doubled": 2 * x, "logits": self.body(x)}

    trained = fit(Two(), tiny_net.rows(), RECIPE, objective=Task("cross_entropy", output=1))
    assert (trained.score or 0) > 0.75


def without(rows: Rows, name: str) -> Rows:
    return dataclasses.replace(rows, train={k: v for k, v in rows.train.items() if k != name})


ROWS = tiny_net.rows()


@pytest.mark.parametrize(
    ("rows", "recipe", "words"),
    [
        (without(ROWS, "x"), RECIPE, "the training data have no array 'x'"),
        (
            dataclasses.replace(ROWS, validation={"x": ROWS.validation["x"]}),
            RECIPE,
            "the validation data have no array 'label'",
        ),
        (without(ROWS, "label"), RECIPE, "the training data have no array 'label'"),
        (
            dataclasses.replace(ROWS, train={**ROWS.train, "label": ROWS.train["label"][:9]}),
            RECIPE,
            "equally many rows, at least one: 'x' 96, 'label' 9",
        ),
        (
            dataclasses.replace(ROWS, train={**ROWS.train, "x": ROWS.train["x"][:, :3]}),
            RECIPE,
            "the net does not take 'x' float32 [2, 3]: ",
        ),
        (
            dataclasses.replace(ROWS, validation={}),
            dataclasses.replace(RECIPE, early_stop=2),
            "early stop needs validation rows",
        ),
        (
            dataclasses.replace(ROWS, validation={**ROWS.validation, "label": np.full(60, -1)}),
            RECIPE,
            "the validation rows have no labels",
        ),
    ],
)
def test_what_does_not_fit_is_refused(rows: Rows, recipe: Recipe, words: str) -> None:
    with pytest.raises(RepoBuilderError) as caught:
        fit(tiny_net.net(), rows, recipe)
    assert words in str(caught.value)
    assert isinstance(caught.value, (DataError, ModelError))


def test_a_feature_of_a_module_that_is_not_there_is_refused() -> None:
    net, rows, _ = distilled()
    goal = Distilled(Task("cross_entropy"), features={"9": "deep"})
    with pytest.raises(ModelError, match="the net has no module '9'; it has: 0, 1, 2, 3, 4"):
        fit(net, rows, RECIPE, objective=goal)


def test_a_net_without_parameters_is_refused() -> None:
    net = tiny_net.net().requires_grad_(False)
    with pytest.raises(ModelError, match="nothing to train"):
        fit(net, tiny_net.rows(), RECIPE)
