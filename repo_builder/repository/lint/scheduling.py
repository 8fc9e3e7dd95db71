"""Rules of dynamic and sequence batching: ValidateModelConfig."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from repo_builder.repository.lint import library
from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Hit
from repo_builder.repository.lint.warmup import data_file

_UTILS = "core/src/model_config_utils.cc"
_KINDS = {0: "START", 1: "READY", 2: "END", 3: "CORRID"}
_DELAY = 1
_CORRID = (4, 5, 8, 9, 13)
"""TYPE_UINT32, TYPE_UINT64, TYPE_INT32, TYPE_INT64, TYPE_STRING."""
_VALUES = ("int32_false_true", "fp32_false_true", "bool_false_true")


def _preferred(model: Model) -> Iterator[tuple[str, Sequence[int]]]:
    if model.config.HasField("dynamic_batching"):
        batching = model.config.dynamic_batching
        yield "dynamic_batching.preferred_batch_size", batching.preferred_batch_size
    oldest = model.config.sequence_batching.oldest
    yield "sequence_batching.oldest.preferred_batch_size", oldest.preferred_batch_size


def preferred_size(model: Model) -> Iterator[Hit]:
    """Preferred batch sizes lie in 1..max_batch_size."""
    most = model.config.max_batch_size
    for path, sizes in _preferred(model):
        for size in sizes:
            if not 1 <= size <= most:
                yield Hit(f"{size} is not in 1..{most}", path)


def preferred_needless(model: Model) -> Iterator[Hit]:
    """Preferred batch sizes help only engines with profiles; elsewhere they add waiting."""
    if model.backend != "tensorrt":
        for path, sizes in _preferred(model):
            if sizes:
                yield Hit("is of use for TensorRT profiles only", path, "remove it")


def batching_unbatched(model: Model) -> Iterator[Hit]:
    """A dynamic batcher joins nothing where max_batch_size is 0."""
    if model.config.HasField("dynamic_batching") and model.config.max_batch_size == 0:
        yield Hit("does nothing: max_batch_size is 0", "dynamic_batching", "remove one of them")


def priority_default(model: Model) -> Iterator[Hit]:
    """With priority_levels, default_priority_level lies in 1..levels."""
    batching = model.config.dynamic_batching
    levels, default = batching.priority_levels, batching.default_priority_level
    if levels and not 1 <= default <= levels:
        path = "dynamic_batching.default_priority_level"
        yield Hit(f"is {default}, which is not in 1..{levels}", path)


def priority_policy(model: Model) -> Iterator[Hit]:
    """Queue policies are for levels 1..priority_levels."""
    batching = model.config.dynamic_batching
    if batching.priority_levels:
        for level in sorted(batching.priority_queue_policy):
            if not 1 <= level <= batching.priority_levels:
                path = f"dynamic_batching.priority_queue_policy[{level}]"
                yield Hit(f"there is no level {level}", path)


def preserve_ordering(model: Model) -> Iterator[Hit]:
    """preserve_ordering forbids several priority levels, and DELAY with a timeout."""
    batching = model.config.dynamic_batching
    if not batching.preserve_ordering:
        return
    path = "dynamic_batching.preserve_ordering"
    if batching.priority_levels > 1:
        yield Hit(f"forbids {batching.priority_levels} priority levels", path)
    policies = [batching.default_queue_policy, *batching.priority_queue_policy.values()]
    if any(p.default_timeout_microseconds and p.timeout_action == _DELAY for p in policies):
        yield Hit("forbids timeout_action DELAY with a timeout", path)


def control_name(model: Model) -> Iterator[Hit]:
    """Each control input has a name of its own."""
    names: list[str] = []
    for i, control in enumerate(model.config.sequence_batching.control_input):
        path = f"sequence_batching.control_input[{i}]"
        if not control.name:
            yield Hit("has no name", path)
        elif control.name in names:
            yield Hit(f"'{control.name}' is there twice", f"{path}.name", "join their controls")
        names.append(control.name)


def control_twice(model: Model) -> Iterator[Hit]:
    """Each kind of control is given by one tensor."""
    seen: set[int] = set()
    for i, control in enumerate(model.config.sequence_batching.control_input):
        for j, part in enumerate(control.control):
            if part.kind in seen:
                path = f"sequence_batching.control_input[{i}].control[{j}]"
                yield Hit(f"CONTROL_SEQUENCE_{_KINDS[part.kind]} is there twice", path)
            seen.add(part.kind)


def control_values(model: Model) -> Iterator[Hit]:
    """START, END and READY have one pair of values; CORRID has none, but a type."""
    for i, control in enumerate(model.config.sequence_batching.control_input):
        for j, part in enumerate(control.control):
            path = f"sequence_batching.control_input[{i}].control[{j}]"
            given = {name: getattr(part, name) for name in _VALUES if len(getattr(part, name))}
            if _KINDS[part.kind] == "CORRID":
                if given:
                    yield Hit(f"CORRID has no {next(iter(given))}", path)
                elif part.data_type not in _CORRID:
                    what = "CORRID must be TYPE_(U)INT32, TYPE_(U)INT64 or TYPE_STRING"
                    yield Hit(what, f"{path}.data_type")
            elif len(given) != 1:
                yield Hit(f"needs exactly one of {', '.join(_VALUES)}", path)
            elif len(next(iter(given.values()))) != 2:
                yield Hit("needs two values: false and true", f"{path}.{next(iter(given))}")


def slot_utilization(model: Model) -> Iterator[Hit]:
    """minimum_slot_utilization lies in 0..1."""
    direct = model.config.sequence_batching.direct
    if not 0 <= direct.minimum_slot_utilization <= 1:
        path = "sequence_batching.direct.minimum_slot_utilization"
        yield Hit(f"{direct.minimum_slot_utilization:g} is not in 0..1", path)


def initial_state(model: Model) -> Iterator[Hit]:
    """A state starts from at most one initial state, of its own type and shape, with data."""
    names: list[str] = []
    for i, state in enumerate(model.config.sequence_batching.state):
        path = f"sequence_batching.state[{i}].initial_state"
        if len(state.initial_state) > 1:
            yield Hit(f"has {len(state.initial_state)} entries; one is the most", path)
        if len(state.initial_state) == 1:
            if state.input_name in names:
                yield Hit(f"'{state.input_name}' already has an initial state", path)
            names.append(state.input_name)
            yield from _initial_state(model, state, state.initial_state[0], path)


def _initial_state(model: Model, state: Any, initial: Any, path: str) -> Iterator[Hit]:
    if initial.data_type != state.data_type:
        yield Hit("has another data_type than the state", path)
    if not initial.name:
        yield Hit("has no name", path)
    pairs = list(zip(initial.dims, state.dims, strict=False))
    if len(initial.dims) != len(state.dims) or any(b not in (-1, a) for a, b in pairs):
        yield Hit(f"{list(initial.dims)} is not the state's {list(state.dims)}", f"{path}.dims")
    if -1 in initial.dims:
        yield Hit("-1 is no size of real data", f"{path}.dims")
    given = initial.WhichOneof("state_data")
    if given is None:
        yield Hit("needs zero_data or data_file", path)
    elif given == "data_file":
        yield from data_file(model, "initial_state", initial, initial.data_file, path)


def strategy_path(model: Model) -> Iterator[Hit]:
    """A custom batching library is not for sequence models."""
    key = "TRITON_BATCH_STRATEGY_PATH"
    if model.config.HasField("sequence_batching") and key in model.config.parameters:
        yield Hit("is not for models with sequence_batching", f'parameters["{key}"]')


def strategy_missing(model: Model) -> Iterator[Hit]:
    """A custom batching library is there."""
    key = "TRITON_BATCH_STRATEGY_PATH"
    name = model.parameter(key)
    if name is None or model.config.HasField("sequence_batching"):
        return
    if problem := library.problem(name):
        yield Hit(problem, f'parameters["{key}"]')


RULES = (
    Rule("preferred-size", "error", "core", _UTILS, preferred_size),
    Rule(
        "preferred-needless",
        "note",
        "sense",
        "server/docs/user_guide/batcher.md",
        preferred_needless,
    ),
    Rule("batching-unbatched", "warning", "sense", _UTILS, batching_unbatched),
    Rule("priority-default", "error", "core", _UTILS, priority_default),
    Rule("priority-policy", "error", "core", _UTILS, priority_policy),
    Rule("preserve-ordering", "error", "core", _UTILS, preserve_ordering),
    Rule("control-name", "error", "core", _UTILS, control_name),
    Rule("control-twice", "error", "core", _UTILS, control_twice),
    Rule("control-values", "error", "core", _UTILS, control_values),
    Rule("slot-utilization", "error", "core", _UTILS, slot_utilization),
    Rule(
        "initial-state",
        "error",
        "core",
        "core/src/sequence_batch_scheduler/sequence_batch_scheduler.cc",
        initial_state,
    ),
    Rule("strategy-path", "error", "core", "core/src/backend_model.cc", strategy_path),
    Rule("strategy-missing", "error", "core", "core/src/backend_model.cc", strategy_missing),
)
