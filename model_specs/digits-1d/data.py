"""Writes the data of this folder's specs: digits in one dimension, made by the program itself.

    python data.py

In the way of MNIST-1D (Greydanus: Scaling Down Deep Learning, 2020, arXiv:2011.14439): a curve of
12 points for each digit, which is padded, scaled, sheared, moved and covered with noise that is
smooth, then sampled at 40 points. The curves are not those of MNIST-1D, so neither are the figures.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

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
ROWS = {"train": 4_000, "validation": 1_000, "calibration": 200, "evaluation": 4_000}
UNLABELLED = 12_000
"""Rows that only a teacher says something of."""

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


def without_labels(count: int, seed: int) -> dict[str, Array]:
    """So many digits whose `label` says that there is none: -1."""
    made = digits(count, seed)
    return {**made, "label": np.full(count, -1)}


def main() -> None:
    """Five files beside this one; only `more.npz` has rows of another, those of `train.npz`."""
    made = {name: digits(count, seed) for seed, (name, count) in enumerate(ROWS.items())}
    del made["calibration"]["label"]
    unlabelled = without_labels(UNLABELLED, len(ROWS))
    made["more"] = {
        name: np.concatenate([array, unlabelled[name]]) for name, array in made["train"].items()
    }
    for name, arrays in made.items():
        np.savez_compressed(Path(__file__).with_name(f"{name}.npz"), **arrays)
        print(f"wrote {name}.npz: {len(arrays['x'])} rows")


if __name__ == "__main__":
    main()
