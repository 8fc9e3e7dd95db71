"""Turns a raw pipeline into the resolved one for a target, and checks what needs no model."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import cast

from repo_builder.base.digest import Json
from repo_builder.base.document import Document
from repo_builder.base.errors import Problem
from repo_builder.spec import types
from repo_builder.spec.raw_pipeline import KINDS, RawPipeline, RawStage
from repo_builder.targets import Target

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,63}")


def resolve(
    raw: RawPipeline, whole: Document, path: Path, target: Target
) -> tuple[types.Pipeline, list[Problem]]:
    """The resolved form of `raw`, read from `whole` in the file `path`, and what is wrong with it.

    Labels are read; other files become absolute paths. How the stages fit together is asked when
    the models are known: see `repo_builder.plan.wiring`.
    """
    resolver = _Resolver(path, whole)
    return resolver.resolve(raw, target), resolver.problems


class _Resolver:
    def __init__(self, path: Path, whole: Document) -> None:
        self.path = path
        self.whole = whole
        self.problems: list[Problem] = []

    def resolve(self, raw: RawPipeline, target: Target) -> types.Pipeline:
        if target.backend is None:
            at = ("targets", raw.targets.index(target.name))
            self._problem(at, f"{target.name} runs no Triton, so no pipeline", "remove it")
        self._check_names(raw)
        major, minor, patch = (int(part) for part in raw.version.split("."))
        return types.Pipeline(
            name=raw.name,
            version=types.Version(major, minor, patch),
            target=target.name,
            file=self.path,
            inputs=tuple(raw.inputs),
            stages={name: self._stage(name, stage) for name, stage in raw.steps.items()},
            outputs={name: _source(said) for name, said in raw.outputs.items()},
            sample={name: self._file(file) for name, file in raw.sample.items()},
            latency_budget_ms=raw.latency_budget_ms.limits if raw.latency_budget_ms else {},
            budget_rate=raw.latency_budget_ms.rate if raw.latency_budget_ms else None,
            capture_ms=raw.capture_ms,
            transfer_ms=raw.transfer_ms,
            document=self.whole,
        )

    def _stage(self, name: str, raw: RawStage) -> types.Stage:
        kind = cast(types.StageKind, next(k for k in KINDS if getattr(raw, k) is not None))
        given = getattr(raw, kind)
        of, params = (given, {}) if isinstance(given, str) else ("", given.model_dump())
        if raw.top_k is not None:
            params["labels"] = self._labels(("steps", name, "top_k"), raw.top_k.labels, raw.top_k.k)
        inputs = {tensor: _source(said) for tensor, said in raw.inputs.items()}
        return types.Stage(name, kind, of, params, inputs)

    def _labels(self, at: tuple[str, ...], name: str, k: int) -> Sequence[Json]:
        try:
            labels = self._file(name).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError as failure:
            self._problem((*at, "labels"), f"not UTF-8 text (byte {failure.start})", "")
            return []
        except OSError:  # told by `load`, which asks for every file
            return []
        if not 0 < k <= len(labels):
            self._problem((*at, "k"), f"{k}, but {name} has {len(labels)} labels", "write fewer")
        return labels

    def _check_names(self, raw: RawPipeline) -> None:
        """Names that stand before or behind the dot of `step.output`, each for one thing."""
        first: dict[str, tuple[str | int, ...]] = {}
        named: list[tuple[str, tuple[str | int, ...]]] = [
            *((name, ("inputs", i)) for i, name in enumerate(raw.inputs)),
            *((name, ("outputs", name)) for name in raw.outputs),
        ]
        for name, at in [*named, *((name, ("steps", name)) for name in raw.steps)]:
            if not _NAME.fullmatch(name):
                fix = "use letters, digits, '_' and '-', at most 64"
                self._problem(at, f"'{name}' is no name of a tensor or step", fix)
        for name, at in named:
            if name in first:
                line = self.whole.place(first[name]).line
                what = f"'{name}' is written twice: it is also on line {line}"
                self._problem(at, what, "rename one")
            first.setdefault(name, at)
        for name in raw.sample:
            if name not in raw.inputs:
                self._problem(("sample", name), f"the pipeline has no input '{name}'", "remove it")
        for name in raw.inputs:
            if name not in raw.sample:
                fix = f"write `sample: {{{name}: FILE}}`"
                self._problem(("sample",), f"has nothing for the input '{name}'", fix)

    def _file(self, name: str) -> Path:
        return Path(os.path.abspath(self.path.parent / name))  # noqa: PTH100 - links stay

    def _problem(self, at: tuple[str | int, ...], what: str, fix: str) -> None:
        self.problems.append(self.whole.problem(at, what, fix))


def _source(said: str) -> tuple[str, str]:
    """`decode.image` -> ("decode", "image"); `png` -> ("", "png"), an input of the pipeline."""
    stage, dot, tensor = said.partition(".")
    return (stage, tensor) if dot else ("", said)
