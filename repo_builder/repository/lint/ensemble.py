"""Rules of ensembles: ValidateEnsembleSchedulingConfig and ValidateEnsembleConfig."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from repo_builder.base.errors import did_you_mean
from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import Hit

_UTILS = "core/src/model_config_utils.cc"
_ENSEMBLE = "core/src/ensemble_scheduler/ensemble_utils.cc"
_STEP = "ensemble_scheduling.step"


def _steps(model: Model) -> Iterator[tuple[str, Any, Model | None]]:
    """Path, step, and the step's model where it is there with a readable config."""
    for i, step in enumerate(model.config.ensemble_scheduling.step):
        inner = model.repository.get(step.model_name)
        known = inner if inner is not None and inner.config is not None else None
        yield f"{_STEP}[{i}]", step, known


def not_for_ensembles(model: Model) -> Iterator[Hit]:
    """An ensemble has no instances, optimization or warmup: its steps have."""
    if not model.config.HasField("ensemble_scheduling"):
        return
    for field in ("instance_group", "model_warmup"):
        if len(getattr(model.config, field)):
            yield Hit("is not for ensembles", field, "write it in the steps' models")
    if model.config.HasField("optimization"):
        yield Hit("is not for ensembles", "optimization", "write it in the steps' models")


def incomplete(model: Model) -> Iterator[Hit]:
    """An ensemble has steps, and each names a model and maps its inputs and outputs."""
    if not model.config.HasField("ensemble_scheduling"):
        return
    if not model.config.ensemble_scheduling.step:
        yield Hit("has no step", "ensemble_scheduling")
    for path, step, _ in _steps(model):
        for field in ("model_name", "input_map", "output_map"):
            if not getattr(step, field):
                yield Hit(f"has no {field}", path)


def written_twice(model: Model) -> Iterator[Hit]:
    """A tensor of an ensemble is written by one step."""
    written: set[str] = set()
    for path, step, _ in _steps(model):
        for target in sorted(step.output_map.values()):
            if target in written:
                yield Hit(f"'{target}' is written twice", f"{path}.output_map")
            written.add(target)


def unconnected(model: Model) -> Iterator[Hit]:
    """Every tensor of an ensemble is written before it is read, and read or given out."""
    if not model.config.ensemble_scheduling.step:
        return
    steps = model.config.ensemble_scheduling.step
    inputs = [t.name for t in model.config.input]
    outputs = [t.name for t in model.config.output]
    read = {name for step in steps for name in step.input_map.values()}
    written = {name for step in steps for name in step.output_map.values()}
    for i, name in enumerate(inputs):
        if name not in read | written:
            yield Hit(f"no step reads '{name}'", f"input[{i}].name")
    ready = _reachable(set(inputs), steps)
    for i, name in enumerate(outputs):
        if name not in written | read:
            yield Hit(f"no step writes '{name}'", f"output[{i}].name")
        elif name not in ready:
            yield Hit(f"'{name}' waits for tensors that nothing writes", f"output[{i}].name")
    for i, step in enumerate(steps):
        for name in sorted(set(step.input_map.values()) - ready):
            why = "it waits for itself" if name in written else "nothing writes it"
            yield Hit(f"reads '{name}', but {why}", f"{_STEP}[{i}].input_map")
        for name in sorted(set(step.output_map.values()) - read - set(outputs)):
            fix = "leave it out of output_map"
            yield Hit(f"nothing reads '{name}'", f"{_STEP}[{i}].output_map", fix)


def _reachable(ready: set[str], steps: Sequence[Any]) -> set[str]:
    """The tensors that exist once every step that can run has run."""
    while True:
        more = {
            name
            for step in steps
            if set(step.input_map.values()) <= ready
            for name in step.output_map.values()
        } - ready
        if not more:
            return ready
        ready |= more


def step_missing(model: Model) -> Iterator[Hit]:
    """The steps' models are in the repository, in the versions that the steps name."""
    for path, step, _ in _steps(model):
        inner = model.repository.get(step.model_name)
        if not step.model_name:
            continue
        if inner is None:
            hint = did_you_mean(step.model_name, [n for n in model.repository if n != model.name])
            what = f"there is no model '{step.model_name}'"
            yield Hit(what, f"{path}.model_name", hint)
        elif inner.config is None or not inner.loaded:
            what = f"'{step.model_name}' cannot be loaded"
            yield Hit(what, f"{path}.model_name", "mend that model")
        elif step.model_version != -1 and step.model_version not in inner.loaded:
            there = ", ".join(map(str, inner.loaded))
            what = f"'{step.model_name}' has no version {step.model_version}; it has {there}"
            yield Hit(what, f"{path}.model_version", "-1 is the newest")


def cyclic(model: Model) -> Iterator[Hit]:
    """An ensemble does not contain itself."""
    waiting, seen = [model], {model.name}
    while waiting:
        for _, step, inner in _steps(waiting.pop()):
            if step.model_name == model.name:
                yield Hit(f"contains itself by '{step.model_name}'", "ensemble_scheduling")
                return
            if inner is not None and inner.name not in seen:
                seen.add(inner.name)
                waiting.append(inner)


def mapping(model: Model) -> Iterator[Hit]:
    """A step maps all inputs of its model that are not optional, and only what the model has."""
    for path, step, inner in _steps(model):
        if inner is None:
            continue
        for field, tensors in (
            ("input_map", inner.config.input),
            ("output_map", inner.config.output),
        ):
            names = [t.name for t in tensors]
            for name in sorted(getattr(step, field)):
                if name not in names:
                    what = f"'{inner.name}' has no {field[:-4]} '{name}'"
                    yield Hit(what, f'{path}.{field}["{name}"]', did_you_mean(name, names))
        for tensor in inner.config.input:
            if tensor.name not in step.input_map and not tensor.optional:
                what = f"input '{tensor.name}' of '{inner.name}' is not mapped"
                yield Hit(what, f"{path}.input_map")


def batch_below(model: Model) -> Iterator[Hit]:
    """A step's model takes batches as large as the ensemble, or does not batch at all."""
    most = model.config.max_batch_size
    for path, step, inner in _steps(model):
        if inner is not None and 0 < inner.config.max_batch_size < most:
            what = f"'{step.model_name}' takes {inner.config.max_batch_size} rows, not {most}"
            yield Hit(what, f"{path}.model_name", "lower the ensemble's max_batch_size")


def inconsistent(model: Model) -> Iterator[Hit]:
    """Both ends of a tensor agree in type and shape."""
    known: dict[str, tuple[str, Any, list[int], list[int]]] = {}
    for kind in ("input", "output"):
        for tensor in getattr(model.config, kind):
            dims = tensor.reshape.shape if tensor.HasField("reshape") else tensor.dims
            known.setdefault(tensor.name, _end(f"the ensemble's {kind}", tensor, dims, model))
    for path, step, inner in _steps(model):
        if inner is None:
            continue
        for field, tensors in (
            ("input_map", inner.config.input),
            ("output_map", inner.config.output),
        ):
            for tensor in tensors:
                name = getattr(step, field).get(tensor.name)
                if name is None:
                    continue
                here = _end(f"'{tensor.name}' of '{inner.name}'", tensor, tensor.dims, inner)
                there = known.setdefault(name, here)
                where = f'{path}.{field}["{tensor.name}"]'
                if here[1] != there[1]:
                    types = type(tensor).DESCRIPTOR.fields_by_name["data_type"].enum_type
                    a, b = types.values_by_number[here[1]], types.values_by_number[there[1]]
                    yield Hit(f"{here[0]} is {a.name}, {there[0]} is {b.name}", where)
                elif not _fit(here[2], there[2]) and not _fit(here[3], there[3]):
                    yield Hit(f"{here[0]} is {here[3]}, {there[0]} is {there[3]}", where)


def _end(
    what: str, tensor: Any, dims: Sequence[int], owner: Model
) -> tuple[str, Any, list[int], list[int]]:
    """Name, type, dims and full dims of one end of a tensor."""
    full = [-1, *dims] if owner.config.max_batch_size > 0 else list(dims)
    return what, tensor.data_type, list(dims), full


def _fit(a: list[int], b: list[int]) -> bool:
    return len(a) == len(b) and all(
        -1 in pair or pair[0] == pair[1] for pair in zip(a, b, strict=True)
    )


RULES = (
    Rule("ensemble-alone", "error", "core", _UTILS, not_for_ensembles),
    Rule("ensemble-incomplete", "error", "core", _UTILS, incomplete),
    Rule("ensemble-written-twice", "error", "core", _UTILS, written_twice),
    Rule("ensemble-unconnected", "error", "core", _UTILS, unconnected),
    Rule("ensemble-step-missing", "error", "core", _ENSEMBLE, step_missing),
    Rule("ensemble-cyclic", "error", "core", _ENSEMBLE, cyclic),
    Rule("ensemble-mapping", "error", "core", _ENSEMBLE, mapping),
    Rule("ensemble-batch", "error", "core", _ENSEMBLE, batch_below),
    Rule("ensemble-inconsistent", "error", "core", _ENSEMBLE, inconsistent),
)
