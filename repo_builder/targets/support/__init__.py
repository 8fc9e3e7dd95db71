"""What each runtime can take, asked before any work: one table a runtime, read into `Support`.

`advise`, `plan` and `build` ask the same table, so that none says yes where another says no. A
table says what a runtime certainly lacks, with its source; what it does not mention is left to
the compiler. Facts about devices (speed, memory, what an engine accelerates) are in `catalog/`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import cast

from repo_builder.base import document, validate
from repo_builder.base.artifact import Contents, Operator
from repo_builder.base.errors import Problem, SpecError
from repo_builder.targets.support.quantization import Combination, find, offered
from repo_builder.targets.types import (
    ActivationType,
    Many,
    Runtime,
    Shape,
    Some,
    Source,
    Target,
    Text,
    WeightType,
)

_FOLDER = Path(__file__).parent
# Vela compiles what the TFLite writer wrote.
_TABLES: dict[Runtime, str] = {"vela": "tflite-micro"}
_ELSEWHERE = ", or build it for cpu, where ONNX Runtime runs it"
_OF_TYPES = dict.fromkeys(("FP64", "FP16", "BF16"), "export the model in float32")
_MANY = 3
"""Kinds of operators that are named before the rest is only counted."""


class Support(Shape):
    """One table.

    `domains` are the operator sets that the runtime knows beside ONNX's own; None: any. Of ONNX's
    operators it certainly lacks `lacks`. `types` are the element types that its inputs and outputs
    may have. `instead` is the way out; `ways_out` has better ones for single operators.
    `quantization` has a row for every combination; `floating` says how precisions in floating
    point are computed. `mixed` says how layers that int8 harms are, or `why_not_mixed` none is.
    """

    runtime: Text
    sources: Some[Source]
    instead: Text
    types: Some[Text]
    domains: Many[Text] | None = ()
    lacks: Many[Text] = ()
    ways_out: dict[str, str] = {}  # noqa: RUF012 - pydantic copies defaults
    quantization: Some[Combination]
    floating: Mapping[str, Text] = {}
    mixed: str = ""
    why_not_mixed: str = ""

    def problems(self, contents: Contents, *, elsewhere: bool = False) -> list[Problem]:
        """Why the runtime cannot take a model: a line for each kind of operator or type.

        With `elsewhere` the way out also names ONNX Runtime, which takes most.
        """
        operators = self._of_operators(contents, elsewhere)
        return [*operators, *self._of_types(contents, elsewhere)]

    def _of_operators(self, contents: Contents, elsewhere: bool) -> Iterator[Problem]:
        missing = [operator for operator in contents.operators if not self._knows(operator)]
        for operator in missing[:_MANY]:
            name = f"{operator.domain}.{operator.type}" if operator.domain else operator.type
            nodes = "1 node" if operator.count == 1 else f"{operator.count} nodes"
            more = len(missing) - _MANY
            last = operator is missing[:_MANY][-1]
            rest = f", nor {more} other kinds of operator" if more > 0 and last else ""
            yield Problem(
                f"{self.runtime} has no {name} ({nodes}, first '{operator.first}'){rest}",
                self.ways_out.get(operator.type, self.instead) + (_ELSEWHERE if elsewhere else ""),
            )

    def _knows(self, operator: Operator) -> bool:
        if operator.domain:
            return self.domains is None or operator.domain in self.domains
        return operator.type not in self.lacks

    def _of_types(self, contents: Contents, elsewhere: bool) -> Iterator[Problem]:
        foreign: dict[str, list[str]] = {}
        for name, kind in contents.types.items():
            if kind and kind not in self.types:
                foreign.setdefault(kind, []).append(name)
        for kind, names in foreign.items():
            what = f"{self.runtime} takes no {kind} as input or output ('{names[0]}')"
            fix = _OF_TYPES.get(kind, self.instead)
            yield Problem(what, fix + (_ELSEWHERE if elsewhere else ""))


@cache
def of(runtime: Runtime) -> Support:
    """The table of a runtime."""
    path = _FOLDER / f"{_TABLES.get(runtime, runtime)}.yaml"
    read, problems = document.read(path)
    checked, found = (None, problems) if read is None else validate.check(Support, read)
    if checked is None:
        raise SpecError(f"{path.name}: is not a table of support:", found)
    return cast(Support, checked)


def combinations(target: Target) -> list[Combination]:
    """The combinations of weights and activations that a target computes."""
    device = target.openvino.device if target.openvino else ""
    return offered(of(target.runtime).quantization, device)


def combination(target: Target, weights: WeightType, activations: ActivationType) -> Combination:
    """What the table of a target's runtime says of a combination on this target."""
    device = target.openvino.device if target.openvino else ""
    return find(of(target.runtime).quantization, weights, activations, device)
