"""Distillation: what a teacher is worth to students of a fifteenth of its size, and a fiftieth.

    python benchmarks/distillation.py [--seeds 6]

Data and nets are those of `model_specs/digits-1d/`: digits in one dimension.

Every student is trained with the same seeds, so that what is shown beside plain training is the
mean of paired differences, with the half width of its 95 % interval (Student's t).
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "model_specs" / "digits-1d"))
from data import digits
from nets import make

from repo_builder.nets.distill import Distilled
from repo_builder.nets.losses import LOGITS, Objective, Ramp, Task
from repo_builder.nets.train import Recipe, Rows, fit

TRAIN, TEST, UNLABELLED = 4_000, 10_000, 16_000
TEACHER, STUDENTS = 66, (16, 8)
RECIPE = Recipe(epochs=30, batch_size=100, learning_rate=1e-2, weight_decay=1e-3)
T95 = {2: 12.71, 3: 4.30, 4: 3.18, 5: 2.78, 6: 2.57, 8: 2.36, 10: 2.26, 12: 2.20}
"""Seeds -> the 97.5 % point of Student's t with one degree of freedom less."""

Array = npt.NDArray[Any]


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


def trained(width: int, seed: int, rows: Rows, objective: Objective | None, times: int = 1) -> Any:
    """A net after so many times the epochs of `RECIPE`."""
    torch.manual_seed(seed)
    made = make(width)
    recipe = dataclasses.replace(RECIPE, seed=seed, epochs=times * RECIPE.epochs)
    fit(made, rows, recipe, objective=objective)
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
        "plain, as many steps as the next": None,
        "KD, T=4, and rows without labels": Distilled(task, Ramp.constant(4.0)),
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
    train, test, extra = digits(TRAIN, 0), digits(TEST, 1), digits(UNLABELLED, 2)
    both = {
        "x": np.concatenate([train["x"], extra["x"]]),
        "label": np.concatenate([train["label"], np.full(UNLABELLED, -1)]),
    }
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
                given = both if "without" in way else train
                said = {LOGITS: answers(teacher, given["x"])}
                if "features" in way:
                    said["features"] = answers(teacher, given["x"], 5)
                rows = Rows(("x",), {**given, **said})
                times = len(both["x"]) // TRAIN if "as many steps" in way else 1
                found.append(accuracy(trained(width, seed, rows, objective, times), test))
            plain = plain or found
            more = interval([a - b for a, b in zip(found, plain, strict=True)])
            size = f"{width} channels, {parameters(make(width)):,} parameters"
            shown = "" if found is plain else more
            print(f"| {size} | {way} | {statistics.mean(found):.4f} | {shown} |", flush=True)
    print(f"{time.process_time() - begun:.0f} s of CPU time, {len(seeds)} seeds")


if __name__ == "__main__":
    main()
