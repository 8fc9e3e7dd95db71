"""Rules of the tensorrt backend, which only a machine with the GPU can check itself."""

from __future__ import annotations

import re
from collections.abc import Iterator

from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Hit

_README = "tensorrt_backend/README.md"
_STRATEGIES = ("STATIC", "ON_PROFILE_CHANGE")


def capability(model: Model) -> Iterator[Hit]:
    """cc_model_filenames is keyed by compute capability, such as "8.7"."""
    for key in sorted(model.config.cc_model_filenames):
        if not re.fullmatch(r"\d+\.\d+", key):
            path = f'cc_model_filenames["{key}"]'
            yield Hit(f"'{key}' is no compute capability", path, 'write one such as "8.7"')


def no_plan_for_target(model: Model) -> Iterator[Hit]:
    """With cc_model_filenames there is a plan for the target's GPU."""
    if model.backend != "tensorrt" or model.target is None or model.target.tensorrt is None:
        return
    wanted = model.target.tensorrt.compute_capability
    plans = model.config.cc_model_filenames
    if plans and wanted not in plans and not model.raw.default_model_filename:
        what = f"no plan for {wanted}, the compute capability of {model.target.name}"
        yield Hit(what, "cc_model_filenames")


def strategy(model: Model) -> Iterator[Hit]:
    """execution_context_allocation_strategy is STATIC or ON_PROFILE_CHANGE."""
    key = "execution_context_allocation_strategy"
    value = model.parameter(key)
    if model.backend == "tensorrt" and value is not None and value not in _STRATEGIES:
        yield Hit(f"'{value}' is none of {', '.join(_STRATEGIES)}", f'parameters["{key}"]')


def kind(model: Model) -> Iterator[Hit]:
    """A plan runs on a GPU."""
    for i, group in enumerate(model.config.instance_group):
        if model.backend == "tensorrt" and group.kind in (2, 3):
            yield Hit("a plan needs KIND_GPU", f"instance_group[{i}].kind")


RULES = (
    Rule("tensorrt-capability", "error", "c++", _README, capability),
    Rule("tensorrt-no-plan", "error", "c++", _README, no_plan_for_target),
    Rule("tensorrt-strategy", "error", "c++", _README, strategy),
    Rule("tensorrt-kind", "error", "c++", _README, kind),
)
