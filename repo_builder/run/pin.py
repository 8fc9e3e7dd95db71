"""Pins what a plan depends on: the content of the user's files, and the versions of tools.

Digests are remembered by size, times and inode, as git does, so that a build with nothing to do
reads no large file again.
"""

from __future__ import annotations

import importlib.metadata
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

from repo_builder.base import digest, progress
from repo_builder.base.artifact import Contents, Interface, TensorType
from repo_builder.base.errors import ModelError
from repo_builder.introspect import declared, walk
from repo_builder.nets import imports
from repo_builder.plan import Declaration, Pins
from repo_builder.run import base
from repo_builder.run.store import Store
from repo_builder.spec.released import Released
from repo_builder.spec.types import OnnxSource, Pipeline, Source, Spec

_T = TypeVar("_T")
_Files = dict[str, tuple[Path, str]]
_RACY_NS = 2_000_000_000


def pin(
    specs: Iterable[Spec | Pipeline], declarations: Mapping[str, Declaration], store: Store
) -> Pins:
    """Digest every file that `specs` name, with the external data of their models."""
    cache = _FileCache(store)
    files: dict[Path | Source | Released, _Files] = {}
    interfaces: dict[Source, Interface | None] = {}
    arrays: dict[Path, dict[str, tuple[int, ...]]] = {}
    for spec in specs:
        if isinstance(spec, Pipeline):
            for path in spec.sample.values():
                files[path] = {path.name: (path, cache.sha256(path))}
            continue
        for source in _sources(spec):
            if source not in files:
                files.update(_source(source, cache))
                interfaces[source] = _interface(source, cache)
        if spec.calibration:
            path = spec.calibration.path
            files[path] = {"calibration.npz": (path, cache.sha256(path))}
            arrays[path] = cache.arrays(path)
        if spec.evaluation:
            path = spec.evaluation.path
            files[path] = {"evaluation.npz": (path, cache.sha256(path))}
            arrays[path] = cache.arrays(path)
            if own := spec.evaluation.own:
                files[own.file] = {"metric.py": (own.file, cache.sha256(own.file))}
        if spec.fallback:
            path, cloud = spec.fallback.data, spec.fallback.cloud_source
            files[path] = {"evaluation.npz": (path, cache.sha256(path))}
            if cloud is not None and cloud not in files:
                files.update(_source(cloud, cache))
        if spec.near is not None and spec.near not in files:
            if isinstance(spec.near, Released):
                files[spec.near] = base.files(spec.near, cache.sha256)
            else:
                files.update(_source(spec.near, cache))
        for path in _training_data(spec):
            files.setdefault(path, {path.name: (path, cache.sha256(path))})
    cache.save()
    tools = {tool for declaration in declarations.values() for tool in declaration.tools}
    return Pins(files, {tool: _installed(tool) for tool in sorted(tools)}, interfaces, arrays)


def contents(path: Path, store: Store) -> Contents | None:
    """What the ONNX file at `path` uses; None where it cannot be parsed."""
    cache = _FileCache(store)
    found = cache.contents(path)
    cache.save()
    return found


def without_links(model: Path, folder: Path) -> Path:
    """`model` itself; or a copy in `folder`, where it or its external data are links.

    Hugging Face's cache is such: links beside each other to files that lie apart. A build copies
    what it reads; a runtime that is given the links refuses data outside the model's folder.
    """
    files = {name: model.parent / name for name in (model.name, *_external_data(model))}
    if not any(file.is_symlink() for file in files.values()):
        return model
    for name, file in files.items():
        if file.is_file():  # what is missing, introspection tells
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, folder / name)
    return folder / model.name


def _installed(tool: str) -> str | None:
    try:
        return importlib.metadata.version(tool)
    except importlib.metadata.PackageNotFoundError:
        return None


def _sources(spec: Spec) -> list[Source]:
    """What a spec's model comes from, and its teacher."""
    distill = spec.optimize.distill
    taught: list[Source] = [OnnxSource(distill.onnx)] if distill and distill.onnx else []
    return [spec.source, *taught, *(_sources(spec.teacher) if spec.teacher else [])]


def _training_data(spec: Spec) -> list[Path]:
    """Files of data and code that the net is trained with, and its teacher."""
    train = spec.optimize.train
    if train is None:
        return []
    own = train.own.file if train.own else None
    files = [path for path in (train.data, train.validation, own) if path is not None]
    return files + (_training_data(spec.teacher) if spec.teacher else [])


def _source(source: Source, cache: _FileCache) -> dict[Path | Source | Released, _Files]:
    """The files of a model: its ONNX, or its code, and its weights under their own path."""
    if isinstance(source, OnnxSource):
        return {source: _model(source.file, cache)}
    folder = source.file.parent
    names = imports.beside(source.file, cache.imports)
    code = {str(name): (folder / name, cache.sha256(folder / name)) for name in names}
    found: dict[Path | Source | Released, _Files] = {source: code}
    if source.weights is not None:
        found[source.weights] = {
            "weights.safetensors": (source.weights, cache.sha256(source.weights))
        }
    return found


def _interface(source: Source, cache: _FileCache) -> Interface | None:
    """What a model's file declares; of a PyTorch net what its spec says, its outputs by name."""
    if isinstance(source, OnnxSource):
        return cache.interface(source.file)
    inputs = {
        tensor.name: TensorType(
            tensor.dtype, ("batch", *tensor.shape[1:]) if source.batch else tensor.shape
        )
        for tensor in source.inputs
    }
    return Interface(inputs, {name: TensorType("", None) for name in source.outputs})


def _model(path: Path, cache: _FileCache) -> _Files:
    files = {"model.onnx": (path, cache.sha256(path))}
    for location in cache.external_data(path):
        beside = path.parent / location
        if beside.is_file():  # what is missing or misplaced, the import step tells
            files[location] = (beside, cache.sha256(beside))
    return files


class _FileCache:
    """Path -> what is known of the file, valid while its stamp stays the same."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.known: dict[str, dict[str, Any]] = store.read_json(self._path) or {}
        self.changed = False
        self.seen: set[Path] = set()
        """Files that were looked at by this object, and are not looked at again."""

    @property
    def _path(self) -> Path:
        return self.store.root / "pins.json"

    def sha256(self, path: Path) -> str:
        """The digest of a file's content."""
        return str(self._about(path)["sha256"])

    def external_data(self, path: Path) -> list[str]:
        """Where the ONNX file at `path` keeps weights: names relative to its folder."""
        about = self._about(path)
        if "external" not in about:
            about["external"] = _external_data(path)
            self.changed = True
        return list(about["external"])

    def interface(self, path: Path) -> Interface | None:
        """What the ONNX file at `path` declares of its inputs and outputs."""
        return self._declared(path, "interface", Interface, declared.interface)

    def contents(self, path: Path) -> Contents | None:
        """The operators that the ONNX file at `path` uses, and the types of its ends."""
        return self._declared(path, "contents", Contents, declared.contents)

    def imports(self, path: Path) -> imports.Imports:
        """What the Python file at `path` imports."""
        about = self._about(path)
        if "imports" not in about:
            about["imports"] = imports.imports_of(path)
            self.changed = True
        return list(about["imports"])

    def _declared(
        self, path: Path, name: str, kind: type[_T], read: Callable[[Path], _T | None]
    ) -> _T | None:
        """What `read` finds in the file, kept under `name`; None where that is nothing."""
        from pydantic import TypeAdapter

        about = self._about(path)
        if name not in about:
            found = read(path)
            about[name] = (
                None if found is None else TypeAdapter(kind).dump_python(found, mode="json")
            )
            self.changed = True
            return found
        kept = about[name]
        return None if kept is None else TypeAdapter(kind).validate_python(kept)

    def arrays(self, path: Path) -> dict[str, tuple[int, ...]]:
        """The shapes of the arrays in an .npz file."""
        about = self._about(path)
        if "arrays" not in about:
            about["arrays"] = _array_shapes(path)
            self.changed = True
        return {name: tuple(shape) for name, shape in about["arrays"].items()}

    def _about(self, path: Path) -> dict[str, Any]:
        if path in self.seen:
            return self.known[str(path)]
        try:
            stamp = digest.stamp(path)
            about = self.known.get(str(path))
            if about is None or about.get("stamp") != stamp:
                with progress.copying(f"reading {path.name}", stamp[0]) as read:
                    about = {"stamp": stamp, "sha256": digest.of_file(path, read)}
                if time.time_ns() - stamp[2] < _RACY_NS:
                    about["stamp"] = None  # may change again within the clock's grain
                self.known[str(path)] = about
                self.changed = True
        except OSError as failure:
            raise ModelError(f"{path}: {failure.strerror}") from None
        self.seen.add(path)
        return about

    def save(self) -> None:
        """Keep what was learnt for the next build."""
        if self.changed:
            self.store.write_json(self._path, self.known)


def _array_shapes(path: Path) -> dict[str, list[int]]:
    """Shapes of arrays by name, from their headers; {} where it is no .npz (its step tells why)."""
    import zipfile

    from numpy.lib import format as numpy_format

    npy: Any = numpy_format
    headers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    shapes: dict[str, list[int]] = {}
    try:
        with zipfile.ZipFile(path) as stored:
            for name in stored.namelist():
                with stored.open(name) as file:
                    if read := headers.get(npy.read_magic(file)):  # all of arrays without fields
                        shapes[name.removesuffix(".npy")] = list(read(file)[0])
    except (ValueError, OSError, EOFError, zipfile.BadZipFile):
        return {}
    return shapes


def _external_data(path: Path) -> list[str]:
    """Names of external data files of a model; [] where it cannot be parsed (import tells why)."""
    import onnx
    from google.protobuf.message import DecodeError
    from onnx.external_data_helper import ExternalDataInfo, uses_external_data

    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        return []
    names = {
        ExternalDataInfo(tensor).location
        for tensor in walk.tensors(model)
        if uses_external_data(tensor)
    }
    return sorted(name for name in names if _inside(name))


def _inside(name: str) -> bool:
    location = PurePosixPath(name)
    return bool(name) and not location.is_absolute() and ".." not in location.parts
