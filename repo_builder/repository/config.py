"""Decides a model's config.pbtxt from its spec, its target and its signature; pure.

What a config decides is written down in docs/config.md: batching only where it was proven, threads
times instances never above the target's cores, explicit inputs and outputs always, and a warmup.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from repo_builder.base import digest
from repo_builder.base.artifact import Signature, Tensor
from repo_builder.base.digest import Json
from repo_builder.base.errors import Problem, SpecError, did_you_mean
from repo_builder.introspect import states
from repo_builder.repository import lint, render
from repo_builder.repository.made_by_triton import Made
from repo_builder.spec.serving import ModelConfig
from repo_builder.spec.types import Spec
from repo_builder.targets import Target

DEFAULT_MAX_BATCH = 16
"""The largest batch of a model whose batch dimension is proven, where the spec names none."""
MOST_INSTANCES = 8
"""More would buy little and cost memory: each instance may hold a copy of the weights."""
_WAITING: dict[str, Any] = {
    "default_queue_policy": {
        "allow_timeout_override": True,
        "default_timeout_microseconds": 3_600_000_000,
    }
}
"""Triton drops a request from its queue when the time is over that its caller gave it.

Callers may only shorten the default, and 0, no limit, counts as shorter than all: Triton 2.51 then
ignores what they say. So there is one, of an hour.
"""


def decide(
    spec: Spec,
    target: Target,
    signature: Signature,
    labels: Mapping[str, Sequence[str]],
    cores: int,
    confidence: Json = None,
    versions: int = 1,
) -> ModelConfig:
    """The config of `spec` on `target`, for a compiled model with this `signature`.

    `labels` maps outputs to their labels, read from the files that the spec names, which stand
    under their own names in the model's folder; `cores` are those to plan for: the target's, or
    the building machine's where the target leaves them open. `confidence` says when the model is
    sure: the fields of `Policy` in `repo_builder.client.models.confidence`, and what else a reader
    may want.
    `versions` of the model are served at once.
    Fields of `spec.serving.config` win over what is decided here: mappings are merged, inputs and
    outputs are merged by name, other lists replace, null removes. SpecError with all problems
    where the spec asks for what the model or Triton cannot do; ValueError for a target that runs
    no Triton.
    """
    if target.backend is None:
        raise ValueError(f"target {target.name} runs no Triton")
    _check(spec, target, signature)
    signature = _given_out(spec, signature)
    largest = _largest_batch(spec, target, signature)
    made = Made.of(spec.serving.config)
    inputs, outputs = made.listed(signature, spec.serving.config)
    count, threads = _instances(spec, target, cores)
    gpu = target.backend == "tensorrt"
    decided: dict[str, Any] = {
        "name": spec.name,
        "backend": target.backend,
        "max_batch_size": largest,
        "input": [_tensor(t, largest) for t in inputs],
        "output": [_tensor(t, largest) for t in outputs],
        "instance_group": [
            {"kind": "KIND_GPU", "count": 1} if gpu else {"kind": "KIND_CPU", "count": count}
        ],
        "parameters": {
            key: {"string_value": value}
            for key, value in {
                **_backend_parameters(spec, target, signature, count, threads),
                **_own_parameters(spec, labels, confidence, signature),
            }.items()
        },
        "model_warmup": _warmup(signature, inputs, made, largest),
    }
    if versions > 1 and "version_policy" not in spec.serving.config:
        decided["version_policy"] = {"latest": {"num_versions": versions}}
    for tensor in decided["output"]:
        if tensor["name"] in spec.serving.labels:
            tensor["label_filename"] = spec.serving.labels[tensor["name"]].name
    if largest > 1 and (batcher := _batcher(spec)) is not None:
        decided["dynamic_batching"] = batcher
    decided = _overlay(decided, spec.serving.config)
    if decided.get("dynamic_batching") is not None:
        decided["dynamic_batching"] = _overlay(_WAITING, decided["dynamic_batching"])
    config = ModelConfig.model_validate(decided)
    _refuse_what_triton_would(config, spec, target)
    return config


def _refuse_what_triton_would(config: ModelConfig, spec: Spec, target: Target) -> None:
    """SpecError for every rule of Triton that the spec's own fields break."""
    findings = lint.lint_config(render.text(config), config.name, target=target)
    problems = [
        Problem(
            f"{found.what} [{found.rule}]", found.fix, str(spec.file), 0, f"serving.{found.field}"
        )
        for found in findings
        if found.severity == "error"
    ]
    if problems:
        raise SpecError(f"Triton would refuse '{spec.name}':", problems)


def _check(spec: Spec, target: Target, signature: Signature) -> None:
    """Names that the spec uses must exist in the model, and its batch must be proven."""
    file = str(spec.file)
    made = Made.of(spec.serving.config)
    problems = list(made.problems(signature, spec.serving.config, file))
    if target.backend == "openvino" and made.inputs:
        what = f"Triton's openvino backend cannot feed '{min(made.inputs)}' to a model"
        fix = f"leave {target.name} out, or serve the model on a target of ONNX Runtime"
        field = f"serving.{made.inputs[min(made.inputs)].partition('.')[0]}"
        problems.append(Problem(what, fix, file, field=field))
    asked = spec.serving.max_batch_size
    if asked and not signature.batched:
        what = f"{asked}, but the model has no batch dimension: {signature.why_not_batched}"
        fix = "write 0, or leave it out"
        problems.append(Problem(what, fix, file, field="serving.max_batch_size"))
    outputs = [t.name for t in signature.outputs]
    inputs = [t.name for t in signature.inputs]
    for number, name in enumerate(spec.postprocess.keep if spec.postprocess else ()):
        if name not in outputs:
            field, fix = f"postprocess.keep[{number}]", did_you_mean(name, outputs)
            problems.append(Problem(f"the model has no output '{name}'", fix, file, field=field))
    for name, path in spec.serving.labels.items():
        twins = {p for p in spec.serving.labels.values() if p.name == path.name}
        if len(twins) > 1:
            what = f"two different label files are called {path.name}"
            problems.append(Problem(what, "rename one", file, field=f"serving.labels.{name}"))
        if name not in outputs:
            what = f"the model has no output '{name}'"
            fix = did_you_mean(name, outputs)
            problems.append(Problem(what, fix, file, field=f"serving.labels.{name}"))
    for kind, names in (("input", inputs), ("output", outputs)):
        overlays: Any = spec.serving.config.get(kind, [])
        for position, tensor in enumerate(overlays):
            name = tensor.get("name", "")
            if name not in names:
                what = f"the model has no {kind} '{name}'"
                field = f"serving.{kind}[{position}].name"
                problems.append(Problem(what, did_you_mean(name, names), file, field=field))
    if problems:
        raise SpecError(f"the spec of '{spec.name}' does not fit its model:", problems)


def _given_out(spec: Spec, signature: Signature) -> Signature:
    """Without the net's outputs that a model makes answers of, where nobody asks for them."""
    if spec.postprocess is None:
        return signature
    asked = spec.postprocess
    wanted = {*asked.outputs, *asked.keep, *([spec.fallback.output] if spec.fallback else [])}
    outputs = tuple(tensor for tensor in signature.outputs if tensor.name in wanted)
    return dataclasses.replace(signature, outputs=outputs)


def _largest_batch(spec: Spec, target: Target, signature: Signature) -> int:
    """`max_batch_size`: 0 where the shape stands in `dims` as it is.

    Triton's openvino backend fixes the model's batch at max_batch_size and refuses every smaller
    batch (openvino.cc, ValidateInputs and ProcessRequests); with 0 and a dynamic first dimension a
    request may have any number of rows. Its devices other than the CPU take one row.
    """
    if not signature.batched:
        return 0
    if target.openvino is not None:
        return 0 if target.openvino.device == "CPU" else 1
    asked = spec.serving.max_batch_size
    if asked is None and spec.tuning is not None and spec.tuning.candidate.batches:
        return spec.tuning.candidate.max_batch
    return DEFAULT_MAX_BATCH if asked is None else asked


def _instances(spec: Spec, target: Target, cores: int) -> tuple[int, int]:
    """How many instances, with how many threads each; never more threads than cores."""
    if spec.tuning is not None:
        return spec.tuning.candidate.instances, spec.tuning.candidate.threads
    elsewhere = target.openvino is not None and target.openvino.device != "CPU"
    if spec.serving.objective == "latency" or elsewhere:
        return 1, cores
    count = min(cores, MOST_INSTANCES)
    return count, cores // count


def _batcher(spec: Spec) -> dict[str, Any] | None:
    """The dynamic batcher; None where requests are not joined."""
    if spec.tuning is None:
        return {} if spec.serving.objective == "throughput" else None
    one = spec.tuning.candidate
    if not one.batches:
        return None
    return {"max_queue_delay_microseconds": one.delay_us} if one.delay_us else {}


def _tensor(tensor: Tensor, largest: int) -> dict[str, Any]:
    """Name, type and dims; a scalar (per row) is `dims: [1]`, since dims may not be empty."""
    dims = [size if isinstance(size, int) else -1 for size in tensor.shape][bool(largest) :]
    fields: dict[str, Any] = {"name": tensor.name, "data_type": f"TYPE_{tensor.dtype}"}
    if dims:
        return {**fields, "dims": dims}
    # An empty reshape is illegal where max_batch_size is 0; backends know the tensor is a scalar.
    return {**fields, "dims": [1]} | ({"reshape": {"shape": []}} if largest else {})


def _backend_parameters(
    spec: Spec, target: Target, signature: Signature, count: int, threads: int
) -> dict[str, str]:
    """Device and threads, by the names that each backend reads.

    Each instance of onnxruntime has a session with thread pools of its own. Instances of the C++
    openvino backend share one compiled model, so it needs a stream for each; with our Python-based
    backend each has its own and uses one stream of it: as many threads run.
    """
    if target.backend == "onnxruntime":
        return {"intra_op_thread_count": str(threads), "inter_op_thread_count": "1"}
    if target.openvino is None:
        return {}
    if target.openvino.device != "CPU":  # which would refuse the settings of threads
        hint = spec.serving.objective.upper()
        return {"TARGET_DEVICE": target.openvino.device, "PERFORMANCE_HINT": hint}
    settings = {"NUM_STREAMS": str(count), "INFERENCE_NUM_THREADS": str(count * threads)}
    if any(not isinstance(size, int) for tensor in signature.inputs for size in tensor.shape):
        settings["RESHAPE_IO_LAYERS"] = "YES"
    return settings


def _own_parameters(
    spec: Spec, labels: Mapping[str, Sequence[str]], confidence: Json, signature: Signature
) -> dict[str, str]:
    """What the client reads, see repo_builder/client/models/model.py; the last, backends too."""
    own = {"repo_builder.version": str(spec.version)}
    if labels:
        own["repo_builder.labels"] = _text({name: list(lines) for name, lines in labels.items()})
    if spec.preprocess is not None:
        own["repo_builder.preprocess"] = _text(dict(spec.preprocess.parameters))
    if state := states.pairs(signature.inputs, signature.outputs):
        own["repo_builder.states"] = _text({**state})
    if confidence is not None:
        own["repo_builder.confidence"] = _text(confidence)
    if empty := [tensor.name for tensor in signature.inputs if _ran_empty(tensor, signature)]:
        own["repo_builder.may_be_empty"] = _text(empty)
    return own


def _ran_empty(tensor: Tensor, signature: Signature) -> bool:
    """Whether the model was run with this input without any values."""
    sizes = signature.dynamic_axes
    return tensor.name in signature.may_be_empty or any(
        not isinstance(size, int) and sizes.get(size or f"{tensor.name}[{axis}]") == 0
        for axis, size in enumerate(tensor.shape)
    )


def _text(value: Json) -> str:
    return digest.canonical(value).decode()


def _warmup(
    signature: Signature, listed: Sequence[Tensor], made: Made, largest: int
) -> list[dict[str, Any]]:
    """One request of zeros for the smallest and one for the largest batch, with real shapes.

    None where the model keeps states: a sample is in no sequence, so Triton would refuse the model.
    """
    if not signature.runs_with_zeros or not listed or made.states:
        return []
    inputs = made.warmup()
    for tensor in listed:
        dims = []
        for axis, size in enumerate(tensor.shape):
            if isinstance(size, int):
                dims.append(size)
            else:  # a batch has no size of its own, also where it was found to be none
                dims.append(signature.dynamic_axes.get(size or f"{tensor.name}[{axis}]", 1))
        inputs[tensor.name] = {
            "data_type": f"TYPE_{tensor.dtype}",
            "dims": dims[bool(largest) :] or [1],
            "zero_data": True,
        }
    return [
        {"name": f"batch of {size}", "batch_size": size, "inputs": inputs}
        for size in sorted({1, max(largest, 1)})
    ]


def _overlay(decided: Any, asked: Any) -> Any:
    """`asked` over `decided`; null removes what was decided."""
    if not isinstance(decided, dict) or not isinstance(asked, Mapping):
        return asked
    merged = dict(decided)
    for key, value in asked.items():
        if key in ("input", "output") and key in decided:
            merged[key] = _by_name(decided[key], value)
        elif key == "sequence_batching" and value is not None:
            merged.pop("dynamic_batching", None)
            merged[key] = value
        else:
            merged[key] = _overlay(decided.get(key), value)
    return merged


def _by_name(decided: list[Any], asked: Sequence[Any]) -> list[Any]:
    named = {tensor["name"]: tensor for tensor in asked}
    return [_overlay(tensor, named.get(tensor["name"], {})) for tensor in decided]
