"""`warm-up`: run the samples that a spec's `model_warmup` brings, as Triton would feed them.

A sample that fails makes Triton refuse the model (TritonModelInstance::WarmUp), and one that kills
its process takes the server down, so each is tried here first, in this step's own process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from repo_builder.base.artifact import Tensor
from repo_builder.base.errors import ModelError
from repo_builder.introspect import bfloat16
from repo_builder.steps import _data, _runtimes
from repo_builder.steps._failures import explained

DRAWS = 3
"""Times that a sample of random data is tried: Triton draws other bytes at every start."""


@dataclass(frozen=True)
class Given:
    """An input of a sample: Triton's type (TYPE_FP32), its dims without a batch dimension, and
    whether its bytes are random or zero."""

    data_type: str
    dims: tuple[int, ...]
    random: bool = False


@dataclass(frozen=True)
class Sample:
    """A sample: `rows` requests of a row each, which the backend joins where the model batches."""

    name: str
    rows: int
    inputs: Mapping[str, Given]


@dataclass(frozen=True)
class Params:
    """`threads` as in `verify`."""

    runtime: str
    samples: tuple[Sample, ...]
    threads: int = 0


@dataclass(frozen=True)
class Inputs:
    """`model`: the built one."""

    model: Path


@dataclass(frozen=True)
class Facts:
    """How many samples ran."""

    ran: int


def run(inputs: Inputs, params: Params, out: Path) -> Facts:  # noqa: ARG001
    """Run every sample; writes nothing. ModelError with the first that fails."""
    options = _runtimes.Options(params.threads)
    runner = _runtimes.load(inputs.model, params.runtime, options)
    for sample in params.samples:
        draws = DRAWS if any(given.random for given in sample.inputs.values()) else 1
        for seed in range(draws):
            fix = "mend serving.model_warmup: Triton would refuse the model"
            with explained(f"the warm-up sample '{sample.name}' fails", fix, ModelError):
                runner.run(_feed(sample, runner, np.random.default_rng(seed)))
    return Facts(len(params.samples))


def _feed(
    sample: Sample, runner: _runtimes.Runner, random: np.random.Generator
) -> dict[str, _data.Array]:
    """The inputs of one run; ValueError where the sample's are not those of the model."""
    tensors = {tensor.name: tensor for tensor in runner.inputs}
    if missing := sorted(tensors.keys() - sample.inputs.keys()):
        raise ValueError(f"it has no input '{missing[0]}'")
    if unknown := sorted(sample.inputs.keys() - tensors.keys()):
        raise ValueError(f"the model has no input '{unknown[0]}'")
    return {
        name: _array(given, tensors[name], sample.rows, random)
        for name, given in sample.inputs.items()
    }


def _array(given: Given, tensor: Tensor, rows: int, random: np.random.Generator) -> _data.Array:
    """The bytes of one row, once for each request, in the shape that the model takes."""
    dtype = given.data_type.removeprefix("TYPE_")
    row = _row(dtype, given, random)
    rank = len(tensor.shape)
    if rank == 0 and row.size == 1:
        return row.reshape(())
    if rank == len(given.dims):
        return row
    return np.repeat(row[np.newaxis], rows, axis=0)


def _row(dtype: str, given: Given, random: np.random.Generator) -> _data.Array:
    """Zeros, or random bytes taken for what they are; strings are empty either way."""
    if dtype == "STRING":
        return np.full(given.dims, "", dtype=np.object_)
    kind = np.dtype(np.uint16 if dtype == "BF16" else _data.NUMPY_TYPES[dtype])
    size = int(np.prod(given.dims, dtype=np.int64)) * kind.itemsize
    data = random.bytes(size) if given.random else bytes(size)
    array = np.frombuffer(data, np.uint8 if dtype == "BOOL" else kind)
    if dtype == "BOOL":
        array = array.astype(np.bool_)
    shaped = array.reshape(given.dims)
    return bfloat16.widened(shaped) if dtype == "BF16" else shaped
