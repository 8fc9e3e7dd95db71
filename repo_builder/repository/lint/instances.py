"""Rules of instance groups: ValidateInstanceGroup."""

from __future__ import annotations

from collections.abc import Iterator

from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Hit

_UTILS = "core/src/model_config_utils.cc"
_KINDS = {0: "KIND_AUTO", 1: "KIND_GPU", 2: "KIND_CPU", 3: "KIND_MODEL"}


def gpus_without_gpu(model: Model) -> Iterator[Hit]:
    """`gpus` is for KIND_GPU and KIND_AUTO only."""
    for i, group in enumerate(model.config.instance_group):
        if group.gpus and group.kind in (2, 3):
            yield Hit(f"{_KINDS[group.kind]} has no gpus", f"instance_group[{i}].gpus", "remove it")


def kind_gpu(model: Model) -> Iterator[Hit]:
    """KIND_GPU, and KIND_AUTO with `gpus`, need a GPU that Triton can use."""
    if model.target is None or _has_gpu(model):
        return
    for i, group in enumerate(model.config.instance_group):
        if group.kind == 1:
            what = f"KIND_GPU, but {model.target.name} has no GPU for Triton"
            yield Hit(what, f"instance_group[{i}].kind", "write KIND_CPU")
        elif group.kind == 0 and group.gpus:
            what = f"{model.target.name} has no GPU for Triton, which then takes KIND_CPU"
            yield Hit(what, f"instance_group[{i}].gpus", "remove it")


def _has_gpu(model: Model) -> bool:
    return model.target is not None and model.target.tensorrt is not None


def profile(model: Model) -> Iterator[Hit]:
    """Profiles are TensorRT's, and whole numbers."""
    for i, group in enumerate(model.config.instance_group):
        path = f"instance_group[{i}].profile"
        if group.profile and model.config.platform != "tensorrt_plan":
            yield Hit("is for TensorRT only", path, "remove it")
        elif any(not name.lstrip("+").isdigit() for name in group.profile):
            yield Hit("must be whole numbers from 0", path)


def secondary_devices(model: Model) -> Iterator[Hit]:
    """Secondary devices are DLA cores, which only TensorRT uses."""
    for i, group in enumerate(model.config.instance_group):
        if group.secondary_devices and model.backend != "tensorrt":
            yield Hit("does nothing outside TensorRT", f"instance_group[{i}].secondary_devices")


def rate_limiter(model: Model) -> Iterator[Hit]:
    """The rate limiter is off unless the server runs with --rate-limit."""
    for i, group in enumerate(model.config.instance_group):
        if group.HasField("rate_limiter"):
            what = "does nothing unless the server runs with --rate-limit"
            yield Hit(what, f"instance_group[{i}].rate_limiter")


RULES = (
    Rule("gpus-without-gpu", "error", "core", _UTILS, gpus_without_gpu),
    Rule("kind-gpu", "error", "core", _UTILS, kind_gpu),
    Rule("profile", "error", "core", _UTILS, profile),
    Rule("secondary-devices", "warning", "sense", "tensorrt_backend/README.md", secondary_devices),
    Rule("rate-limiter", "note", "sense", "server/docs/user_guide/rate_limiter.md", rate_limiter),
)
