"""What our Python-based backends share: checks at load, and requests joined into one run.

Lies beside each backend's model.py in the backend directory, where Triton's Python stub finds it.
Imports only what the stub has: numpy and triton_python_backend_utils. Arrays of TYPE_BF16 tensors
are their bits, in uint16: see bfloat16.py.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
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
# Of a model's tensor: Triton's type (TYPE_FP32) and its full shape, -1 where dynamic.
Signature = tuple[str, Sequence[int]]


def parameter(config: Config, key: str, default: str = "") -> str:
    """A model-level parameter of config.pbtxt."""
    return str(config["parameters"].get(key, {}).get("string_value", default))


def integer(config: Config, key: str, default: int = 0) -> int:
    """A model-level parameter that is a whole number; raises where it is something else."""
    text = parameter(config, key, str(default))
    try:
        return int(text)
    except ValueError:
        raise refusal(f"parameter '{key}' is '{text}'; it must be a whole number") from None


def refusal(message: str) -> Exception:
    """The exception that makes Triton refuse the model, with `message` in its log."""
    error: Exception = pb_utils.TritonModelException(message)
    return error


def model_file(args: Mapping[str, str], config: Config, default: str) -> Path:
    """The model's file in its version folder; raises where it is missing."""
    folder = Path(args["model_repository"]) / args["model_version"]
    path = folder / (config.get("default_model_filename") or default)
    if not path.exists():
        raise refusal(f"unable to find '{path}'")
    return path


def check_config(config: Config) -> None:
    """Raise for what config.pbtxt asks and no Python-based backend of ours does."""
    if config.get("model_transaction_policy", {}).get("decoupled"):
        raise refusal("a decoupled model; this backend answers each request exactly once")
    if config.get("optimization", {}).get("execution_accelerators"):
        raise refusal("execution_accelerators need Triton's C++ backend")
    for field in ("batch_input", "batch_output"):
        if config.get(field):
            raise refusal(f"{field} needs Triton's C++ backend")
    if config.get("sequence_batching", {}).get("state"):
        raise refusal("implicit state (sequence_batching.state) needs Triton's C++ backend")
    for tensor in [*config["input"], *config["output"]]:
        if tensor.get("allow_ragged_batch"):
            raise refusal(f"'{tensor['name']}': ragged batches need Triton's C++ backend")


def check_tensors(
    config: Config, kind: str, model: Mapping[str, Signature], *, batch: int, exact: bool
) -> None:
    """Raise where the tensors of config.pbtxt (`kind`: "input" or "output") are not the model's.

    The full shape in the config is `batch` and the dims where the model batches, else the dims.
    A dynamic dimension of the model (-1) takes any size, or with `exact` only -1.
    """
    for tensor in config[kind]:
        name = tensor["name"]
        if name not in model:
            raise refusal(f"the model has no {kind} '{name}'; it has {', '.join(sorted(model))}")
        data_type, shape = model[name]
        if tensor["data_type"] != data_type:
            raise refusal(
                f"{kind} '{name}' is {data_type} in the model "
                f"and {tensor['data_type']} in the config"
            )
        dims = [int(dim) for dim in tensor.get("reshape", {}).get("shape", tensor["dims"])]
        given = [batch, *dims] if config["max_batch_size"] else dims
        fits = all(
            have == want or (have == -1 and not exact)
            for have, want in zip(shape, given, strict=False)
        )
        if len(shape) != len(given) or not fits:
            raise refusal(
                f"{kind} '{name}' has the shape {list(shape)} in the model "
                f"and {given} in the config (max_batch_size {config['max_batch_size']})"
            )


def check_complete(config: Config, needed: Collection[str]) -> None:
    """Raise where the config leaves out an input that the model needs, or has one twice."""
    names = [tensor["name"] for tensor in config["input"]]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise refusal(f"the input {', '.join(twice)} is listed twice")
    controls = config.get("sequence_batching", {}).get("control_input", [])
    named = {tensor["name"] for tensor in [*config["input"], *controls]}
    if missing := sorted(set(needed) - named):
        raise refusal(f"the model also needs the input {', '.join(missing)}")


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
