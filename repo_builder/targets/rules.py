"""What must hold between the figures of a target, beyond the shape of each."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import BaseModel

from repo_builder.base.errors import did_you_mean
from repo_builder.targets.types import Fact, Runtime, Target

Loc = tuple["str | int", ...]
Broken = tuple[Loc, str, str]
Facts = list[tuple[Loc, Fact]]

_SETTINGS: dict[Runtime, str] = {
    "openvino": "openvino",
    "tensorrt": "tensorrt",
    "qnn": "qnn",
    "vela": "vela",
    "tflite-micro": "micro",
}
# Far beyond any device of the foreseeable future: a figure above is a slip of the unit.
_LIMITS = {"dense_tops": 1e5, "sparse_tops": 1e5, "watts": 5e3, "bandwidth_gb_s": 5e4}
_CLOCK_LIMIT_MHZ = 10_000


def broken_rules(target: Target) -> Iterator[Broken]:
    """Every rule that `target` breaks: where, what, and what to write instead."""
    facts = list(_facts(target))
    yield from _sourced(target, facts)
    yield from _settings(target)
    yield from _scheme(target)
    yield from _plausible(target, facts)
    yield from _power_modes(target)


def _facts(value: BaseModel, loc: Loc = ()) -> Iterator[tuple[Loc, Fact]]:
    """Every fact of a target with its place in the file."""
    if isinstance(value, Fact):
        yield loc, value
    for name in type(value).model_fields:
        inner = getattr(value, name)
        if isinstance(inner, BaseModel):
            yield from _facts(inner, (*loc, name))
        elif isinstance(inner, tuple):
            for index, item in enumerate(inner):
                if isinstance(item, BaseModel):
                    yield from _facts(item, (*loc, name, index))


def _sourced(target: Target, facts: Facts) -> Iterator[Broken]:
    for loc, fact in facts:
        if fact.source and fact.source not in target.sources:
            hint = did_you_mean(fact.source, target.sources)
            yield (*loc, "source"), f"no source '{fact.source}' in this file's sources", hint
        elif not fact.source and not fact.note:
            yield loc, "has no source", "name one of 'sources', or say in 'note' why there is none"


def _settings(target: Target) -> Iterator[Broken]:
    """The settings that the runtime needs are there, and no other runtime's."""
    needed = _SETTINGS.get(target.runtime)
    for name in _SETTINGS.values():
        given = getattr(target, name) is not None
        if given and name != needed:
            yield (name,), f"does not belong to runtime '{target.runtime}'", "leave it out"
        elif not given and name == needed:
            yield (name,), f"is missing; runtime '{target.runtime}' needs it", ""
    if (target.backend is None) != (target.architectures == ("cortex-m",)):
        fix = "use vela or tflite-micro, and only for cortex-m"
        yield ("runtime",), f"'{target.runtime}' does not run on {target.architectures[0]}", fix


def _scheme(target: Target) -> Iterator[Broken]:
    """TensorRT takes symmetric int8 only; the TFLite writer reads the other scheme."""
    only = {"tensorrt": "s8s8", "vela": "u8s8", "tflite-micro": "u8s8"}.get(target.runtime)
    if only and target.int8 != only:
        yield ("int8",), f"'{target.int8}' is not what {target.runtime} takes", f"write {only}"


def _plausible(target: Target, facts: Facts) -> Iterator[Broken]:
    for loc, fact in facts:
        for name in type(fact).model_fields:
            value = getattr(fact, name)
            limit = _CLOCK_LIMIT_MHZ if name.endswith("_mhz") else _LIMITS.get(name)
            if limit and isinstance(value, (int, float)) and value > limit:
                yield (*loc, name), f"{value:g} cannot be", f"more than {limit:g}: check the unit"
    if target.memory.size_mb and target.free_mb() == 0:
        what = f"the system would keep all {target.memory.size_mb:g} MB of the memory"
        yield ("assumptions", "reserved_mb"), what, "lower it, or correct memory.size_mb"
    for e, engine in enumerate(target.engines):
        met = set()
        for c, compute in enumerate(engine.compute):
            at = ("engines", e, "compute", c)
            if compute.sparse_tops and (compute.dense_tops or 0) > compute.sparse_tops:
                yield (*at, "sparse_tops"), "is below dense_tops", "swap them"
            if compute.precision in met:
                yield (*at, "precision"), f"{compute.precision} is given twice", "keep one"
            met.add(compute.precision)


def _power_modes(target: Target) -> Iterator[Broken]:
    engines = {engine.name: engine for engine in target.engines}
    if len(engines) < len(target.engines):
        yield ("engines",), "two engines have one name", "give each its own"
    names = [mode.name for mode in target.power_modes]
    for m, mode in enumerate(target.power_modes):
        at = ("power_modes", m)
        if mode.name in names[:m]:
            yield (*at, "name"), f"'{mode.name}' is given twice", "give each mode its own name"
        if mode.cpu_cores is not None and mode.cpu_cores > target.cores > 0:
            yield (*at, "cpu_cores"), f"the device has {target.cores}", ""
        for name, clock in mode.clocks_mhz.items():
            if name not in engines:
                yield (*at, "clocks_mhz", name), "no such engine", did_you_mean(name, engines)
            elif clock > _CLOCK_LIMIT_MHZ:
                yield (*at, "clocks_mhz", name), f"{clock} MHz cannot be", "is it in MHz?"
        for name, left in mode.slices.items():
            if name not in engines:
                yield (*at, "slices", name), "no such engine", did_you_mean(name, engines)
            elif left > (engines[name].slices or 1):
                yield (*at, "slices", name), f"it has {engines[name].slices or 1}", ""
        bandwidth = target.memory.bandwidth_gb_s
        if mode.memory_gb_s and bandwidth and mode.memory_gb_s > bandwidth:
            yield (*at, "memory_gb_s"), f"is above the memory's {bandwidth:g}", ""
