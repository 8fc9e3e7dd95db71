"""Reads spec files: every problem of every file at once, or a list of resolved specs.

A file is read, laid over its folder's `defaults.yaml`, and for each of its targets over that
target's overrides; each result is validated, then resolved with every path made absolute.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, cast

from repo_builder.base import document, validate
from repo_builder.base.document import Document
from repo_builder.base.errors import Problem, SpecError, did_you_mean
from repo_builder.spec import resolve_pipeline, teachers, tuning, types
from repo_builder.spec.raw import RawSpec
from repo_builder.spec.raw_pipeline import RawPipeline
from repo_builder.spec.resolve import resolve
from repo_builder.targets import Target

DEFAULTS = "defaults.yaml"
_NO_SPECS = (DEFAULTS, "pins.yaml", tuning.TUNING)
"""Files that stand beside specs: what a folder's specs share, and what images are made of."""

OWN = ("kind", "name", "version", "source")
"""What each spec says for itself; no defaults.yaml may."""

Specs = list[Union[types.Spec, types.Pipeline]]
"""Models and pipelines for their targets."""

_FILES = (
    ("source", "onnx"),
    ("source", "torch", "weights"),
    *(("optimize", "train", name) for name in ("data", "validation")),
    ("optimize", "train", "own", "file"),
    *(("data", kind, "path") for kind in ("calibration", "evaluation", "confidence")),
)


def load(roots: Iterable[Path], targets: Mapping[str, Target]) -> Specs:
    """All specs of the given files and folders, one for each of their targets, by identifier.

    A folder stands for the `*.yaml` and `*.yml` files directly in it, less `defaults.yaml` and
    `pins.yaml`.
    Raises SpecError with all problems of all files.
    """
    problems: list[Problem] = []
    specs: Specs = []
    defaults: dict[Path, Document | None] = {}
    named: dict[str, Document] = {}
    tunings: dict[Path, dict[str, tuning.Tuning]] = {}
    for path in _files(roots, problems):
        if path.parent not in defaults:
            defaults[path.parent] = _defaults(path.parent / DEFAULTS, problems)
        whole, unread = _read(path, defaults[path.parent])
        problems += unread
        if whole is None:
            continue
        problems += _duplicates(whole, named)
        resolved, found = _specs(path, whole, targets)
        lines = {(problem.file, problem.line) for problem in unread}
        problems += [problem for problem in found if (problem.file, problem.line) not in lines]
        if path.parent not in tunings:
            tunings[path.parent] = tuning.read(path.parent, problems)
        specs += [_tuned(spec, tunings[path.parent]) for spec in resolved]
    if problems:
        unique = sorted(set(problems), key=lambda p: (p.file, p.line, p.field, p.what))
        count = f"{len(unique)} problem{'s' if len(unique) > 1 else ''}"
        raise SpecError(f"the specs have {count}:", unique)
    return sorted(teachers.attach(list(_with_clouds(specs))), key=lambda spec: spec.id)


def _tuned(
    spec: types.Spec | types.Pipeline, found: Mapping[str, tuning.Tuning]
) -> types.Spec | types.Pipeline:
    """The spec with its entry of the folder's `tuning.yaml`, where there is one."""
    if isinstance(spec, types.Spec) and spec.id in found:
        return dataclasses.replace(spec, tuning=found[spec.id])
    return spec


def document_of(path: Path) -> Document:
    """The spec file at `path` over its folder's defaults, not validated; files need not exist.

    SpecError with all problems where it cannot be read.
    """
    problems: list[Problem] = []
    whole, unread = _read(path, _defaults(path.parent / DEFAULTS, problems))
    problems += unread
    if whole is None or problems:
        raise SpecError(f"{path} cannot be read:", problems)
    return whole


def _files(roots: Iterable[Path], problems: list[Problem]) -> list[Path]:
    """The spec files that `roots` stand for, each once."""
    files: dict[Path, Path] = {}
    for root in roots:
        try:
            found = _in_folder(root) if root.is_dir() else [root]
            if not found:
                fix = "write one with `repo-builder init MODEL.onnx`"
                problems.append(Problem("no spec files (*.yaml) in this folder", fix, str(root)))
            for path in found:
                files.setdefault(path.resolve(strict=True), path)
        except FileNotFoundError:
            problems.append(Problem("no such file or folder", "check the path", str(root)))
        except (OSError, RuntimeError) as failure:  # RuntimeError: links in a circle
            what = failure.strerror if isinstance(failure, OSError) else "links in a circle"
            problems.append(Problem(what or "cannot be read", "check the path", str(root)))
    return list(files.values())


def _in_folder(root: Path) -> list[Path]:
    found = [path for path in root.iterdir() if path.suffix in (".yaml", ".yml")]
    return sorted(path for path in found if path.name not in _NO_SPECS and not path.is_dir())


def _defaults(path: Path, problems: list[Problem]) -> Document | None:
    """What a folder's specs share; None where there is no such file, or it cannot be used."""
    if not path.exists():
        return None
    defaults, found = document.read(path)
    problems += found
    if defaults is None:
        return None
    if not isinstance(defaults.value, dict):
        problems.append(defaults.problem((), "must be a mapping of keys to values"))
        return None
    for key in OWN:
        if key in defaults.value:
            what = "cannot be shared by all models of a folder"
            problems.append(defaults.problem((key,), what, "move it into each spec"))
    return defaults


def _read(path: Path, defaults: Document | None) -> tuple[Document | None, list[Problem]]:
    """A spec file over its folder's defaults; None where it cannot be used at all."""
    own, problems = document.read(path)
    if own is None:
        return None, problems
    if not isinstance(own.value, dict):
        return None, problems or [own.problem((), "must be a mapping of keys to values")]
    if defaults is None:
        return own, problems
    shared = document.pick(defaults, RawPipeline.model_fields) if _is_pipeline(own) else defaults
    return document.overlay(shared, own), problems


def _is_pipeline(whole: Document) -> bool:
    return bool(whole.value.get("kind") == "pipeline")


def _duplicates(whole: Document, named: dict[str, Document]) -> list[Problem]:
    name = whole.value.get("name")
    if not isinstance(name, str):
        return []
    first = named.setdefault(name, whole)
    if first is whole:
        return []
    at = first.place(("name",))
    what = f"'{name}' is also the name of the model at {at.file}:{at.line}"
    return [whole.problem(("name",), what, "rename one of them")]


def _specs(
    path: Path, whole: Document, targets: Mapping[str, Target]
) -> tuple[Specs, list[Problem]]:
    """The specs of one file. What does not hang together is told even where the shape is wrong."""
    shape = RawPipeline if _is_pipeline(whole) else RawSpec
    raw, problems = validate.check(shape, whole)
    problems += _wrong_targets(path, whole, targets)
    problems += _missing_files(path, whole)
    if raw is None:
        return [], problems
    specs: Specs = []
    for name in dict.fromkeys(cast(Union[RawSpec, RawPipeline], raw).targets):
        if name not in targets:
            continue
        merged, for_target = whole, raw
        if name in whole.value.get("overrides", {}):
            merged = document.overlay(whole, document.part(whole, ("overrides", name)))
            checked, found = validate.check(shape, merged)
            problems += found
            if checked is None:
                continue
            for_target = checked
        resolved: types.Spec | types.Pipeline
        if isinstance(for_target, RawPipeline):
            resolved, found = resolve_pipeline.resolve(for_target, merged, path, targets[name])
        else:
            resolved, found = resolve(cast(RawSpec, for_target), merged, path, targets[name])
        specs.append(resolved)
        problems += found
    return specs, problems


def _with_clouds(specs: Specs) -> Iterator[types.Spec | types.Pipeline]:
    """The specs, each that falls back on another of them with that one's source."""
    sources = {  # what a build trains is known once it is built
        spec.name: spec.source
        for spec in specs
        if isinstance(spec, types.Spec) and spec.optimize.train is None
    }
    for spec in specs:
        if isinstance(spec, types.Pipeline):
            yield spec
        elif spec.fallback and spec.fallback.cloud in sources:
            source = sources[spec.fallback.cloud]
            fallback = dataclasses.replace(spec.fallback, cloud_source=source)
            yield dataclasses.replace(spec, fallback=fallback)
        else:
            yield spec


def _at(value: Any, path: Sequence[str]) -> Any:
    """What a document has at `path`; None where it has nothing there."""
    for step in path:
        value = value.get(step) if isinstance(value, dict) else None
    return value


def _mapping(value: Any, path: Sequence[str]) -> dict[str, Any]:
    found = _at(value, path)
    return found if isinstance(found, dict) else {}


def _listed(whole: Document) -> list[str]:
    listed = whole.value.get("targets")
    return [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []


def _wrong_targets(path: Path, whole: Document, targets: Mapping[str, Target]) -> Iterator[Problem]:
    listed = _listed(whole)
    for i, name in enumerate(listed):
        if name not in targets:
            yield _unknown_target(whole, ("targets", i), name, targets)
        elif name in listed[:i]:
            yield whole.problem(("targets", i), f"'{name}' is listed twice", "keep one")
    for name in _mapping(whole.value, ("overrides",)):
        at = ("overrides", name)
        if name not in targets:
            yield _unknown_target(whole, at, name, targets)
        elif name not in listed and whole.place(at).file == str(path):
            # Overrides of defaults.yaml are for those of the folder that list the target.
            what = f"'{name}' is not among this spec's targets"
            yield whole.problem(at, what, "add it to `targets`")


def _missing_files(path: Path, whole: Document) -> Iterator[Problem]:
    for base in ((), *(("overrides", name) for name in _listed(whole))):
        labels = _mapping(whole.value, (*base, "serving", "labels"))
        steps, sample = (_mapping(whole.value, (*base, key)) for key in ("steps", "sample"))
        for at in (
            *_FILES,
            *(("serving", "labels", output) for output in labels),
            *(("steps", step, "top_k", "labels") for step in steps),
            *(("sample", tensor) for tensor in sample),
        ):
            name = _at(whole.value, (*base, *at))
            if not isinstance(name, str) or (path.parent / name).is_file():
                continue
            what = "is a folder" if (path.parent / name).is_dir() else "no such file"
            fix = f"paths are relative to {path.parent}/"
            yield whole.problem((*base, *at), f"{what}: {name}", fix)


def _unknown_target(
    whole: Document, at: tuple[str | int, ...], name: str, targets: Mapping[str, Target]
) -> Problem:
    return whole.problem(at, f"unknown target '{name}'", did_you_mean(name, targets))


_Any = TypeVar("_Any", types.Spec, types.Pipeline, Union[types.Spec, types.Pipeline])


def select(
    specs: Sequence[_Any], patterns: Sequence[str], targets: Sequence[str] = ()
) -> list[_Any]:
    """The specs whose identifier (`digits@cpu`) matches one of the globs; all where none is given.

    A pattern without '@' matches names. `targets`, where given, keeps only those targets. A
    pipeline brings the models that it is made of. A selection that matches nothing is a UsageError.
    """
    import fnmatch

    from repo_builder.base.errors import UsageError

    if targets:
        had = {spec.target for spec in specs}
        if missing := [target for target in targets if target not in had]:
            raise UsageError(f"no spec is for {' or '.join(missing)}; add it to a spec's targets")
        specs = [spec for spec in specs if spec.target in targets]
    if not patterns:
        return list(specs)
    chosen: set[str] = set()
    for pattern in patterns:
        full = pattern if "@" in pattern else f"{pattern}@*"
        matching = [spec for spec in specs if fnmatch.fnmatchcase(spec.id, full)]
        if not matching:
            hint = did_you_mean(pattern, [spec.id for spec in specs])
            raise UsageError(f"--only {pattern}: no such model@target; {hint}")
        for spec in matching:
            chosen.add(spec.id)
            if isinstance(spec, types.Pipeline):
                chosen.update(f"{model}@{spec.target}" for model in spec.models)
    return [spec for spec in specs if spec.id in chosen]
