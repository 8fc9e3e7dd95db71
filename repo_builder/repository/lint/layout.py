"""Rules of folders and files: what lies where, and whether the config finds it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from repo_builder.repository.lint.model import Model
from repo_builder.repository.lint.rule import Rule
from repo_builder.repository.lint.types import CONFIG, Edit, Hit
from repo_builder.trt import request
from repo_builder.trt.record import PLAN

_LIFECYCLE = "core/src/model_repository_manager/model_lifecycle.cc"
_MANAGER = "core/src/model_repository_manager/model_repository_manager.cc"


def unreadable(model: Model) -> Iterator[Hit]:
    """A model's folder must be readable."""
    if model.folder_hit:
        yield model.folder_hit


def config_unreadable(model: Model) -> Iterator[Hit]:
    """config.pbtxt must be there and be text protobuf of Triton's ModelConfig."""
    if not model.config_hit or model.folder_hit:
        return
    if model.name.startswith(".") and not (model.folder / CONFIG).exists():
        what = "Triton takes every folder of a repository for a model, and does not start"
        yield Hit(what, fix="move it out of the repository", file="")
    else:
        yield model.config_hit


def name_differs(model: Model) -> Iterator[Hit]:
    """The config's name must be the folder's."""
    if model.raw.name and model.raw.name != model.name:
        yield Hit(
            f"is '{model.raw.name}', but the folder is called '{model.name}'",
            "name",
            "make them equal",
            Edit("name", _text(model.name)),
        )


def name_unusual(model: Model) -> Iterator[Hit]:
    """Names outside letters, digits, '_', '-' and '.' need quoting in URLs and shells."""
    if not all(c.isascii() and (c.isalnum() or c in "_-.") for c in model.name):
        yield Hit(f"'{model.name}' has characters that need quoting", "name", "rename it")


def no_version(model: Model) -> Iterator[Hit]:
    """There must be a version folder that the version policy selects."""
    if model.loaded:
        return
    if not model.versions:
        found = f"; ignored: {', '.join(model.ignored)}" if model.ignored else ""
        what = f"there is no version folder{found}"
        yield Hit(what, fix="put the model's file into a folder called 1", file="")
    else:
        there = ", ".join(map(str, sorted(model.versions)))
        yield Hit(f"selects none of the versions there are: {there}", "version_policy")


def version_ignored(model: Model) -> Iterator[Hit]:
    """Triton passes over folders whose names are no plain whole numbers, with only a log line."""
    for name in model.ignored:
        if name.startswith("."):
            continue
        number = name.lstrip("v0")
        fix = (
            f"call it {number}"
            if re.fullmatch("[0-9]+", number)
            else "move it out of the model's folder"
        )
        yield Hit("is no version number, so Triton ignores this folder", fix=fix, file=name)


def version_huge(model: Model) -> Iterator[Hit]:
    """A version must fit 64 bits: std::stoll throws, and nothing catches it."""
    for version in model.versions:
        if not -(2**63) <= version < 2**63:
            yield Hit("is a version number above 64 bits", fix="rename it", file=str(version))


def version_odd(model: Model) -> Iterator[Hit]:
    """std::stoll reads leading digits and signs: Triton then looks for another folder."""
    if not model.backend:
        return  # an ensemble has no files there
    with os.scandir(model.folder) as entries:
        names = [e.name for e in entries if e.is_dir() and e.name not in model.ignored]
    for version in model.loaded:
        if version < 0:
            yield Hit("is a negative version, which Triton cannot load", file=str(version))
        elif str(version) not in names:
            odd = next((n for n in names if n.lstrip(" +").startswith(str(version))), "?")
            what = f"is taken for version {version}, whose folder is not there"
            yield Hit(what, fix=f"call it {version}", file=odd)


def version_missing(model: Model) -> Iterator[Hit]:
    """A version that the policy names is missing; Triton only logs that."""
    for version in model.config.version_policy.specific.versions:
        if version not in model.versions:
            yield Hit(f"version {version} is not there", "version_policy.specific.versions")


def file_missing(model: Model) -> Iterator[Hit]:
    """The model's file must be in every version folder that is loaded."""
    if not model.backend or not model.file:
        return
    names = {model.file}
    if model.backend == "tensorrt" and model.config.cc_model_filenames:
        # With a file for each compute capability the default one is only the last resort.
        names = set(model.config.cc_model_filenames.values())
    for version in model.loaded:
        folder = model.versions[version]
        for name in sorted(names):
            if name == PLAN and (folder / request.FILE).is_file():
                continue  # the device builds it at its first start: see trt.first_start
            path, file = folder / name, f"{version}/{name}"
            if model.backend == "onnxruntime" and path.is_dir():
                path, file = path / "model.onnx", f"{file}/model.onnx"
            if folder.is_dir() and not path.exists():
                yield Hit("missing", fix=_instead(folder, name), file=file)
            elif path.exists() and not (path.is_file() or path.is_dir()):
                yield Hit("is no file that can be read to its end", file=file)


def _instead(folder: Path, name: str) -> str:
    suffix = Path(name).suffix
    others = sorted(p.name for p in folder.iterdir() if p.suffix == suffix)
    return f'rename {others[0]}, or write default_model_filename: "{others[0]}"' if others else ""


def file_escapes(model: Model) -> Iterator[Hit]:
    """The model's file must lie in the version folder."""
    for field, name in (
        ("default_model_filename", model.raw.default_model_filename),
        *(
            (f'cc_model_filenames["{key}"]', value)
            for key, value in model.raw.cc_model_filenames.items()
        ),
    ):
        if name and not _inside(model.folder / "1" / name, model.folder / "1"):
            yield Hit(f"'{name}' is outside the version folder", field)


def label_missing(model: Model) -> Iterator[Hit]:
    """A label file must exist, relative to the model's folder."""
    for i, output in enumerate(model.config.output):
        path = model.folder / output.label_filename
        if output.label_filename and _inside(path, model.folder) and not path.is_file():
            fix = "labels lie beside config.pbtxt, not in a version folder"
            yield Hit(f"no file '{output.label_filename}'", f"output[{i}].label_filename", fix)


def label_escapes(model: Model) -> Iterator[Hit]:
    """A label file must lie inside the model's folder, links followed."""
    for i, output in enumerate(model.config.output):
        path = model.folder / output.label_filename
        if output.label_filename and not _inside(path, model.folder):
            what = f"'{output.label_filename}' is outside the model's folder"
            yield Hit(what, f"output[{i}].label_filename", "copy it into the folder")


def label_count(model: Model) -> Iterator[Hit]:
    """There should be as many labels as classes, which are the last dimension."""
    for i, output in enumerate(model.config.output):
        path = model.folder / output.label_filename
        if not output.label_filename or not path.is_file() or not output.dims:
            continue
        with path.open("rb") as file:
            lines = sum(1 for _ in file)
        if output.dims[-1] > 1 and lines != output.dims[-1]:
            what = f"{lines} labels for {output.dims[-1]} classes"
            yield Hit(what, f"output[{i}].label_filename")


def _inside(path: Path, folder: Path) -> bool:
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError, ValueError):
        return False


def _text(value: str) -> str:
    return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


ALWAYS = (
    Rule("layout-unreadable", "error", "core", _MANAGER, unreadable),
    Rule("config-unreadable", "error", "core", _MANAGER, config_unreadable),
)
"""Rules for a model whose config may not be there; all others need it."""

RULES = (
    Rule("name-differs", "error", "core", _MANAGER, name_differs),
    Rule("name-unusual", "note", "sense", "docs/lint.md", name_unusual),
    Rule("version-none", "error", "core", _LIFECYCLE, no_version),
    Rule("version-ignored", "warning", "core", _LIFECYCLE, version_ignored),
    Rule("version-huge", "error", "core", _LIFECYCLE, version_huge),
    Rule("version-odd", "error", "backend", _LIFECYCLE, version_odd),
    Rule("version-missing", "warning", "core", _LIFECYCLE, version_missing),
    Rule("file-missing", "error", "backend", "each backend's ModelState", file_missing),
    Rule("file-escapes", "error", "sense", "docs/lint.md", file_escapes),
    Rule("label-missing", "error", "core", "core/src/label_provider.cc", label_missing),
    Rule("label-escapes", "error", "core", "core/src/model.cc", label_escapes),
    Rule("label-count", "warning", "sense", "core/src/label_provider.cc", label_count),
)
