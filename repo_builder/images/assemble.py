"""From a stage that an engine built to an image whose id depends on its inputs alone.

An engine stamps times into layers and configuration. So the runtime (all below the models) is
built once by the engine, its layers are written anew with fixed times, and kept in a cache; the
models are layers of their own that never pass through a build. The whole is loaded as an archive.
"""

from __future__ import annotations

import json
import shutil
import tarfile
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from repo_builder.base import digest
from repo_builder.base.errors import ImageError
from repo_builder.images import archive, layers, stages
from repo_builder.images.context import LABEL, Context
from repo_builder.images.engine import Engine
from repo_builder.images.layers import EPOCH, Layer
from repo_builder.images.plans import Plans
from repo_builder.images.trust import Key, statement


@dataclass(frozen=True)
class Runtime:
    """Everything below the models: the configuration that it gives an image, and its layers."""

    config: Mapping[str, Any]
    layers: tuple[Layer, ...]


@dataclass(frozen=True)
class Image:
    """An image that is not loaded anywhere yet: its configuration (JSON) and its layers."""

    config: bytes
    layers: tuple[Layer, ...]

    @property
    def id(self) -> str:
        """The image's id: the digest of its configuration (OCI image-spec, "ImageID")."""
        return f"sha256:{digest.of_bytes(self.config)}"

    @property
    def layers_digest(self) -> str:
        """The digest of all layers' digests, which the image carries as a label."""
        return _layers_digest(self.layers)

    @property
    def disk_size(self) -> int:
        """Bytes of all files."""
        return sum(layer.content for layer in self.layers)

    def stream(self, name: str) -> Iterator[bytes]:
        """The image as an archive that `docker load` and `podman load` take, called `name`."""
        config = digest.of_bytes(self.config) + ".json"
        names = [layer.diff_id.removeprefix("sha256:") + "/layer.tar" for layer in self.layers]
        index = [{"Config": config, "RepoTags": [name], "Layers": names}]
        yield from _member(config, len(self.config), [self.config])
        for path, layer in zip(names, self.layers, strict=True):
            yield from _member(path, layer.size, layer.chunks())
        text = json.dumps(index).encode()
        yield from _member("manifest.json", len(text), [text])
        yield bytes(1024)


def _member(name: str, size: int, chunks: Sequence[bytes] | Iterator[bytes]) -> Iterator[bytes]:
    info = tarfile.TarInfo(name)
    info.size = size
    yield info.tobuf(tarfile.PAX_FORMAT)
    yield from chunks
    if size % 512:
        yield bytes(512 - size % 512)


def runtime(context: Context, engine: Engine, cache: Path, say: Callable[[str], None]) -> Runtime:
    """The runtime of a context, from `cache` or built by the engine."""
    base_id = engine.base(context.base, context.platform)
    key = digest.of_json({"runtime": stages.key(context, stages.RUNTIME), "base": base_id})
    home = cache / "runtimes" / key
    if not (home / "config.json").exists():
        image_id = stages.build(context, stages.RUNTIME, engine, key[:16], say)
        try:
            _normalized(image_id, engine, home, context.layers)
        finally:
            engine.drop(image_id, key[:16])
    config = json.loads((home / "config.json").read_bytes())
    return Runtime(config, tuple(layers.of_tar(n, home / f"{n}.tar") for n in context.layers))


def _normalized(image_id: str, engine: Engine, home: Path, names: tuple[str, ...]) -> None:
    """Save an image and write its layers and configuration with fixed times into `home`."""
    home.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".new-", dir=home.parent))
    try:
        with archive.saved(engine, image_id) as saved:
            config = saved.config
            for number, name in enumerate(names):
                with saved.layer(number) as layer:
                    layers.normalize(layer, draft / f"{name}.tar")
        kept: dict[str, Any] = {
            key: config[key] for key in ("architecture", "os", "variant") if key in config
        }
        wanted = ("Env", "User", "ExposedPorts", "Healthcheck", "Entrypoint", "Cmd", "StopSignal")
        kept["config"] = {k: v for k, v in config["config"].items() if k in wanted and v}
        (draft / "config.json").write_bytes(digest.canonical(kept))
        if home.exists():
            shutil.rmtree(home)
        draft.rename(home)
    except OSError as failure:
        raise ImageError(f"{home}: {failure.strerror or failure}; free some space") from failure
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _layers_digest(found: Sequence[Layer]) -> str:
    return digest.of_json([layer.diff_id for layer in found])


def image(context: Context, below: Runtime, made: Plans | None, key: Key | None) -> Image:
    """The image of a context: its runtime, a layer per model, and what the container trusts."""
    manifest = context.manifest
    found = list(below.layers)
    for model in manifest.models:
        home = context.folder / "models" / model.name
        sources = {name: home / name for name in model.files}
        if made is not None:
            sources.update(made.files(model.name))
        found.append(layers.of_files(f"model {model.name}", f"models/{model.name}", sources))
    trust = context.folder / "trust"
    files: dict[str, Path | bytes] = {
        p.relative_to(trust).as_posix(): p for p in trust.rglob("*") if p.is_file()
    }
    if made is not None:
        files["plans.json"] = made.record
        if key is not None:
            files["plans.json.sig"] = key.sign(made.record)
    if key is not None:
        signed = statement([layer.diff_id for layer in below.layers], below.config["config"])
        files["image.json"], files["image.json.sig"] = signed, key.sign(signed)
    found.append(layers.of_files("manifest", "etc/repo-builder", files))
    diff_ids = [layer.diff_id for layer in found]
    labels = {**context.labels, f"{LABEL}.layers": _layers_digest(found)}
    config = {
        **below.config,
        "created": EPOCH,
        "config": {**below.config["config"], "Labels": labels},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [
            {"created": EPOCH, "created_by": f"repo-builder: {layer.title}"} for layer in found
        ],
    }
    return Image(digest.canonical(config), tuple(found))
