"""What load sends: a few requests of one row each, sent in turn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from repo_builder.base.errors import UsageError
from repo_builder.tune.configured import Config

Arrays = Mapping[str, npt.NDArray[Any]]

COUNT = 16
"""Different requests."""

_RANDOM = ("FP16", "FP32", "FP64")
"""Values between 0 and 1 are made for these; zeros, which builds have run, for others."""


def made(config: Config, rows: Arrays | None = None) -> dict[str, npt.NDArray[Any]]:
    """Input -> its values, the first axis the requests, for the model of `config`.

    They are those of `rows` (input -> array, its first axis rows) where it has every input; else
    they are made up, in the shapes of the config's warm-up where dims are open. UsageError where
    that cannot be.
    """
    from tritonclient.utils import triton_to_np_dtype

    batched = int(config.get("max_batch_size", 0)) > 0
    tensors: Sequence[Config] = config.get("input", ())
    given = rows is not None and all(tensor["name"] in rows for tensor in tensors)
    random = np.random.default_rng(0)
    found: dict[str, npt.NDArray[Any]] = {}
    for tensor in tensors:
        name, datatype = tensor["name"], tensor["data_type"].removeprefix("TYPE_")
        shape = _shape(config, tensor, batched=batched)
        if given and rows is not None:
            found[name] = _turns(rows[name], shape)
        elif datatype == "STRING":
            raise UsageError(
                f"'{config['name']}': input '{name}' is {datatype}, which cannot be made up; give "
                "the spec data.calibration"
            )
        else:
            kind = np.dtype(triton_to_np_dtype("FP32" if datatype == "BF16" else datatype))
            value = random.random if datatype in _RANDOM else np.zeros
            found[name] = value((COUNT, *shape)).astype(kind)
    return found


def _turns(values: npt.NDArray[Any], shape: Sequence[int]) -> npt.NDArray[Any]:
    """`COUNT` rows in turn, each with a batch axis where the request has one."""
    taken: npt.NDArray[Any] = values[np.arange(COUNT) % len(values)]
    return taken[:, np.newaxis] if taken.ndim == len(shape) else taken


def _shape(config: Config, tensor: Config, *, batched: bool) -> list[int]:
    """The shape of one request; open dims as the warm-up has them, else 1."""
    dims = [int(size) for size in tensor.get("dims", ())]
    if "reshape" in tensor and not tensor["reshape"].get("shape"):
        dims = []
    samples: Sequence[Config] = config.get("model_warmup", ())
    sample: Config = samples[0].get("inputs", {}) if samples else {}
    tried = [int(size) for size in sample.get(tensor["name"], {}).get("dims", ())]
    known = tried if len(tried) == len(dims) else [1] * len(dims)
    shape = [size if size > 0 else other for size, other in zip(dims, known, strict=True)]
    return [1, *shape] if batched else shape


def write(inputs: Arrays, path: Path) -> None:
    """Write inputs into a file."""
    with path.open("wb") as file:
        np.savez(file, **dict(inputs))


def read(path: Path) -> list[dict[str, npt.NDArray[Any]]]:
    """The requests that `write` wrote, one after the other."""
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in stored.files}
    return [{name: array[i] for name, array in arrays.items()} for i in range(COUNT)]
