"""A model's folder as Triton's loader sees it, read once and never changed by rules."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from repo_builder.repository import render
from repo_builder.repository.lint import inferred, onnx_io
from repo_builder.repository.lint.positions import Positions
from repo_builder.repository.lint.types import CONFIG, Hit
from repo_builder.targets import Target

LARGEST_CONFIG = 10_000_000
"""A config.pbtxt above this many bytes is not read; a real one has a few thousand."""
CONFIGS = "configs"
NO_VERSIONS = ("warmup", "initial_state", CONFIGS)
"""Folders that are never versions: kWarmupDataFolder and others in Triton's constants.h."""

_DEFAULT_FILES = {
    "onnxruntime": "model.onnx",
    "openvino": "model.xml",
    "tensorrt": "model.plan",
    "pytorch": "model.pt",
    "python": "model.py",
}
_PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan"}


@dataclass
class Model:
    """One model of a repository.

    `raw` is the config as it is written and `config` as Triton completes it from the files
    (AutoCompleteBackendFields in model_config_utils.cc); both None where `config_hit` says why it
    cannot be read. `versions` are the version folders that Triton would find, `ignored` the ones
    it would pass over; `repository` holds the other models, by name. `target` is None where none
    was named. `config_file` is what Triton reads, and `named` what it could be told to read instead
    by --model-config-name.
    """

    folder: Path
    repository: Mapping[str, Model]
    target: Target | None = None
    config_file: str = CONFIG
    named: tuple[str, ...] = ()
    text: str = ""
    raw: Any = None
    config: Any = None
    config_hit: Hit | None = None
    folder_hit: Hit | None = None
    versions: dict[int, Path] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name of the folder, which Triton takes as the model's."""
        return self.folder.name

    @property
    def backend(self) -> str:
        """The backend, also where the config leaves it to the files; "" for an ensemble."""
        return str(self.config.backend)

    @property
    def batched(self) -> bool:
        """Whether full shapes have a batch dimension in front of `dims`."""
        return int(self.config.max_batch_size) > 0

    @cached_property
    def positions(self) -> Positions:
        """Where the fields of the config stand."""
        return Positions(self.text)

    def written(self, path: str) -> bool:
        """Whether the config says something about a field, be it the default."""
        return self.positions.span(path) is not None

    @cached_property
    def loaded(self) -> list[int]:
        """The versions that the version policy selects (VersionsToLoad in model_lifecycle.cc)."""
        newest = sorted(self.versions, reverse=True)
        policy = self.config.version_policy
        if policy.HasField("specific"):
            return [v for v in newest if v in policy.specific.versions]
        if policy.HasField("latest"):
            return newest[: policy.latest.num_versions]
        return newest if policy.HasField("all") else newest[:1]

    @property
    def file(self) -> str:
        """The name of the model's file in a version folder; "" where nothing says it."""
        return str(self.config.default_model_filename)

    @cached_property
    def ios(self) -> dict[int, onnx_io.Io | Hit]:
        """Version -> what its ONNX file takes and gives, or why it cannot be read."""
        found: dict[int, onnx_io.Io | Hit] = {}
        if not self.file.endswith(".onnx"):
            return found
        for version in self.loaded:
            path = self.onnx_path(version)
            if path.is_file():
                try:
                    found[version] = onnx_io.read(path)
                except (onnx_io.NotOnnx, OSError) as failure:
                    found[version] = Hit(str(failure), file=f"{version}/{self.file}")
        return found

    @cached_property
    def onnx(self) -> dict[int, onnx_io.Io]:
        """Those of `ios` that can be read, with shapes of outputs as ONNX Runtime has them."""
        first = [-1] if self.batched else []
        listed = {
            t.name: [*first, *(t.reshape.shape if t.HasField("reshape") else t.dims)]
            for t in self.config.output
        }
        return {
            version: inferred.settled(io, self.onnx_path(version), listed)
            for version, io in self.ios.items()
            if isinstance(io, onnx_io.Io)
        }

    def onnx_path(self, version: int) -> Path:
        """The ONNX file of a version: in a folder of that name, its model.onnx (onnxruntime.cc)."""
        path = self.versions[version] / self.file
        return path / "model.onnx" if path.is_dir() else path

    def parse(self, text: str) -> None:
        """Take `text` as the config; what is wrong with it becomes `config_hit`."""
        from google.protobuf import text_format

        self.text = text
        try:
            self.raw = render.parse(text)
        except (text_format.ParseError, RecursionError, ValueError) as failure:
            self.config_hit = _syntax(failure)
            return
        self.config = _completed(self)

    def instances(self) -> int:
        """How many instances run on the CPU, with Triton's defaults (SetDefaultInstanceCount)."""
        default = 2 if self.backend == "onnxruntime" else 1
        if not self.config.instance_group:
            return default
        groups = [g for g in self.config.instance_group if g.kind in (0, 2)]
        return sum(g.count if g.count > 0 else default for g in groups)

    def parameter(self, key: str) -> str | None:
        """A model-level parameter, or None."""
        if key not in self.config.parameters:
            return None
        return str(self.config.parameters[key].string_value)


def read(
    folder: Path, repository: Mapping[str, Model], target: Target | None, name: str = ""
) -> Model:
    """Read a model's folder; whatever is wrong with it becomes a hit, never an exception.

    With `name` the config is `configs/<name>.pbtxt` where there is one (GetModelConfigPath in
    model_repository_manager.cc).
    """
    model = Model(folder, repository, target)
    if not _is_text(folder.name):
        model.folder_hit = Hit("its name is not UTF-8", fix="rename it", file="")
        return model
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if entry.is_dir())
        if CONFIGS in names:
            files = (folder / CONFIGS).glob("*.pbtxt")
            model.named = tuple(sorted(f.stem for f in files if f.is_file()))
    except OSError as failure:
        model.folder_hit = Hit(f"cannot be read: {failure.strerror}", file="")
        return model
    if name in model.named:
        model.config_file = f"{CONFIGS}/{name}.pbtxt"
    for found in names:
        _classify(model, found)
    _read_config(model)
    return model


def _is_text(name: str) -> bool:
    """Whether the bytes of a file's name are UTF-8, which Python marks where they are not."""
    return not any("\ud800" <= c <= "\udfff" for c in name)


def _classify(model: Model, name: str) -> None:
    """A version folder, as std::stoll and the checks around it see it."""
    if name in NO_VERSIONS:
        return
    number = re.match(r"\s*[+-]?\d+", name, re.ASCII)
    if (len(name) > 1 and name.startswith("0")) or not number:
        model.ignored.append(name)
    else:
        model.versions[int(number.group())] = model.folder / str(int(number.group()))


def _read_config(model: Model) -> None:
    path = model.folder / model.config_file
    try:
        found = path.stat()
        if not stat.S_ISREG(found.st_mode):
            model.config_hit = Hit("is no file that can be read to its end", fix="make it one")
            return
        if found.st_size > LARGEST_CONFIG:
            what = f"{found.st_size} bytes are not read; a config has a few thousand"
            model.config_hit = Hit(what, fix="is it really a config?", line=1)
            return
        model.parse(path.read_bytes().decode())
    except FileNotFoundError:
        model.config_hit = Hit("missing", fix="write one, or serve with auto-completion")
    except OSError as failure:
        model.config_hit = Hit(f"cannot be read: {failure.strerror}")
    except UnicodeDecodeError as failure:
        line = failure.object[: failure.start].count(b"\n") + 1
        model.config_hit = Hit("is no text (not UTF-8)", line=line)


def _syntax(failure: Exception) -> Hit:
    found = re.match(r"(\d+):(\d+) : (.*)", str(failure), re.DOTALL)
    if not found:
        what = "nested too deeply" if isinstance(failure, RecursionError) else str(failure)
        return Hit(what, line=1)
    line, column, what = found.groups()
    what = re.sub(r"^'[^\n]*': ", "", what.replace("\n", " ")).strip()
    what = what.replace('Message type "inference.', 'Message type "')
    return Hit(f"column {column}: {what}", line=int(line))


def _completed(model: Model) -> Any:
    """The config with name, backend, platform and file name filled in from the files."""
    config = type(model.raw)()
    config.CopyFrom(model.raw)
    config.name = config.name or model.name
    if config.platform == "ensemble":
        return config
    backend = config.backend or _backend_from(model, config)
    if backend:
        config.backend = backend
        if not config.platform and backend in _PLATFORMS:
            config.platform = _PLATFORMS[backend]
        if not config.default_model_filename and backend in _DEFAULT_FILES:
            config.default_model_filename = _DEFAULT_FILES[backend]
    return config


def _backend_from(model: Model, config: Any) -> str:
    """The backend that platform, file name or the first version folder's files speak for."""
    for backend, platform in _PLATFORMS.items():
        if config.platform == platform:
            return backend
    if config.platform.startswith("pytorch"):
        return "pytorch"
    for backend, name in _DEFAULT_FILES.items():
        if config.default_model_filename == name:
            return backend
    if config.platform or config.default_model_filename:
        return ""
    folders = sorted(p for p in model.folder.glob("*") if p.is_dir())
    for backend in ("tensorrt", "onnxruntime", "openvino", "pytorch", "python"):
        if folders and (folders[0] / _DEFAULT_FILES[backend]).exists():
            return backend
    # A custom backend is named by the model's name: model.identity.
    return model.name.split(".", 1)[1] if "." in model.name else ""
