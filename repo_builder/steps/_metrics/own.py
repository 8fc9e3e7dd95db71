"""A metric of the user's own: a function in a Python file."""

from __future__ import annotations

import importlib.util
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from repo_builder.base.errors import DataError, did_you_mean
from repo_builder.steps._metrics.arrays import Array

FILE = "metric.py"


@dataclass(frozen=True)
class Own:
    """Which function of the file measures, and which way is better."""

    function: str
    higher_is_better: bool


def compute(
    folder: Path, own: Own, outputs: Mapping[str, Array], arrays: Mapping[str, Array]
) -> float:
    """What the function `own.function(outputs, arrays)` of `metric.py` in `folder` returns.

    `outputs` are the model's by name, `arrays` those of the evaluation file but the inputs.
    DataError where the file cannot be loaded, lacks the function, fails (with the line), or gives
    no number.
    """
    function = _load(folder / FILE, own.function)
    try:
        value = function(dict(outputs), dict(arrays))
    except Exception as failure:
        raise DataError(f"{own.function}() of {FILE} failed: {_told(failure)}") from failure
    number = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "fiub" or not np.isfinite(number).all():
        raise DataError(f"{own.function}() of {FILE} returned {value!r}, not one finite number")
    return float(number.reshape(()))


def _load(file: Path, name: str) -> Callable[..., Any]:
    spec = importlib.util.spec_from_file_location("metric", file)
    if spec is None or spec.loader is None:
        raise DataError(f"{FILE} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except Exception as failure:
        raise DataError(f"{FILE} cannot be loaded: {_told(failure)}") from failure
    function = getattr(module, name, None)
    if not callable(function):
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise DataError(f"{FILE} has no function '{name}'; {did_you_mean(name, known)}")
    found: Callable[..., Any] = function
    return found


def _told(failure: Exception) -> str:
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(failure.__traceback__)
        if Path(frame.filename).name == FILE
    ]
    where = f", line {lines[-1]}" if lines else ""
    return f"{type(failure).__name__}: {failure}{where}"
