"""From a teacher to a small int8 student, stage by stage: what each wins and costs.

    python benchmarks/student.py [--seeds 6]

Data and nets are those of `model_specs/digits-1d/`. Points are those beside the teacher of the same
seed, with the half width of their 95 % interval (Student's t). Bytes are those of the weights: four
each in floating point, one in int8. The last stage runs in ONNX Runtime, as a build would have it.
About 5 minutes of CPU time.
"""

from __future__ import annotations

import argparse
import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from distillation import (
    RECIPE,
    TEACHER,
    accuracy,
    answers,
    digits,
    interval,
    make,
    parameters,
    trained,
)

sys.path.insert(0, str(Path(__file__).parents[1] / "model_specs" / "digits-1d"))
from data import UNLABELLED, without_labels

from repo_builder import steps
from repo_builder.nets.distill import Distilled
from repo_builder.nets.losses import LOGITS, Objective, Ramp, Task
from repo_builder.nets.train import Rows, fit
from repo_builder.steps import _runtimes

WIDTH, EPOCHS = 16, 40
STAGES = ("teacher", "student", "and distilled", "and with rows without labels", "and in int8")


def student(rows: Any, seed: int, objective: Objective | None) -> Any:
    """A small net, trained on these arrays."""
    torch.manual_seed(seed)
    made = make(WIDTH)
    recipe = dataclasses.replace(RECIPE, seed=seed, epochs=EPOCHS)
    fit(made, Rows(("x",), rows), recipe, objective=objective)
    return made


def in_int8(net: Any, train: Any, test: Any) -> float:
    """The accuracy of a net as a build would quantize it for `cpu`."""
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(scratch, name) for name in ("source", "fp32", "int8")]
        for folder in folders:
            folder.mkdir()
        source, fp32, int8 = folders
        torch.onnx.export(
            net.eval(),
            (torch.zeros(2, 1, 40),),
            source / "model.onnx",
            input_names=["x"],
            output_names=["logits"],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        np.savez(source / "calibration.npz", x=train["x"][:200])
        simplify, quantize = steps.load("simplify"), steps.load("quantize")
        simplify.run(simplify.Inputs(model=source), simplify.Params(), fp32)
        inputs = quantize.Inputs(model=fp32, calibration=source)
        quantize.run(inputs, quantize.Params(scheme="u8s8", samples=200), int8)
        (found,) = _runtimes.load(int8, "onnxruntime").run({"x": test["x"]}).values()
    return float((found.argmax(axis=1) == test["label"]).mean())


def scores(seed: int, train: Any, more: Any, test: Any) -> list[float]:
    """The accuracy of each stage."""
    teacher = trained(TEACHER, seed, Rows(("x",), train), None)
    plain = student(train, seed, None)
    distilled = Distilled(Task("cross_entropy"), Ramp.constant(4.0))
    taught, best = (
        student({**rows, LOGITS: answers(teacher, rows["x"])}, seed, distilled)
        for rows in (train, more)
    )
    floats = [accuracy(net, test) for net in (teacher, plain, taught, best)]
    return [*floats, in_int8(best, train, test)]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=6)
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    begun = time.process_time()
    train, test = digits(4_000, 0), digits(10_000, 1)
    unlabelled = without_labels(UNLABELLED, 7)
    more = {name: np.concatenate([array, unlabelled[name]]) for name, array in train.items()}
    found = []
    for seed in seeds:
        found.append(scores(seed, train, more, test))
        print(f"seed {seed}: {', '.join(f'{score:.4f}' for score in found[-1])}", flush=True)
    large, small = parameters(make(TEACHER)), parameters(make(WIDTH))
    sizes = (large * 4, *[small * 4] * 3, small)
    print("| stage | parameters | bytes of weights | accuracy | points beside the teacher |")
    print("|---|---|---|---|---|")
    for number, (stage, size) in enumerate(zip(STAGES, sizes, strict=True)):
        column = [row[number] for row in found]
        beside = interval([row[number] - row[0] for row in found]) if number else ""
        count = small if number else large
        mean = statistics.mean(column)
        print(f"| {stage} | {count:,} | {size:,} | {mean:.4f} | {beside} |")
    print(f"{large / small:.1f}x fewer parameters, {sizes[0] / sizes[-1]:.0f}x fewer bytes")
    print(f"{time.process_time() - begun:.0f} s of CPU time, {len(seeds)} seeds")


if __name__ == "__main__":
    main()
