"""Losses against values worked out in numpy, and what does not fit together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from repo_builder.base.errors import DataError, ModelError, RepoBuilderError
from repo_builder.nets.distill import Distilled, soft_loss
from repo_builder.nets.losses import LOGITS, Answers, Own, Ramp, Task
from repo_builder.spec.training import LossName

torch = pytest.importorskip("torch")

RANDOM = np.random.default_rng(3)
STUDENT = 3 * RANDOM.standard_normal((6, 4))
TEACHER = 5 * RANDOM.standard_normal((6, 4))
LABEL = np.array([0, 3, 1, 2, 2, 0])
HALF = np.array([0, -1, 1, -7, 2, -1])


def softmax(values: Any) -> Any:
    raised = np.exp(values - values.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


def divergence(temperature: float) -> Any:
    """Row by row: KL(softmax(teacher / T) || softmax(student / T)), from the definition."""
    p, q = softmax(TEACHER / temperature), softmax(STUDENT / temperature)
    return (p * (np.log(p) - np.log(q))).sum(axis=1)


def surprise(labels: Any) -> Any:
    """Row by row: minus the log of the probability of the label, 0 without one."""
    found = -np.log(softmax(STUDENT)[np.arange(6), labels % 4])
    return np.where(labels >= 0, found, 0)


def batch(**arrays: Any) -> tuple[Answers, dict[str, Any]]:
    tensors = {name: torch.from_numpy(np.array(array)) for name, array in arrays.items()}
    return Answers((torch.from_numpy(STUDENT),)), tensors


def value(objective: Any, arrays: dict[str, Any], at: float = 0.0) -> float:
    answers, tensors = batch(**arrays)
    along = objective.prepare(answers, arrays)
    return float(objective.loss(answers, tensors, at, along))


@pytest.mark.parametrize("temperature", [1.0, 2.0, 4.0, 10.0])
@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.9, 1.0])
@pytest.mark.parametrize("labels", [LABEL, HALF])
def test_distillation_is_the_formula(temperature: float, alpha: float, labels: Any) -> None:
    loss = Distilled(Task("cross_entropy"), Ramp.constant(temperature), Ramp.constant(alpha))
    rows = alpha * temperature**2 * divergence(temperature) + (1 - alpha) * surprise(labels)
    assert value(loss, {"label": labels, LOGITS: TEACHER}) == pytest.approx(rows.mean(), rel=1e-12)


def test_rows_without_labels_learn_from_the_teacher_only() -> None:
    nothing = np.full(6, -1)
    loss = Distilled(Task("cross_entropy"))
    expected = 0.9 * 16 * divergence(4.0).mean()
    assert value(loss, {"label": nothing, LOGITS: TEACHER}) == pytest.approx(expected, rel=1e-12)
    assert value(Task("cross_entropy"), {"label": nothing}) == 0.0
    known = surprise(HALF).sum() / 3
    assert value(Task("cross_entropy"), {"label": HALF}) == pytest.approx(known, rel=1e-12)


def test_gradients_of_the_soft_part_keep_their_size_as_the_temperature_rises() -> None:
    """T^2 is there for this: without it they would shrink to a hundredth from 4 to 40."""
    sizes = []
    for temperature in (4.0, 40.0):
        student = torch.from_numpy(STUDENT).requires_grad_()
        soft_loss(student, torch.from_numpy(TEACHER), temperature).backward()
        sizes.append(float(student.grad.norm()))
    assert 0.5 < sizes[1] / sizes[0] < 2


def test_temperature_and_alpha_may_change_on_the_way() -> None:
    ramp = Ramp(8.0, 2.0)
    assert [ramp(at) for at in (0.0, 0.5, 1.0)] == [8.0, 5.0, 2.0]
    wave = Ramp(0.0, 1.0, "cosine")
    assert [round(wave(at), 6) for at in (0.0, 0.25, 0.5, 1.0)] == [0.0, 0.146447, 0.5, 1.0]
    loss = Distilled(Task("cross_entropy"), ramp, Ramp(1.0, 0.5))
    rows = 0.75 * 25 * divergence(5.0) + 0.25 * surprise(LABEL)
    expected = pytest.approx(rows.mean(), rel=1e-12)
    assert value(loss, {"label": LABEL, LOGITS: TEACHER}, 0.5) == expected


def test_features_are_compared_through_a_map_of_the_axis_on_which_they_differ() -> None:
    """Of channels it is a 1x1 convolution; here against numpy's product."""
    ours, theirs = RANDOM.standard_normal((6, 3, 5)), RANDOM.standard_normal((6, 7, 5))
    task = Task("cross_entropy")
    plain = Distilled(task)
    loss = Distilled(task, features={"body.0": "relu"}, feature_weight=2.0)
    answers, tensors = batch(label=LABEL, relu=theirs, **{LOGITS: TEACHER})
    answers = Answers(answers.outputs, {"body.0": torch.from_numpy(ours)})
    arrays = {"label": LABEL, "relu": theirs, LOGITS: TEACHER}
    along = loss.prepare(answers, arrays).double()
    (adapter,) = along.values()
    weight, bias = (t.detach().numpy() for t in (adapter.weight, adapter.bias))
    mapped = np.einsum("ncl,kc->nkl", ours, weight) + bias[:, None]
    expected = value(plain, arrays) + 2 * ((mapped - theirs) ** 2).mean()
    assert float(loss.loss(answers, tensors, 0.0, along).detach()) == pytest.approx(
        expected, rel=1e-9
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "maps"), [((6, 9, 3), (6, 9, 7), 1), ((6, 4), (6, 4), 0)]
)
def test_a_map_is_made_where_features_differ(ours: Any, theirs: Any, maps: int) -> None:
    loss = Distilled(Task("cross_entropy"), features={"a": "b"})
    arrays = {"label": LABEL, "b": np.zeros(theirs, np.float32), LOGITS: TEACHER}
    answers = Answers((torch.from_numpy(STUDENT),), {"a": torch.zeros(ours)})
    assert len(loss.prepare(answers, arrays)) == maps


@pytest.mark.parametrize(
    ("name", "loss", "score"),
    [
        ("mse", ((STUDENT - TEACHER) ** 2).mean(), ((STUDENT - TEACHER) ** 2).mean()),
        ("l1", np.abs(STUDENT - TEACHER).mean(), np.abs(STUDENT - TEACHER).mean()),
    ],
)
def test_losses_of_regression(name: LossName, loss: float, score: float) -> None:
    task = Task(name, "y")
    assert value(task, {"y": TEACHER}) == pytest.approx(loss, rel=1e-12)
    total, count = task.score(*batch(y=TEACHER))
    assert total / count == pytest.approx(score, rel=1e-12)


def test_losses_of_classes() -> None:
    yes = (TEACHER > 0).astype(np.int64)
    sigmoid = 1 / (1 + np.exp(-STUDENT))
    expected = -(yes * np.log(sigmoid) + (1 - yes) * np.log(1 - sigmoid)).mean()
    assert value(Task("bce", "y"), {"y": yes}) == pytest.approx(expected, rel=1e-9)
    assert Task("bce", "y").score(*batch(y=yes)) == (((STUDENT > 0) == yes).sum(), 24)
    right = (STUDENT.argmax(axis=1) == HALF).sum()
    assert Task("cross_entropy").score(*batch(label=HALF)) == (right, 3)


def test_a_loss_of_ones_own() -> None:
    def worst(outputs: Any, arrays: Any) -> Any:
        return (outputs["logits"] - arrays["y"]).abs().max()

    own = Own(worst, ("logits",))
    assert value(own, {"y": TEACHER}) == pytest.approx(np.abs(STUDENT - TEACHER).max())
    with pytest.raises(ModelError, match=r"worst\(\) failed: KeyError: 'y'"):
        value(own, {"z": TEACHER})
    with pytest.raises(ModelError, match=r"must return one number"):
        value(Own(lambda _outputs, _arrays: 1.0, ("logits",)), {"y": TEACHER})


NINE = np.zeros((6, 9))


@pytest.mark.parametrize(
    ("objective", "arrays", "words"),
    [
        (Task("cross_entropy"), {"lable": LABEL}, "no array 'label'; did you mean 'lable'"),
        (Task("cross_entropy"), {"label": LABEL + 1}, "has class 4, the net knows 0 to 3"),
        (Task("cross_entropy"), {"label": TEACHER}, "needs whole numbers"),
        (Task("cross_entropy"), {"label": NINE.astype(int)}, "one class for every position"),
        (Task("mse"), {"label": NINE}, "the net answers [4] a row; make them equal"),
        (Task("mse", output=1), {"label": NINE}, "gives 1 outputs, none is number 1"),
        (
            Distilled(Task("cross_entropy")),
            {"label": LABEL, LOGITS: NINE},
            "the teacher answers [9] a row, the net [4]",
        ),
        (
            Distilled(Task("mse")),
            {"label": TEACHER, LOGITS: TEACHER},
            "softens classes, the loss is mse",
        ),
        (
            Distilled(Task("cross_entropy"), features={"a": "b"}),
            {"label": LABEL, LOGITS: TEACHER, "b": np.zeros((6, 3, 5))},
            "'a' gives [2, 2] a row, the teacher's 'b' [3, 5]",
        ),
    ],
)
def test_what_does_not_fit_is_refused(objective: Any, arrays: Any, words: str) -> None:
    answers = Answers((torch.from_numpy(STUDENT),), {"a": torch.zeros(6, 2, 2)})
    with pytest.raises(RepoBuilderError) as caught:
        objective.prepare(answers, arrays)
    assert words in str(caught.value)
    assert isinstance(caught.value, (DataError, ModelError))
