"""The simplifier within limits: on large models it runs in a process of its own.

onnxslim holds many copies of a model: an 85 MB transformer took 5.2 GB. So weights that it has no
use for are kept from it, tensors that it folds may be no larger than those that are there, and what
still needs too much memory or time is stopped.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from repo_builder.base.errors import StepError
from repo_builder.introspect import walk
from repo_builder.introspect.runtime import is_out_of_memory
from repo_builder.steps import _onnx

if TYPE_CHECKING:
    from onnx import ModelProto, TensorProto

SMALL = 8_000_000
"""Bytes of a model that is simplified right here; more go into a process with limits."""
MOST_BYTES = 2 << 30
MOST_FACTOR = 12
"""Address space of that process: `MOST_BYTES`, and `MOST_FACTOR` times the model's size."""
MOST_SECONDS = 300.0
HIDDEN = 1 << 18
"""Bytes from which on a weight that nothing can be folded with is kept from the simplifier."""
MOST_IN_ATTRIBUTES = 1_000_000
"""Numbers that nodes may hold; a tree ensemble has more, and nothing in it can be simplified."""

_HEAVY = {"MatMul": 1, "Gemm": 1, "Gather": 0}
"""Operators whose weight takes part in no folding -> its position."""


class GivenUpError(StepError):
    """The model is not worth simplifying, or it would take too much."""


def simplified(folder: Path) -> ModelProto:
    """The model of `folder`, simplified. GivenUpError; else whatever the simplifier raises."""
    model = _onnx.load(folder)
    numbers = sum(
        len(attribute.floats) + len(attribute.ints)
        for node in walk.nodes(model)
        for attribute in node.attribute
    )
    if numbers > MOST_IN_ATTRIBUTES:
        raise GivenUpError(
            f"its nodes hold {numbers:,} numbers, as trees do: nothing can be folded"
        )
    size = model.ByteSize()
    if size <= SMALL:
        return slim(model)
    hidden = _hide(model)
    with tempfile.TemporaryDirectory() as scratch:
        _onnx.save(model, Path(scratch))
        del model
        _in_process(Path(scratch), MOST_BYTES + MOST_FACTOR * size)
        result = _onnx.load(Path(scratch))
    _put_back(result, hidden)
    return result


def slim(model: ModelProto) -> ModelProto:
    """The model simplified, here and without limits of time and memory."""
    import onnxslim

    largest = max(map(_onnx.tensor_size, walk.tensors(model)), default=0)
    result: ModelProto = onnxslim.slim(model, size_threshold=max(largest, _onnx.LEAST_FOLDED))
    return result


def _hide(model: ModelProto) -> list[TensorProto]:
    """Make inputs of the large weights that nothing can be folded with; returns them."""
    from onnx import helper

    readers: dict[str, bool] = {}  # name -> whether only operators of `_HEAVY` read it
    for node in walk.nodes(model):
        for position, name in enumerate(node.input):
            heavy = _HEAVY.get(node.op_type) == position and node.domain in ("", "ai.onnx")
            readers[name] = readers.get(name, True) and heavy
    given_out = {value.name for graph in walk.graphs(model) for value in graph.output if value}
    weights = model.graph.initializer
    hidden = [
        weight
        for weight in weights
        if readers.get(weight.name)
        and weight.name not in given_out
        and _onnx.tensor_size(weight) >= HIDDEN
    ]
    names = {weight.name for weight in hidden}
    kept = [weight for weight in weights if weight.name not in names]
    del weights[:]
    weights.extend(kept)
    model.graph.input.extend(
        helper.make_tensor_value_info(weight.name, weight.data_type, weight.dims)
        for weight in hidden
    )
    return hidden


def _put_back(model: ModelProto, hidden: list[TensorProto]) -> None:
    """The other way round; weights that nothing reads any more stay away."""
    names = {weight.name for weight in hidden}
    read = {name for node in walk.nodes(model) for name in node.input}
    inputs = [value for value in model.graph.input if value.name not in names]
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.graph.initializer.extend(weight for weight in hidden if weight.name in read)


def _in_process(folder: Path, most_bytes: int) -> None:
    """Simplify the model of `folder`, in place. GivenUpError where it takes too much, or fails."""
    command = [sys.executable, "-m", "repo_builder.steps._slim", str(folder), str(most_bytes)]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=MOST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise GivenUpError(f"the simplifier was not done after {MOST_SECONDS:.0f} s") from None
    print(done.stdout, done.stderr, flush=True)
    if done.returncode == _LACK or done.returncode < 0:
        raise GivenUpError(f"the simplifier takes more than {most_bytes / 1e9:.1f} GB of memory")
    if done.returncode:
        lines = done.stderr.strip().splitlines()
        raise GivenUpError(f"the simplifier failed: {lines[-1] if lines else 'it printed nothing'}")


_LACK = 9
"""Exit code of the process for lack of memory."""


def main(folder: Path, most_bytes: int) -> int:
    """Simplify the model of `folder`, in place, with that much address space."""
    resource.setrlimit(resource.RLIMIT_AS, (most_bytes, most_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (int(4 * MOST_SECONDS),) * 2)  # should this be orphaned
    try:
        _onnx.save(slim(_onnx.load(folder)), folder)
    except Exception as failure:
        if is_out_of_memory(failure):
            return _LACK
        raise
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
