"""Shapes of outputs: what follows from the operators, and what runs confirm of a file's claims."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from repo_builder.base.artifact import Tensor
from repo_builder.introspect.graph import Graph

Shape = tuple[int, ...]


def settle(
    graph: Graph, runs: Sequence[Mapping[str, int]], shapes: Sequence[Sequence[Shape]]
) -> tuple[tuple[Tensor, ...], list[str]]:
    """The outputs with their shapes; in words, which claims of the file were wrong.

    `runs` are the sizes of dynamic dimensions in several runs, and `shapes` what every output had
    there. Without any run the file's word stands for outputs whose rank does not follow from the
    operators.
    """
    found, wrong = [], []
    for number, tensor in enumerate(graph.outputs):
        claim = graph.declared.get(tensor.name)
        seen = [shape[number] for shape in shapes]
        known = None if tensor.name in graph.unranked else tensor.shape
        shape = _shape(known, claim, seen, runs)
        found.append(dataclasses.replace(tensor, shape=shape))
        if claim is not None and not _allows(shape, claim):
            said, real = _said(claim), _said(shape)
            wrong.append(f"output '{tensor.name}' is declared {said}, but is {real}")
    return tuple(found), wrong


def _shape(
    known: tuple[int | str, ...] | None,
    claim: tuple[int | str, ...] | None,
    seen: Sequence[Shape],
    runs: Sequence[Mapping[str, int]],
) -> tuple[int | str, ...]:
    """One output's shape from what the operators say (None: no rank), the file, and the runs."""
    if not seen:
        return known if known is not None else claim or ()
    if len({len(shape) for shape in seen}) > 1:
        return known or ()
    rank = len(seen[0])
    base = known if known is not None and len(known) == rank else ("",) * rank
    words = claim if claim is not None and len(claim) == rank else ("",) * rank
    return tuple(
        _size(a, b, [(shape[axis], run) for shape, run in zip(seen, runs, strict=True)])
        for axis, (a, b) in enumerate(zip(base, words, strict=True))
    )


def _size(
    known: int | str, claim: int | str, seen: Sequence[tuple[int, Mapping[str, int]]]
) -> int | str:
    """One dimension: a size that holds in all runs, else a name that does, else ""."""
    for size in (known, claim):
        if isinstance(size, int) and size > 0 and all(size == had for had, _ in seen):
            return size
    for name in (claim, known):
        if isinstance(name, str) and name and all(run.get(name, had) == had for had, run in seen):
            return name
    return ""


def _allows(shape: tuple[int | str, ...], claim: tuple[int | str, ...]) -> bool:
    """Whether a file's claim leaves room for the shape that was found."""
    return len(shape) == len(claim) and all(
        not isinstance(said, int) or said <= 0 or said == real
        for said, real in zip(claim, shape, strict=True)
    )


def _said(shape: tuple[int | str, ...]) -> str:
    return "[" + ", ".join(str(size) or "?" for size in shape) + "]"
