"""What our Python-based backends share: requests joined into one run.

Lies beside each backend's model.py in the backend directory, where Triton's Python stub finds it.
Imports only what the stub has: numpy and triton_python_backend_utils. Arrays of TYPE_BF16 tensors
are their bits, in uint16: see bfloat16.py.
"""

from __future__ import annotations

import json
import time
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

# The inputs with which the builder saw the model run with a dimension of size 0, as JSON.
_MAY_BE_EMPTY = "repo_builder.may_be_empty"
# A request that comes this soon after the last answer has waited for it, in seconds.
_AT_ONCE_S = 0.001


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


class Cancelled(Exception):
    """Nobody waits for the answer any more."""


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


class Runner:
    """Answers Triton's requests with `run`, for one instance of the model of `config`.

    `as_bits` are the tensors of TYPE_BF16, for a backend that takes them.
    """

    def __init__(self, run: Run, config: Config, as_bits: Collection[str] = ()) -> None:
        self._run = run
        self._max_batch_size = config["max_batch_size"]
        self._as_bits = as_bits
        stated = config["parameters"].get(_MAY_BE_EMPTY, {}).get("string_value", "[]")
        self._may_be_empty = frozenset(json.loads(stated))
        self._ended = self._took = 0.0

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """What a backend's `execute` returns: a response for each request, in order.

        Requests that were cancelled, or whose caller's deadline passed, while they waited are not
        run. To ask costs two trips to Triton, some 0.1 ms of CPU, so only those are asked that
        follow on the last so closely that they must have waited.
        """
        begun = time.monotonic()
        waited = begun - self._ended < max(_AT_ONCE_S, self._took / 10)
        answers: list[Answer] = [()] * len(requests)
        taken = {}
        for i, request in enumerate(requests):
            if waited and request.is_cancelled():
                answers[i] = Cancelled("the request was cancelled while it waited")
                continue
            feeds = _feeds(request, self._as_bits)
            if refusal := self._refusal(feeds):
                answers[i] = refusal
            else:
                taken[i] = Request(feeds, list(request.requested_output_names()))
        found = answer(list(taken.values()), self._run, self._max_batch_size)
        for i, one in zip(taken, found, strict=True):
            answers[i] = one
        responses = [_response(taken.get(i), one, self._as_bits) for i, one in enumerate(answers)]
        self._ended = time.monotonic()
        self._took = self._ended - begun
        return responses

    def _refusal(self, feeds: Feeds) -> ValueError | None:
        """An input with a dimension of size 0, with which nobody has seen the model run.

        Kernels divide by it, and the process dies; the builder states what it has run.
        """
        for name, array in feeds.items():
            if array.size == 0 and name not in self._may_be_empty:
                return ValueError(
                    f"input '{name}' has the shape {list(array.shape)}: the model was not "
                    "verified with a dimension of size 0"
                )
        return None


def bfloat16_names(config: Config) -> frozenset[str]:
    """The inputs and outputs of TYPE_BF16."""
    tensors = [*config["input"], *config["output"]]
    return frozenset(t["name"] for t in tensors if t["data_type"] == "TYPE_BF16")


def _feeds(request: Any, as_bits: Collection[str]) -> Feeds:
    return {
        (name := tensor.name()): bfloat16.bits(tensor) if name in as_bits else tensor.as_numpy()
        for tensor in request.inputs()
    }


def _response(request: Request | None, found: Answer, as_bits: Collection[str]) -> Any:
    if isinstance(found, Cancelled):
        error = pb_utils.TritonError(str(found), pb_utils.TritonError.CANCELLED)
        return pb_utils.InferenceResponse([], error)
    if request is None or isinstance(found, Exception):
        return pb_utils.InferenceResponse([], pb_utils.TritonError(str(found)))
    tensors = [
        pb_utils.Tensor.from_dlpack(name, bfloat16.tensor(array))
        if name in as_bits
        else pb_utils.Tensor(name, array)
        for name, array in zip(request.wanted, found, strict=True)
    ]
    return pb_utils.InferenceResponse(tensors)
