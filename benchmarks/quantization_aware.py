"""Weights of few bits: rounded after training, against trained to be rounded.

    python benchmarks/quantization_aware.py [--seeds 6]

The data are those of `distillation.py`. The net is three linear layers, as those are what gets 4
bits in ONNX Runtime and OpenVINO: a scale and a zero point for each 32 inputs. A net in fp32 is
trained for five epochs more, as it is and then rounded, or rounded all the while. Shown is the mean
of paired differences to the former in fp32, with the half width of its 95 % interval.
"""

from __future__ import annotations

import argparse
import copy
import dataclasses
import statistics
from typing import Any

import torch
from distillation import T95, TEST, TRAIN, accuracy, digits, interval

from repo_builder.nets import fake_quant
from repo_builder.nets.fake_quant import Grid
from repo_builder.nets.train import Recipe, Rows, fit

WIDTH = 64
FIRST = Recipe(epochs=20, batch_size=100, learning_rate=5e-3, weight_decay=1e-3)
MORE = dataclasses.replace(FIRST, epochs=5, learning_rate=1e-3)


def net(seed: int) -> Any:
    """Three linear layers with batch norm."""
    torch.manual_seed(seed)
    layers: list[Any] = [torch.nn.Flatten()]
    for inputs in (40, WIDTH):
        layers += [torch.nn.Linear(inputs, WIDTH), torch.nn.BatchNorm1d(WIDTH), torch.nn.ReLU()]
    return torch.nn.Sequential(*layers, torch.nn.Linear(WIDTH, 10))


def trained(begun: Any, rows: Rows, seed: int, grid: Grid | None) -> Any:
    """A copy that was trained on, rounded all the while where there is a grid."""
    made = copy.deepcopy(begun)
    names = fake_quant.attach(made, grid) if grid else ()
    fit(made, rows, dataclasses.replace(MORE, seed=seed))
    fake_quant.bake(made, names)
    return made


def rounded(begun: Any, grid: Grid) -> Any:
    """A copy with rounded weights."""
    made = copy.deepcopy(begun)
    fake_quant.bake(made, fake_quant.attach(made, grid))
    return made


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, default=6, choices=sorted(T95))
    seeds = range(parser.parse_args().seeds)
    torch.set_num_threads(1)
    rows, test = Rows(("x",), digits(TRAIN, 0)), digits(TEST, 1)
    floats, scores = [], []
    for seed in seeds:
        begun = net(seed)
        fit(begun, rows, dataclasses.replace(FIRST, seed=seed))
        floats.append(trained(begun, rows, seed, None))
        scores.append((begun, accuracy(floats[-1], test)))
    print(f"fp32: {statistics.mean(score for _, score in scores):.4f}")
    print("| bits of weights | rounded after training | trained to be rounded |\n|---|---|---|")
    for bits in (8, 4, 3, 2):
        grid = Grid(bits, 32, symmetric=False)
        after = [
            accuracy(rounded(whole, grid), test) - score
            for whole, (_, score) in zip(floats, scores, strict=True)
        ]
        aware = [
            accuracy(trained(begun, rows, seed, grid), test) - score
            for seed, (begun, score) in zip(seeds, scores, strict=True)
        ]
        print(f"| {bits} | {interval(after)} | {interval(aware)} |", flush=True)


if __name__ == "__main__":
    main()
