"""The matrix of quantization, method x target, as Markdown: docs/quantization-matrix.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from repo_builder.targets import support
from repo_builder.targets.support.quantization import (
    ACTIVATIONS,
    METHODS,
    OPTIONS,
    REPAIRS,
    WEIGHTS,
    Combination,
)
from repo_builder.targets.types import Target

_HEAD = """# Quantization: what each target computes

Written by `pytest tests/golden --regenerate` from the tables in
`repo_builder/targets/support/`, which also decide what a spec may ask for: what is not here is
refused before anything is built, with the reason and the way out. "Yes" means that the runtime
was seen to compute it, by running it against the same numbers worked out in numpy; TensorRT and
Intel's NPU were not here, what they take is from their makers' documents.

`weights/activations` as in `optimize: {precision: int8, quantization: {weights: ...,
activations: ...}}`: `dynamic` activations are rounded to 8 bits with ranges found at run time,
`none` stay in floating point. [Optimizing](optimizing.md) says what to choose.
"""


def page(targets: Iterable[Target]) -> str:
    """The whole page: an overview of all targets, then each kind of target in full."""
    listed = list(targets)
    kinds: dict[tuple[str, ...], list[Target]] = {}
    for target in listed:
        rows = tuple(row.model_dump_json() for row in _rows(target))
        kinds.setdefault(rows, []).append(target)
    sections = (_section(list(_rows(named[0])), named) for named in kinds.values())
    return "\n".join([_HEAD, _overview(listed), "", *sections]).rstrip() + "\n"


def _rows(target: Target) -> Iterator[Combination]:
    for weights in WEIGHTS:
        for activations in ACTIVATIONS:
            yield support.combination(target, weights, activations)


def _overview(targets: Iterable[Target]) -> str:
    names = [f"{w}/{a}" for w in WEIGHTS for a in ACTIVATIONS]
    lines = [f"| target | floating point | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    for target in targets:
        floats = ", ".join(p for p in ("fp32", "fp16") if p in target.precisions) or "none"
        quantized = "int8" in target.precisions
        cells = ("yes" if row.computed and quantized else "no" for row in _rows(target))
        lines.append(f"| `{target.name}` | {floats} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _section(rows: list[Combination], targets: list[Target]) -> str:
    table = support.of(targets[0].runtime)
    offered = [target for target in targets if "int8" in target.precisions]
    lines = [f"## {table.runtime}: {', '.join(target.name for target in targets)}", ""]
    lines += [f"- {precision}: {how}." for precision, how in table.floating.items()]
    mixed = table.mixed or f"refused: {table.why_not_mixed}"
    lines.append(f"- Mixed precision (`keep_float`): {mixed}.")
    if len(offered) < len(targets):
        without = ", ".join(t.name for t in targets if t not in offered)
        lines.append(f"- No integers on {without}.")
    lines += [
        "",
        "| weights/activations | computed | of | zero points | scales | ranges | repair |",
    ]
    lines.append("|---" * 7 + "|")
    refused = []
    for row in rows:
        name = f"{row.weights}/{row.activations}"
        if row.why_not:
            refused.append(f"- {name}: {row.why_not}; {row.instead}.")
            continue
        cells = (
            row.computed,
            row.operators,
            _options(row, ("asymmetric", "symmetric")),
            _options(row, ("per channel", "per tensor")),
            _options(row, METHODS),
            _options(row, REPAIRS),
        )
        lines.append(f"| {name} | {' | '.join(cells)} |")
    lines += ["", *_lacking(rows)]
    if refused:
        lines += ["", "Refused:", "", *refused]
    return "\n".join([*lines, ""])


def _options(row: Combination, options: Iterable[str]) -> str:
    """Those that it has, what a spec gets that says nothing in bold."""
    default = {"symmetric" if row.symmetric else "asymmetric", *row.repair}
    if "per channel" not in row.lacks:
        default.add("per channel")
    if "minmax" not in row.lacks:
        default.add("minmax")
    has = row.having(*options)
    return ", ".join(f"**{name}**" if name in default else name for name in has) or "none"


def _lacking(rows: Iterable[Combination]) -> Iterator[str]:
    """Why options are missing: a line for each reason."""
    reasons: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for option in OPTIONS:
            if option in row.lacks:
                name = f"{row.weights}/{row.activations}"
                reasons.setdefault(row.lacks[option], {}).setdefault(name, []).append(option)
    for reason, missing in reasons.items():
        parts = [f"{', '.join(options)} with {name}" for name, options in missing.items()]
        yield f"- No {'; '.join(parts)}: {reason}."
