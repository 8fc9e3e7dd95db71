"""What `verify` found of one model@target: for its row of the report, and for its gate."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Sized
from typing import Any, TypeAlias

from repo_builder.base.artifact import Entry
from repo_builder.build.report.types import Comparison, Difference
from repo_builder.spec.types import Spec
from repo_builder.steps import _keep

RANGES = "fp16-ranges"
RANKED = "sensitivity"
_FP16_LARGEST = 65504
_SET = "or set `gates: {max_difference: ...}` if that is right"
_WAYS_OUT = {
    "fp32": "use another target",
    "bf16": "use target `cpu`",
    "fp16": "write `precision: fp32` where the target has it",
    "int8": "exclude nodes from quantization, take another precision",
}
_HAS_SCALES = "take another target, give the floating-point model that it was quantized from"
"""For a model with scales of its own, which this tool did not quantize."""

_SHOWN = 2
"""Nodes that a note names."""

Entries: TypeAlias = Mapping[str, Entry | None]
"""Steps of a variant by name."""


def differences(verified: Entry) -> dict[str, Difference]:
    """Output -> how far it lies from the source's."""
    facts: Any = verified.facts
    shown = Difference.__dataclass_fields__
    return {
        one["name"]: Difference(**{key: value for key, value in one.items() if key in shown})
        for one in facts["outputs"]
    }


def comparison(entries: Entries, verified: Entry, spec: Spec) -> Comparison:
    """What was compared, and with which limits."""
    facts: Any = verified.facts
    ranges: Any = entries.get(RANGES)
    headroom: float | None = ranges.facts["headroom"] if ranges else None
    widened = spec.gates.max_difference
    return Comparison(
        rows=facts["rows"],
        origin=facts["origin"],
        arithmetic=facts["arithmetic"],
        limits=facts["limits"],
        reason=widened.reason if widened else "",
        headroom=headroom,
    )


def failures(entries: Entries, verified: Entry) -> list[str]:
    """One line for all that is beyond the limits; [] where nothing is."""
    facts: Any = verified.facts
    if not facts["broken"]:
        return []
    said = [*facts["broken"]]
    if facts["first"]:
        said.append(f"it begins at {facts['first']}")
    if over := _overflow(entries.get(RANGES)):
        said.append(f"fp16 ends at {_FP16_LARGEST}, but on these rows reach: {over}")
    imported = entries.get("import")
    has_scales = bool(imported and imported.facts.get("quantized"))
    said.append(_way_out(facts, has_scales))
    return ["; ".join(said)]


def _way_out(facts: Any, has_scales: bool) -> str:
    """What to do about the differences of `verify`'s facts; `has_scales`: the source's own.

    No limit of a spec lets other shapes, NaN or infinities pass.
    """
    if len(facts["unproven"]) == len(facts["broken"]):
        return "give evaluation or calibration data on which it is a number"
    way_out = _HAS_SCALES if has_scales else _WAYS_OUT[facts["arithmetic"]]
    without_limit = any(one["shape"] or one["misplaced"] for one in facts["outputs"])
    return way_out if without_limit else f"{way_out}, {_SET}"


def changes(entries: Entries) -> list[str]:
    """What was left in fp32 of a model in fp16."""
    compiled = entries.get("compile-onnxruntime")
    kept: Any = compiled.facts.get("kept") if compiled else None
    if not kept:
        return []
    nodes = f"{len(kept)} nodes stay in fp32, since fp16 ends at {_FP16_LARGEST}"
    return [f"{nodes}, but on these rows reach: {_overflow(entries.get(RANGES))}"]


def warnings(entries: Entries) -> tuple[str, ...]:
    """What a user should look at before trusting the model, in a sentence each."""
    trained = entries.get("train")
    if trained is None or not trained.facts["diverged"]:
        return ()
    why, best = trained.facts["stopped"], trained.facts["best_epoch"]
    return (f"training ended as {why}; epoch {best} is kept: try a lower learning rate",)


def notes(entries: Entries) -> tuple[str, ...]:
    """How the net was trained, what int8 was kept from and why, what has 4 bits, what was repaired.

    A sentence each.     What mixed precision leaves is told by layer, not by node.
    """
    steps = ("quantize", "quantize-weights", "compile-openvino")
    made = next((entries[step] for step in steps if entries.get(step)), None)
    facts: Any = made.facts if made else {}
    ranked = entries.get(RANKED)
    said = list(_trained(entries.get("train")))
    said += [_mixed(ranked.facts)] if ranked and _out_of_int8(ranked.facts) else []
    all_left: Mapping[str, str] = facts.get("left") or {}
    if left := {name: why for name, why in all_left.items() if not _keep.is_ranked(why)}:
        first = sorted(left.items(), key=lambda one: one[1].startswith("feeds "))
        stays = "stays" if len(left) == 1 else "stay"
        names = _some([f"'{name}' {why}" for name, why in first], "; ")
        said.append(f"{_nodes(left)} {stays} in floating point: {names}")
    if uneven := facts.get("balanced"):
        names = _some([f"'{name}' ({factor:g}x)" for name, factor in uneven.items()], ", ")
        said.append(f"channels balanced before int8, largest over median: {names}")
    return (*said, *_packed(facts), *_repaired(facts))


def _trained(entry: Entry | None) -> Iterator[str]:
    """How long the build trained the net, and which epoch is kept."""
    if entry is None:
        return
    facts: Any = entry.facts
    epochs, best, score = len(facts["history"]), facts["best_epoch"], facts["score"]
    scored = "" if score is None else f", scored {score:.4g} on validation rows"
    ended = f", ended early ({facts['stopped']})" if facts["stopped"] else ""
    yield f"trained for {epochs} epochs{ended}; epoch {best} is kept{scored}"


def _packed(facts: Mapping[str, Any]) -> Iterator[str]:
    """How many operators have weights in 4 bits, and which others in 8."""
    if in_4_bits := facts.get("in_4_bits"):
        counted = [
            f"{', '.join(f'{count} {kind}' for kind, count in kinds.items())} in {bits} bits"
            for bits, kinds in ((4, in_4_bits), (8, facts["in_8_bits"]))
            if kinds
        ]
        yield f"weights of {'; '.join(counted)}"


def _repaired(facts: Mapping[str, Any]) -> Iterator[str]:
    """What calibration rows were used for beside ranges."""
    if rounded := facts.get("rounded"):
        yield f"weights of {_nodes(rounded)} rounded together, so that errors cancel"
    if corrected := facts.get("corrected"):
        yield f"biases of {_nodes(corrected)} corrected by the mean shift"


def _out_of_int8(ranked: Any) -> list[Any]:
    """The layers that mixed precision leaves in floating point, the worst first."""
    return [layer for layer in ranked["layers"] if layer["form"] != "int8"]


def _mixed(ranked: Any) -> str:
    """Which layers mixed precision leaves, what each alone would cost, and what that wins."""
    left, layers = _out_of_int8(ranked), ranked["layers"]
    narrow = sum(layer["form"] == "weights" for layer in left)
    computes = "computes" if len(left) == 1 else "compute"
    stored = f", {narrow} of them with weights stored in int8" if narrow else ""
    names = _some([f"'{layer['name']}' (alone {layer['error']:.2g})" for layer in left], ", ")
    return (
        f"mixed precision: {len(left)} of {len(layers)} layers {computes} in floating point"
        f"{stored}, so that answers on calibration rows are off by {ranked['error']:.2g} of their "
        f"norm, not {ranked['whole']:.2g}: {names}"
    )


def _nodes(found: Sized) -> str:
    return f"{len(found)} node{'' if len(found) == 1 else 's'}"


def _some(names: Sequence[str], between: str) -> str:
    more = len(names) - _SHOWN
    return between.join(names[:_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _overflow(ranges: Entry | None) -> str:
    """The nodes whose outputs fp16 cannot hold, and what they reach; "" where there are none."""
    if ranges is None:
        return ""
    facts: Any = ranges.facts
    nodes = ", ".join(f"{peak['node']} {peak['value']:.2g}" for peak in facts["overflowing"])
    more = facts["count"] - len(facts["overflowing"])
    return nodes + (f" and {more} more" if more else "")
