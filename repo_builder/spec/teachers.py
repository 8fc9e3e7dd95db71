"""Finds the teachers that specs name among the other specs."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from repo_builder.base.errors import Problem, SpecError, did_you_mean
from repo_builder.spec.types import Pipeline, Spec


def attach(specs: Sequence[Spec | Pipeline]) -> list[Spec | Pipeline]:
    """The specs, each that is taught by another of them with that one's spec.

    A teacher for the same target is preferred; a net is trained alike for all of them. SpecError:
    there is no such spec, or nets teach each other in a circle.
    """
    models = [spec for spec in specs if isinstance(spec, Spec)]
    finder = _Finder(models)
    attached = [finder.with_teacher(s, ()) if isinstance(s, Spec) else s for s in specs]
    if finder.problems:
        raise SpecError("teachers that cannot be had:", sorted(set(finder.problems)))
    return attached


class _Finder:
    def __init__(self, specs: Sequence[Spec]) -> None:
        self.specs = specs
        self.problems: list[Problem] = []

    def with_teacher(self, spec: Spec, taught: tuple[str, ...]) -> Spec:
        """The spec with its teacher, and that with its own; `taught` are those that wait for it."""
        distill = spec.optimize.distill
        if distill is None or distill.onnx is not None:
            return spec
        named = [other for other in self.specs if other.name == distill.teacher]
        if not named:
            names = {other.name for other in self.specs} - {spec.name}
            what = f"no spec '{distill.teacher}' was read; name its file too, or an ONNX file"
            self._problem(spec, what, did_you_mean(distill.teacher, names))
            return spec
        if distill.teacher in (*taught, spec.name):
            circle = " <- ".join((*taught, spec.name, distill.teacher))
            self._problem(spec, f"nets teach each other: {circle}", "leave one `distill` out")
            return spec
        teacher = next((other for other in named if other.target == spec.target), named[0])
        whole = self.with_teacher(teacher, (*taught, spec.name))
        return dataclasses.replace(spec, teacher=whole)

    def _problem(self, spec: Spec, what: str, fix: str) -> None:
        self.problems.append(Problem(what, fix, str(spec.file), field="optimize.distill.teacher"))
