"""Whether a build uses what `tuning.yaml` says of a model, and what it tells of that."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from repo_builder.base import machine
from repo_builder.plan import Variant
from repo_builder.spec.types import Pipeline, Spec

_BY_HAND = ("instance_group", "dynamic_batching", "sequence_batching")
_THREADS = ("intra_op_thread_count", "NUM_STREAMS", "INFERENCE_NUM_THREADS")


def settled(variant: Variant, model: str) -> tuple[Variant, str, str]:
    """The variant without a tuning that is not for it; a note and a warning for the report.

    `model` is the digest of what was built, as the report shows it.
    """
    tuning = variant.spec.tuning
    if tuning is None:
        return variant, "", ""
    why = tuning.why_not(
        variant.target.runtime,
        model,
        machine.cpu_name(),
        variant.target.cores,
        len(os.sched_getaffinity(0)),
    )
    if why:
        spec = replace(variant.spec, tuning=None)
        return replace(variant, spec=spec), "", f"tuning not used ({tuning.place}): {why}"
    note = f"served as tuned for {tuning.objective}: {tuning.candidate} ({tuning.place})"
    if own := by_hand(variant.spec.serving.config):
        note += f"; the spec's own {', '.join(own)} wins"
    return variant, note, ""


def told(specs: Iterable[Spec | Pipeline]) -> Iterator[str]:
    """What a build of these specs will look at of their tunings, a line each."""
    for spec in specs:
        if isinstance(spec, Spec) and spec.tuning is not None:
            one = spec.tuning
            yield (
                f"{spec.id}: served as {one.place} says, if the model built is {one.model} and the "
                f"machine {one.cpu} with {one.cores} cores: {one.candidate}"
            )


def by_hand(config: Mapping[str, Any]) -> list[str]:
    """What a spec sets by hand of what a tuning sets."""
    parameters = config.get("parameters") or {}
    own = [name for name in _BY_HAND if name in config]
    return own + [name for name in _THREADS if name in parameters]
