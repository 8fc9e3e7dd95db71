"""What our Python-based backends share: requests joined into one run.

Lies beside each backend's model.py in the backend directory, where Triton's Python stub finds it.
Imports only what the stub has: numpy and triton_python_backend_utils. Arrays of TYPE_BF16 tensors
are their bits, in uint16: see bfloat16.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import bfloat16
import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

Config = Mapping[str, Any]
Array = npt.NDArray[Any]
Feeds = dict[str, Array]
# Runs the model: inputs by name and the names of the wanted outputs, to those outputs in order.
Run = Callable[[Feeds, Sequence[str]], Sequence[Array]]


class Request(NamedTuple):
    """What one request brings, and the outputs it wants."""

    feeds: Feeds
    wanted: Sequence[str]

    @property
    def rows(self) -> int:
        """The size of the batch dimension."""
        return len(next(iter(self.feeds.values())))

    def joinable(self) -> tuple[object, ...]:
        """Equal for requests whose tensors can be joined along the first dimension."""
        return tuple(sorted((n, a.dtype.str, a.shape[1:]) for n, a in self.feeds.items()))


Answer = Sequence[Array] | Exception


def answer(requests: Sequence[Request], run: Run, max_batch_size: int) -> list[Answer]:
    """The wanted outputs, or the error, of each request.

    Requests of one shape share a run, of at most `max_batch_size` rows (0: the model does not
    batch, and each request runs alone). Where a shared run fails, each of its requests runs alone,
    so that it gets its own error or its own answer.
    """
    if len(requests) == 1:
        return [_run_alone(requests[0], run)]
    answers: list[Answer] = [()] * len(requests)
    for group in _groups(requests, max_batch_size):
        found = _run_joined([requests[i] for i in group], run) if len(group) > 1 else None
        for position, i in enumerate(group):
            answers[i] = _run_alone(requests[i], run) if found is None else found[position]
    return answers


def _groups(requests: Sequence[Request], max_batch_size: int) -> list[list[int]]:
    """Indices of the requests that share a run, in the order of arrival."""
    if max_batch_size == 0:
        return [[i] for i in range(len(requests))]
    groups: list[list[int]] = []
    last: dict[tuple[object, ...], tuple[list[int], int]] = {}
    for i, request in enumerate(requests):
        key = request.joinable()
        group, rows = last.get(key, ([], 0))
        if not group or rows + request.rows > max_batch_size:
            group, rows = [], 0
            groups.append(group)
        group.append(i)
        last[key] = (group, rows + request.rows)
    return groups


def _run_alone(request: Request, run: Run) -> Answer:
    try:
        return run(request.feeds, request.wanted)
    except Exception as error:  # noqa: BLE001 - it becomes this request's answer
        return error


def _run_joined(requests: Sequence[Request], run: Run) -> list[Answer] | None:
    """The answers of requests that share one run, or None where they cannot."""
    feeds = {
        name: np.concatenate([request.feeds[name] for request in requests])
        for name in requests[0].feeds
    }
    wanted = list(dict.fromkeys(name for request in requests for name in request.wanted))
    try:
        outputs = dict(zip(wanted, run(feeds, wanted), strict=True))
    except Exception as error:  # noqa: BLE001 - each request then tells for itself
        pb_utils.Logger.log_warn(f"a joined run failed, running its requests alone: {error}")
        return None
    ends = np.cumsum([request.rows for request in requests])
    for name, output in outputs.items():
        if output.shape[:1] != (ends[-1],):
            pb_utils.Logger.log_warn(
                f"output '{name}' has the shape {output.shape} for {ends[-1]} rows, "
                "so requests cannot be joined: set max_batch_size: 0"
            )
            return None
    return [
        [outputs[name][end - request.rows : end] for name in request.wanted]
        for request, end in zip(requests, ends, strict=True)
    ]


def execute(
    requests: Sequence[Any], run: Run, config: Config, as_bits: Collection[str] = ()
) -> list[Any]:
    """Answer Triton's requests: what a backend's `execute` returns.

    `as_bits` are the tensors of TYPE_BF16, for a backend that takes them.
    """
    taken = [
        Request(_feeds(request, as_bits), list(request.requested_output_names()))
        for request in requests
    ]
    answers = answer(taken, run, config["max_batch_size"])
    return [
        _response(request, found, as_bits) for request, found in zip(taken, answers, strict=True)
    ]


def bfloat16_names(config: Config) -> frozenset[str]:
    """The inputs and outputs of TYPE_BF16."""
    tensors = [*config["input"], *config["output"]]
    return frozenset(t["name"] for t in tensors if t["data_type"] == "TYPE_BF16")


def _feeds(request: Any, as_bits: Collection[str]) -> Feeds:
    return {
        (name := tensor.name()): bfloat16.bits(tensor) if name in as_bits else tensor.as_numpy()
        for tensor in request.inputs()
    }


def _response(request: Request, found: Answer, as_bits: Collection[str]) -> Any:
    if isinstance(found, Exception):
        return pb_utils.InferenceResponse([], pb_utils.TritonError(str(found)))
    tensors = [
        pb_utils.Tensor.from_dlpack(name, bfloat16.tensor(array))
        if name in as_bits
        else pb_utils.Tensor(name, array)
        for name, array in zip(request.wanted, found, strict=True)
    ]
    return pb_utils.InferenceResponse(tensors)
