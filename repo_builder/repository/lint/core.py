"""Rules of a model's identity and of what excludes each other: ValidateModelConfig."""

from __future__ import annotations

import re
from collections.abc import Iterator

from repo_builder.base.errors import did_you_mean
from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Edit, Hit

_SHIPPED = (
    "onnxruntime",
    "openvino",
    "tensorrt",
    "pytorch",
    "python",
    "tensorflow",
    "dali",
    "fil",
    "identity",
    "repeat",
    "square",
    "vllm",
    "tensorrtllm",
)
"""Backends of the images nvcr.io/nvidia/tritonserver, in one or another of them."""
_UTILS = "core/src/model_config_utils.cc"
_PLATFORM_OF = {
    "tensorflow": ("tensorflow_graphdef", "tensorflow_savedmodel"),
    "tensorrt": ("tensorrt_plan",),
    "onnxruntime": ("onnxruntime_onnx",),
    "pytorch": ("pytorch_libtorch", "torch_aoti"),
}


def backend_unknown(model: Model) -> Iterator[Hit]:
    """A model needs a backend: named, or told by platform, file name or files."""
    if not model.backend and model.config.platform != "ensemble":
        yield Hit("neither backend nor files say what serves this model", "backend")


def backend_left_out(model: Model) -> Iterator[Hit]:
    """A config should name its backend; what files say can change with them."""
    if model.backend and not model.raw.backend:
        edit = Edit("backend", f'"{model.backend}"')
        yield Hit(f"is guessed from the files: {model.backend}", "backend", "write it", edit)


def backend_platform(model: Model) -> Iterator[Hit]:
    """Where backend and platform are both given they must belong together."""
    known = _PLATFORM_OF.get(model.backend)
    others = [p for b, ps in _PLATFORM_OF.items() if b != model.backend for p in ps]
    platform = model.raw.platform
    if platform and model.raw.backend and platform != "ensemble":
        if known is not None and platform not in known:
            yield Hit(f"'{platform}' is not of backend '{model.backend}'", "platform", "remove it")
        elif known is None and platform in others:
            yield Hit(
                f"'{platform}' belongs to another backend; '{model.backend}' ignores it",
                "platform",
                "remove it",
            )


def backend_foreign(model: Model) -> Iterator[Hit]:
    """A backend is one that Triton's images have, or its library lies with the model."""
    name = model.backend
    if not name or name in _SHIPPED:
        return
    folders = [model.folder, *(model.versions[v] for v in model.loaded)]
    if not any((f / f"libtriton_{name}.so").is_file() for f in folders):
        fix = did_you_mean(name, _SHIPPED)
        yield Hit(f"no image of Triton has a backend '{name}'", "backend", fix)


def runtime_unknown(model: Model) -> Iterator[Hit]:
    """`runtime` is the backend's library, or model.py for a Python-based backend."""
    name = model.config.runtime
    known = [f"libtriton_{model.backend}.so"]
    if model.backend != "python":  # which is no Python-based backend itself
        known.append("model.py")
    if name and model.backend and name not in known:
        yield Hit(f"'{name}' is no library of '{model.backend}'", "runtime", "remove it")


def agent_unknown(model: Model) -> Iterator[Hit]:
    """Triton's images have one repository agent: checksum. No agent at all crashes Triton."""
    agents = model.config.model_repository_agents.agents
    if model.config.HasField("model_repository_agents") and not agents:
        yield Hit("has no agents, which crashes Triton", "model_repository_agents", "remove it")
    for i, agent in enumerate(agents):
        if agent.name != "checksum":
            path = f"model_repository_agents.agents[{i}].name"
            yield Hit(f"no image of Triton has an agent '{agent.name}'", path)


def ensemble_backend(model: Model) -> Iterator[Hit]:
    """An ensemble has the platform `ensemble` and no backend."""
    if model.config.platform == "ensemble" and model.raw.backend:
        yield Hit("an ensemble has no backend", "backend", "remove it")
    if model.config.platform == "ensemble" and not model.config.HasField("ensemble_scheduling"):
        yield Hit("platform 'ensemble' needs ensemble_scheduling", "platform")
    if model.config.HasField("ensemble_scheduling") and model.config.platform != "ensemble":
        what = "ensemble_scheduling needs platform 'ensemble'"
        yield Hit(what, "ensemble_scheduling", edit=Edit("platform", '"ensemble"'))


def batch_negative(model: Model) -> Iterator[Hit]:
    """max_batch_size must not be negative."""
    if model.config.max_batch_size < 0:
        yield Hit(f"is {model.config.max_batch_size}", "max_batch_size", "0 is no batching")


def batch_left_out(model: Model) -> Iterator[Hit]:
    """max_batch_size should be written: left out, a backend may complete it to 4 and a batcher."""
    if not model.written("max_batch_size"):
        edit = Edit("max_batch_size", "0")
        yield Hit("is not written, which means 0", "max_batch_size", "write it", edit)


def cache_conflict(model: Model) -> Iterator[Hit]:
    """The response cache serves neither sequence nor decoupled models."""
    if not model.config.response_cache.enable:
        return
    if model.config.HasField("sequence_batching"):
        yield Hit("is not for models with sequence_batching", "response_cache", "remove it")
    if model.config.model_transaction_policy.decoupled:
        yield Hit("is not for decoupled models", "response_cache", "remove it")


def cache_needs_flag(model: Model) -> Iterator[Hit]:
    """The response cache works only where the server has one."""
    if model.config.response_cache.enable:
        yield Hit("does nothing unless the server runs with --cache-config", "response_cache")


def cache_outlives(model: Model) -> Iterator[Hit]:
    """Cached answers outlive reloads: what changes a model's answers needs a new version number."""
    if model.config.response_cache.enable:
        what = "is keyed by model, version number and inputs, and outlives reloads"
        yield Hit(what, "response_cache", "give a changed model a new version number")
        if len(model.config.output) > 1:
            what = "an answer cached for other requested outputs can lack yours"
            yield Hit(what, "response_cache", "always ask for the same outputs")


def metrics_incomplete(model: Model) -> Iterator[Hit]:
    """A metric control names a family and its buckets."""
    for i, control in enumerate(model.config.model_metrics.metric_control):
        path = f"model_metrics.metric_control[{i}]"
        if not control.metric_identifier.family:
            yield Hit("metric_identifier needs a family", path)
        if not control.histogram_options.buckets:
            yield Hit("histogram_options need buckets", path)


def metric_tags(model: Model) -> Iterator[Hit]:
    """Metric tags are letters, digits and '_'; another name crashes Triton."""
    for key in sorted(model.config.metric_tags):
        if not re.fullmatch("[A-Za-z0-9_]+", key):
            yield Hit(f"'{key}' is no label name, which crashes Triton", f'metric_tags["{key}"]')


RULES = (
    Rule("backend-unknown", "error", "core", _UTILS, backend_unknown),
    Rule("backend-left-out", "warning", "sense", _UTILS, backend_left_out),
    Rule("backend-platform", "error", "core", _UTILS, backend_platform),
    Rule("backend-foreign", "error", "core", "core/src/backend_model.cc", backend_foreign),
    Rule("runtime-unknown", "error", "core", "core/src/backend_model.cc", runtime_unknown),
    Rule("agent-unknown", "error", "core", "core/src/repo_agent.cc", agent_unknown),
    Rule("ensemble-backend", "error", "core", _UTILS, ensemble_backend),
    Rule("batch-negative", "error", "core", _UTILS, batch_negative),
    Rule("batch-left-out", "warning", "sense", "onnxruntime_backend/README.md", batch_left_out),
    Rule("cache-conflict", "error", "core", _UTILS, cache_conflict),
    Rule("cache-needs-flag", "note", "sense", "server/docs/response_cache.md", cache_needs_flag),
    Rule("cache-outlives", "note", "sense", "core/src/cache_manager.cc", cache_outlives),
    Rule("metrics-incomplete", "error", "core", _UTILS, metrics_incomplete),
    Rule("metric-tags", "error", "core", "core/src/metric_model_reporter.cc", metric_tags),
)
