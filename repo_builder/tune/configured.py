"""A model's config with a candidate's way to serve it, and which candidate a config is.

Configs are Triton's ModelConfig as plain JSON types, by the protocol's own names, as a server tells
and takes them: nothing here needs more than the bare install. Pure. What a build writes for the
same candidate is decided in `repository/config.py`.
"""

from __future__ import annotations

import copy
from typing import Any

from repo_builder.base.errors import ServeError
from repo_builder.spec.candidate import RUNTIMES, Candidate, Runtime

Config = dict[str, Any]

_THREADS = "intra_op_thread_count"
_STREAMS = "NUM_STREAMS"
_ALL_THREADS = "INFERENCE_NUM_THREADS"


def runtime_of(config: Config) -> Runtime:
    """The runtime that serves it; ServeError where that is none of those that are tuned."""
    for runtime in RUNTIMES:
        if config.get("backend") == runtime:
            return runtime
    served = config.get("backend") or config.get("platform") or "no backend"
    raise ServeError(
        f"'{config['name']}' is served by {served}; only models of {' and '.join(RUNTIMES)} are "
        "tuned"
    )


def current(config: Config, cores: int) -> Candidate:
    """How a model is served now, on `cores`, which are the threads where it does not say."""
    groups = config.get("instance_group", [{}])
    instances = max(1, sum(int(group.get("count", 1)) for group in groups))
    runtime = runtime_of(config)
    batcher = config.get("dynamic_batching")
    if runtime == "onnxruntime":
        threads = _number(config, _THREADS) or cores
    else:
        threads = max(1, (_number(config, _ALL_THREADS) or cores * instances) // instances)
    largest = int(config.get("max_batch_size", 0))
    if batcher is None or largest < 2:
        return Candidate(runtime, instances, threads)
    delay = int(batcher.get("max_queue_delay_microseconds", 0))
    return Candidate(runtime, instances, threads, largest, delay)


def configured(config: Config, candidate: Candidate, name: str = "") -> Config:
    """`config` served as `candidate` says, under `name` where one is given.

    Instances, threads, batching, and warm-ups of the batch sizes that are possible then.
    """
    made = copy.deepcopy(config)
    made["name"] = name or config["name"]
    made["instance_group"] = [{"kind": "KIND_CPU", "count": candidate.instances}]
    parameters = made.setdefault("parameters", {})
    if candidate.runtime == "onnxruntime":
        parameters[_THREADS] = {"string_value": str(candidate.threads)}
        parameters["inter_op_thread_count"] = {"string_value": "1"}
    else:
        parameters[_STREAMS] = {"string_value": str(candidate.instances)}
        parameters[_ALL_THREADS] = {"string_value": str(candidate.cores)}
    batcher = made.pop("dynamic_batching", None) or {}
    if candidate.batches:
        batcher.pop("max_queue_delay_microseconds", None)
        if candidate.delay_us:
            batcher["max_queue_delay_microseconds"] = candidate.delay_us
        made["dynamic_batching"] = batcher
        made["max_batch_size"] = candidate.max_batch
    made["model_warmup"] = _warm_ups(made)
    if not made["model_warmup"]:
        del made["model_warmup"]
    return made


def _warm_ups(config: Config) -> list[Config]:
    """The config's samples, once with one row and once with the largest batch."""
    largest = max(1, int(config.get("max_batch_size", 0)))
    samples: list[Config] = config.get("model_warmup", [])
    made = [_of_rows(sample, 1) for sample in samples[:1]]
    made += [_of_rows(sample, largest) for sample in samples[:1] if largest > 1]
    return made


def _of_rows(sample: Config, rows: int) -> Config:
    return {**sample, "name": f"batch of {rows}", "batch_size": rows}


def _number(config: Config, parameter: str) -> int:
    """A parameter that is a whole number; 0 where it is not there or is none."""
    text = str(config.get("parameters", {}).get(parameter, {}).get("string_value", ""))
    return int(text) if text.isdigit() else 0
