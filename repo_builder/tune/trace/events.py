"""Triton's trace events as requests and their stages.

Triton 2.51's trace mode `triton` writes a JSON list: an object with the id, the model and, for a
step of an ensemble, the id of the ensemble's request; then one for each timestamp, in nanoseconds
of CLOCK_MONOTONIC (https://github.com/triton-inference-server/server, docs/user_guide/trace.md).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

_STAGES = (
    ("queue", "QUEUE_START", "COMPUTE_START"),
    ("copy in", "COMPUTE_START", "COMPUTE_INPUT_END"),
    ("compute", "COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START"),
    ("copy out", "COMPUTE_OUTPUT_START", "COMPUTE_END"),
)


@dataclass(frozen=True)
class Stage:
    """A part of a request: where it begins and how long it takes, in ms since the request was sent.

    `model` is "" for the client's and the network's own. `begins_ms` is None where only its length
    is known.
    """

    model: str
    name: str
    begins_ms: float | None
    ms: float


@dataclass(frozen=True)
class Request:
    """One request as its client saw it: `total_ms`, and its stages in the order of time."""

    number: int
    total_ms: float
    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Seen:
    """What Triton noted of one request of one model: event -> nanoseconds."""

    id: int
    model: str
    parent: int
    times: Mapping[str, int]


def read(text: str) -> list[Seen]:
    """The requests of a trace file, in the order in which they began; whole ones alone.

    What Triton is about to write is left out. ValueError of what is no trace of Triton's.
    """
    models: dict[int, tuple[str, int]] = {}
    times: dict[int, dict[str, int]] = {}
    for item in _objects(text):
        if not isinstance(item, Mapping) or not isinstance(item.get("id"), int):
            raise ValueError("no trace of Triton")
        if "model_name" in item:
            models[item["id"]] = str(item["model_name"]), int(item.get("parent_id", 0))
        for stamp in item.get("timestamps", ()):
            times.setdefault(item["id"], {})[str(stamp["name"])] = int(stamp["ns"])
    found = [
        Seen(number, *models[number], times[number])
        for number in models
        if {"REQUEST_START", "REQUEST_END"} <= times.get(number, {}).keys()
    ]
    return sorted(found, key=lambda one: one.times["REQUEST_START"])


def request(number: int, sent_ns: int, got_ns: int, seen: Iterable[Seen], model: str) -> Request:
    """The stages of the request for `model` that its client sent and got back at these times.

    Only what Triton began between them counts; LookupError where there is not exactly one request
    for `model`: it was not traced, or others asked meanwhile.
    """
    inside = [one for one in seen if sent_ns <= one.times["REQUEST_START"] <= got_ns]
    (whole,) = _only([one for one in inside if one.model == model and not one.parent], model)
    steps = [one for one in inside if one.parent == whole.id]
    # A request ends for Triton when all is tidied up, which may be after its answer has come.
    begun, ended = whole.times["REQUEST_START"], whole.times["REQUEST_END"]
    ended = min(whole.times.get("INFER_RESPONSE_COMPLETE", ended), got_ns)

    def stage(name: str, of: str, start: int, end: int) -> Stage:
        # What is tidied up after the answer has come is no part of it.
        start, end = (min(max(at, sent_ns), got_ns) for at in (start, end))
        return Stage(of, name, (start - sent_ns) / 1e6, (end - start) / 1e6)

    stages = [stage("send", "", sent_ns, begun)]
    for step in steps or [whole]:
        stages += [
            stage(name, step.model, step.times[first], step.times[last])
            for name, first, last in _STAGES
            if first in step.times and last in step.times
        ]
    stages.append(stage("receive", "", ended, got_ns))
    stages.sort(key=lambda one: one.begins_ms or 0.0)
    return Request(number, (got_ns - sent_ns) / 1e6, tuple(stages))


def _objects(text: str) -> Iterator[Any]:
    """The whole objects of a trace file: while Triton runs its list has no end, and its last object
    may be cut off."""
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            item, end = decoder.raw_decode(text, at)
        except ValueError:
            return
        yield item
        at = text.find("{", end)


def _only(found: list[Seen], model: str) -> list[Seen]:
    if len(found) != 1:
        raise LookupError(f"{len(found)} requests for {model} were traced in the time of one")
    return found
