"""Writes a build context: a folder that a plain `docker build` turns into the image.

Dockerfile  README.md  tools/  wheels/  rootfs/     what the image is made of
compiler/                                           what builds TensorRT plans, where asked for
models/<name>/                                      a layer each
trust/                                              manifest, signature, trusted keys
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from repo_builder import __version__
from repo_builder.base import templates
from repo_builder.base.errors import UsageError
from repo_builder.images import wheels
from repo_builder.images.manifest import Manifest
from repo_builder.images.pins import TOOLS, Pins
from repo_builder.images.trust import Key

_PACKAGE = Path(__file__).parent
_INSIDE = _PACKAGE / "inside"
# Data of another room: the Python-based backends that stand in for Triton's C++ ones.
_BACKENDS = _PACKAGE.parent / "serve" / "backends"
# What `repo_builder.trt` is made of: it runs in a stage, and in an image, that have nothing but
# Python and TensorRT.
_PROGRAM = (
    *("__init__", "base/__init__"),
    *("base/console", "base/digest", "base/errors", "base/http_request"),
    *(
        "trt/__init__",
        "trt/__main__",
        "trt/engine",
        "trt/first_start",
        "trt/probe",
        "trt/record",
        "trt/reload",
        "trt/request",
        "trt/timings",
    ),
)

LABEL = "io.repo-builder"


@dataclass(frozen=True)
class Context:
    """A written context.

    `base` is the image that it is built on, `layers` those of the family's Dockerfile, lowest
    first, and `labels` are those of the final image.
    """

    folder: Path
    manifest: Manifest
    base: str
    platform: str
    layers: tuple[str, ...]
    labels: Mapping[str, str]


def write(
    manifest: Manifest,
    folder: Path,
    pins: Pins,
    cache: Path,
    *,
    platform: str | None = None,
    base: str | None = None,
    key: Key | None = None,
) -> Context:
    """Write the context of a target's image to `folder`, replacing an earlier one.

    `platform` is one of the target's (default: its first), `base` replaces the pinned base image.
    With `key` the manifest is signed, and the container insists on that. Needs no engine; wheels
    come from `cache` or through pip.
    """
    family_name, family = pins.family(manifest.target)
    platform = pins.platform(manifest.target, platform)
    architecture = platform.split("/")[1]
    base = base or family.base
    if not base:
        raise UsageError(
            f"images for {manifest.target} have no base that could be pulled: make one "
            "(docs/images.md), and name it by --base, or in pins.yaml as "
            f"`families: {{{family_name}: {{base: ...}}}}`"
        )
    labels = _labels(manifest, base)
    planned = [model.name for model in manifest.models if model.planned]
    if planned and family.compiler is None:
        raise UsageError(
            f"{planned[0]}: the family '{family_name}' has no stage that builds TensorRT plans; "
            "use `compile_at: device`, or a family on NVIDIA's images"
        )
    later = [m.name for m in manifest.models if m.later] if family.compiler is not None else []
    if planned and later:
        raise UsageError(
            f"{planned[0]} gets its plan with the image, {later[0]} on the device: one image has "
            "one place; write the same `compile_at` for both"
        )
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".context-", dir=folder.parent))
    try:
        tools = wheels.fetch(TOOLS, pins.packages, family.python or "3.11", architecture, cache)
        packages = wheels.fetch(family.packages, pins.packages, family.python, architecture, cache)
        _fill_tools(draft, tools, packages)
        _fill_rootfs(draft / "rootfs", family.backends)
        _fill_models(draft, manifest, key)
        compiler: list[Path] = []
        if planned or later:
            names = family.compiler or ()
            compiler = wheels.fetch(names, pins.packages, family.python, architecture, cache)
        if planned:
            _fill_compiler(draft / "compiler", compiler)
        elif later:
            _fill_first_start(draft, compiler)
        dockerfile = f"{family_name}.Dockerfile.j2"
        text = templates.load(dockerfile, "dockerfiles", strip_blocks=True).render(
            title=f"Triton for {manifest.target}",
            target=manifest.target,
            builder=__version__,
            base=base,
            python=family.python,
            pip=f"tools/wheels/{tools[0].name}",
            layers=family.layers,
            backends=_backends(manifest),
            models=[model.name for model in manifest.models],
            planned=planned,
            later=bool(later),
            compiler=[wheel.name for wheel in compiler],
            labels=labels,
        )
        (draft / "Dockerfile").write_text(text, encoding="utf-8")
        (draft / "README.md").write_text(_readme(manifest, base, platform), encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
        draft.chmod(0o755)
        draft.rename(folder)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return Context(folder, manifest, base, platform, family.layers, labels)


def _labels(manifest: Manifest, base: str) -> dict[str, str]:
    """OCI's labels, and ours that tie the image to its manifest."""
    oci = "org.opencontainers.image"
    name, _, base_digest = base.partition("@")
    labels = {
        f"{oci}.title": f"Triton for {manifest.target}",
        f"{oci}.description": ", ".join(f"{m.name} {m.version}" for m in manifest.models),
        f"{oci}.version": manifest.digest[:12],
        f"{oci}.base.name": name,
        f"{oci}.base.digest": base_digest,
        f"{LABEL}.target": manifest.target,
        f"{LABEL}.builder": __version__,
        f"{LABEL}.manifest": f"sha256:{manifest.digest}",
    }
    return {name: value for name, value in labels.items() if value}


def _backends(manifest: Manifest) -> list[str]:
    """The backends that the models' configurations name; those that are never used do not count."""
    found = set()
    for model in manifest.models:
        home = manifest.folder / "models" / model.name
        configs = [home / name for name in model.files if re.fullmatch(r"configs/.*\.pbtxt", name)]
        for path in configs if model.planned else [home / "config.pbtxt", *configs]:
            text = path.read_text("utf-8")
            found.update(re.findall(r'^\s*backend:\s*"([\w-]+)"', text, re.MULTILINE))
    return sorted(found)


def _fill_tools(draft: Path, tools: list[Path], packages: list[Path]) -> None:
    (draft / "tools" / "wheels").mkdir(parents=True)
    (draft / "wheels").mkdir()
    for name in ("slim.py", "contents.py", "elf.py"):
        shutil.copyfile(_INSIDE / name, draft / "tools" / name)
    for path in tools:
        _place(path, draft / "tools" / "wheels" / path.name)
    for path in packages:
        _place(path, draft / "wheels" / path.name)


def _fill_rootfs(rootfs: Path, backends: tuple[str, ...]) -> None:
    shutil.copytree(_INSIDE / "rootfs", rootfs)
    ours = rootfs / "opt" / "repo-builder"
    ours.mkdir(parents=True)
    for name in ("start.py", "check.py", "health.py"):
        shutil.copyfile(_INSIDE / name, ours / name)
    (rootfs / "usr" / "bin").mkdir(parents=True)
    for name in ("sh", "bash"):
        shutil.copyfile(_INSIDE / "exec_only.py", rootfs / "usr" / "bin" / name)
    for name in backends:
        home = rootfs / "opt" / "tritonserver" / "backends" / name
        shutil.copytree(_BACKENDS / name, home, ignore=shutil.ignore_patterns("__pycache__"))
        for shared in _BACKENDS.glob("*.py"):
            shutil.copyfile(shared, home / shared.name)


def _fill_program(home: Path) -> None:
    for name in _PROGRAM:
        target = home / "repo_builder" / f"{name}.py"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(_PACKAGE.parent / f"{name}.py", target)


def _fill_first_start(draft: Path, packages: list[Path]) -> None:
    ours = draft / "rootfs" / "opt" / "repo-builder"
    shutil.copyfile(_INSIDE / "first_start.py", ours / "first_start.py")
    _fill_program(ours / "first-start")
    for path in packages:
        _place(path, draft / "wheels" / path.name)


def _fill_compiler(home: Path, packages: list[Path]) -> None:
    _fill_program(home)
    for name in ("plans.py", "check.py"):
        shutil.copyfile(_INSIDE / name, home / name)
    for path in packages:
        _place(path, home / "wheels" / path.name)


def _fill_models(draft: Path, manifest: Manifest, key: Key | None) -> None:
    for model in manifest.models:
        for name in model.files:
            path = Path("models", model.name, name)
            _place(manifest.folder / path, draft / path)
    (draft / "models").mkdir(exist_ok=True)
    trust = draft / "trust"
    trust.mkdir()
    (trust / "manifest.json").write_bytes(manifest.text)
    if key is not None:
        (trust / "manifest.json.sig").write_bytes(key.sign(manifest.text))
        (trust / "trusted").mkdir()
        (trust / "trusted" / f"{key.name}.pub").write_bytes(key.pem)


def _place(source: Path, target: Path) -> None:
    """Put a file where it is needed, as a hard link where the container's user can read it so."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.stat().st_mode & 0o004:
        try:
            os.link(source.resolve(), target)
            return
        except OSError:
            pass  # another file system, or one without links: a copy does as well
    shutil.copyfile(source, target)
    target.chmod(0o644)


def _readme(manifest: Manifest, base: str, platform: str) -> str:
    rows = "\n".join(f"| {m.name} | {m.version} | {m.digest[:12]} |" for m in manifest.models)
    return f"""# Build context of the image for {manifest.target}

Complete: it needs the base image `{base}` and no network.

    docker build --network none --platform {platform} --tag repo-builder/{manifest.target} .

`repo-builder images build` makes the same image with fixed times, so that the same inputs give
the same image id. `tools/slim.py` picks what the image needs, `wheels/` is what it picks from,
`rootfs/` is copied as it is, `trust/` holds the manifest that the container checks at its start.

| model | version | digest |
|---|---|---|
{rows}
"""
