"""Distillation: what a teacher is worth to students of a fifteenth of its size, and a fiftieth.

    python benchmarks/distillation.py [--seeds 6]

The data are digits in one dimension, made here in the way of MNIST-1D (Greydanus: Scaling Down Deep
Learning, 2020, arXiv:2011.14439): a curve of 12 points for each digit, which is padded, scaled,
sheared, moved and covered with noise that is smooth, then sampled at 40 points. The curves are not
those of MNIST-1D, so neither are the figures.

Every student is trained with the same seeds, so that what is shown beside plain training is the
mean of paired differences, with the half width of its 95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from repo_builder.nets.distill import Distilled
from repo_builder.nets.losses import LOGITS, Objective, Ramp, Task
from repo_builder.nets.train import Recipe, Rows, fit

CURVES = np.array(
    [
        [5, 6, 7, 7, 7, 7, 7, 7, 7, 7, 6, 5],
        [3, 4, 5, 6, 5, 5, 5, 5, 5, 5, 5, 5],
        [4, 6, 7, 7, 6, 5, 4, 3, 3, 4, 6, 7],
        [4, 6, 7, 7, 6, 4, 4, 6, 7, 7, 6, 4],
        [6, 5, 5, 4, 4, 3, 3, 7, 7, 6, 6, 6],
        [7, 5, 3, 3, 3, 5, 6, 7, 7, 6, 5, 4],
        [6, 4, 3, 3, 3, 3, 5, 6, 6, 6, 5, 4],
        [3, 5, 7, 7, 6, 6, 5, 5, 4, 4, 3, 3],
        [5, 6, 6, 5, 4, 4, 5, 6, 7, 6, 5, 4],
        [5, 6, 7, 7, 7, 6, 7, 7, 6, 6, 5, 5],
    ],
    float,
)
"""How far from the left the pen is, from the top of each digit to its foot."""

LENGTH, PADDED = 40, (36, 60)
SCALE, SHEAR, SMOOTH_NOISE, NOISE = 0.4, 0.75, 0.28, 0.02
TRAIN, TEST = 4_000, 10_000
TEACHER, STUDENTS = 66, (16, 8)
RECIPE = Recipe(epochs=30, batch_size=100, learning_rate=1e-2, weight_decay=1e-3)
T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26, 12: 2.20}
"""Seeds -> the 97.5 % point of Student's t with one degree of freedom less."""

Array = npt.NDArray[Any]


def digits(count: int, seed: int) -> dict[str, Array]:
    """So many digits: `x` [count, 1, 40] of mean 0 and spread 1, and `label` [count]."""
    random = np.random.default_rng(seed)
    label = random.integers(10, size=count)
    x = np.stack([_digit(CURVES[digit] - 5, random) for digit in label])
    x = (x - x.mean(axis=1, keepdims=True)) / x.std(axis=1, keepdims=True)
    return {"x": x[:, None].astype(np.float32), "label": label}


def _digit(curve: Array, random: np.random.Generator) -> Array:
    """One curve, disturbed: see the module's docstring."""
    length = int(random.integers(*PADDED, endpoint=True))
    row = np.zeros(length)
    row[: len(curve)] = curve * (1 + SCALE * random.uniform(-0.5, 0.5))
    row[: len(curve)] += SHEAR * random.uniform(-0.5, 0.5) * np.linspace(-2, 2, len(curve))
    row = np.roll(row, int(random.integers(length)))
    wide = np.exp(-0.5 * (np.arange(-8, 9) / 2) ** 2)
    smooth = np.convolve(random.standard_normal(length + 16), wide / wide.sum(), "valid")
    row += 4 * SMOOTH_NOISE * smooth + NOISE * random.standard_normal(length)
    return np.interp(np.linspace(0, length - 1, LENGTH), np.arange(length), row)


def net(width: int, seed: int) -> Any:
    """Three convolutions with batch norm, their mean over all places, and a linear layer."""
    torch.manual_seed(seed)
    layers: list[Any] = []
    for channels in (1, width, width):
        conv = torch.nn.Conv1d(channels, width, 5, stride=2, padding=2, bias=False)
        layers += [conv, torch.nn.BatchNorm1d(width), torch.nn.ReLU()]
    head = [torch.nn.AdaptiveAvgPool1d(1), torch.nn.Flatten(), torch.nn.Linear(width, 10)]
    return torch.nn.Sequential(*layers, *head)


def parameters(trained: Any) -> int:
    return sum(weight.numel() for weight in trained.parameters())


def answers(trained: Any, x: Array, module: int | None = None) -> Array:
    """What a net answers, or one of its modules."""
    part = trained if module is None else trained[: module + 1]
    with torch.no_grad():
        found: Array = part(torch.from_numpy(x)).numpy()
    return found


def accuracy(trained: Any, test: Mapping[str, Array]) -> float:
    return float((answers(trained, test["x"]).argmax(axis=1) == test["label"]).mean())


def trained(width: int, seed: int, rows: Rows, objective: Objective | None) -> Any:
    made = net(width, seed)
    fit(made, rows, dataclasses.replace(RECIPE, seed=seed), objective=objective)
    return made


def ways() -> dict[str, Objective | None]:
    """How students are trained."""
    task = Task("cross_entropy")
    middle = {"5": "features"}
    return {
        "plain": None,
        "KD, T=2": Distilled(task, Ramp.constant(2.0)),
        "KD, T=4": Distilled(task, Ramp.constant(4.0)),
        "KD, T from 8 to 2": Distilled(task, Ramp(8.0, 2.0)),
        "KD, T=4, and features": Distilled(task, Ramp.constant(4.0), features=middle),
    }


def interval(values: list[float]) -> str:
    """Mean and half width of the 95 % interval, in points."""
    half = T95[len(values)] * statistics.stdev(values) / math.sqrt(len(values))
    return f"{100 * statistics.mean(values):+.2f} ± {100 * half:.2f}"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=6, choices=sorted(T95))
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    train, test = digits(TRAIN, 0), digits(TEST, 1)
    begun = time.process_time()
    teachers = [trained(TEACHER, seed, Rows(("x",), train), None) for seed in seeds]
    scores = [accuracy(teacher, test) for teacher in teachers]
    print(f"teacher: {parameters(teachers[0])} parameters, accuracy {statistics.mean(scores):.4f}")
    print("| student | trained | accuracy | points more than plain |\n|---|---|---|---|")
    for width in STUDENTS:
        plain: list[float] = []
        for way, objective in ways().items():
            found = []
            for seed, teacher in zip(seeds, teachers, strict=True):
                said = {LOGITS: answers(teacher, train["x"])}
                if "features" in way:
                    said["features"] = answers(teacher, train["x"], 5)
                rows = Rows(("x",), {**train, **said})
                found.append(accuracy(trained(width, seed, rows, objective), test))
            plain = plain or found
            more = interval([a - b for a, b in zip(found, plain, strict=True)])
            size = f"{width} channels, {parameters(net(width, 0)):,} parameters"
            shown = "" if found is plain else more
            print(f"| {size} | {way} | {statistics.mean(found):.4f} | {shown} |", flush=True)
    print(f"{time.process_time() - begun:.0f} s of CPU time, {len(seeds)} seeds")


if __name__ == "__main__":
    main()
