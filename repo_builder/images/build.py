"""The path of an image: repository -> context -> runtime -> image -> engine."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base import console
from repo_builder.base.errors import GateFailed, ImageError, UsageError, disk_fix
from repo_builder.base.progress import counted
from repo_builder.images import assemble, manifest, pins, plans
from repo_builder.images import context as contexts
from repo_builder.images.context import LABEL, Context
from repo_builder.images.engine import Engine
from repo_builder.images.layers import Layer
from repo_builder.images.pins import Budget
from repo_builder.images.trust import Key

# OCI distribution-spec, "Pulling manifests"; a registry's host may stand before it.
_PART = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"(?:[A-Za-z0-9.-]+(?::\d+)?/)?{_PART}(?:/{_PART})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


@dataclass(frozen=True)
class Request:
    """What image to make: of which repository, with what, under which name.

    `folder` is what `repo-builder build` published for one target; the context goes to `out`.
    `name` is `repository[:tag]`; without a tag the manifest's digest is the tag.
    """

    folder: Path
    out: Path
    name: str = ""
    platform: str | None = None
    base: str | None = None
    own_pins: Path | None = None
    key: Key | None = None
    gate: bool = True


@dataclass(frozen=True)
class Built:
    """An image that the engine has: `changed` is False where it had it before."""

    id: str
    repository: str
    tag: str
    changed: bool
    layers: tuple[Layer, ...]

    @property
    def reference(self) -> str:
        """`repository:tag`."""
        return f"{self.repository}:{self.tag}"


def write_context(request: Request) -> Context:
    """Write the build context of a request; needs no engine. ImageError where the disk refuses."""
    table = pins.load(request.own_pins)
    try:
        return contexts.write(
            manifest.read(request.folder),
            request.out,
            table,
            cache_root(),
            platform=request.platform,
            base=request.base,
            key=request.key,
        )
    except OSError as failure:
        what = f"{failure.strerror or failure}; {disk_fix(failure)}"
        raise ImageError(f"{request.out}: {what}") from failure


def build(request: Request, context: Context, engine: Engine, say: Callable[[str], None]) -> Built:
    """Make the image of a written context and load it into the engine.

    Raises ImageError where engine, base image or disk do not play along, GateFailed where the
    image without its models is larger than its target's budget.
    """
    target = context.manifest.target
    repository, tag = split_name(request.name or f"repo-builder/{target}")
    tag = tag or context.manifest.digest[:12]
    made = plans.get_or_build(context, engine, cache_root(), say)
    below = assemble.runtime(context, engine, cache_root(), say)
    if request.gate:
        _, family = pins.load(request.own_pins).family(target)
        check_budget(target, below, family.budget)
    image = assemble.image(context, below, made, request.key)
    wanted = image.id, f"{LABEL}.layers={image.layers_digest}", json.loads(image.config)
    found = engine.find(*wanted)
    if changed := found is None:
        stream = image.stream(f"{repository}:{tag}")
        engine.load(counted(stream, "loading the image", image.disk_size))
        found = engine.find(*wanted)
    if found is None:
        raise ImageError("the engine took the image and does not have it; see its log")
    for name in (tag, "latest"):
        engine.tag(found, repository, name)
    return Built(found, repository, tag, changed, image.layers)


def check_budget(target: str, below: assemble.Runtime, budget: Budget) -> None:
    """GateFailed where the image without models is larger than `budget`."""
    disk = sum(layer.content for layer in below.layers)
    pull = sum(layer.pull_size(cache_root()) for layer in below.layers)
    problems = []
    if disk > budget.disk_mb * 1e6:
        problems.append(f"{console.megabytes(disk)} on disk, budget {budget.disk_mb:g} MB")
    if pull > budget.pull_mb * 1e6:
        problems.append(f"{console.megabytes(pull)} to pull, budget {budget.pull_mb:g} MB")
    if problems:
        raise GateFailed(
            f"the image for {target} is too large without models: {'; '.join(problems)}"
        )


def split_name(name: str) -> tuple[str, str]:
    """`localhost:5000/a/b:tag` -> (`localhost:5000/a/b`, `tag`); UsageError where it is no name."""
    repository, tag = name, ""
    if ":" in name.rpartition("/")[2]:
        repository, _, tag = name.rpartition(":")
        if not _TAG.fullmatch(tag):
            raise UsageError(f"'{tag}' is no image tag; use letters, digits, '_', '.', '-'")
    if not _NAME.fullmatch(repository) or len(repository) > 255:
        raise UsageError(
            f"'{repository}' is no image name; use lower-case letters, digits and . _ - between "
            "them, with / between parts, e.g. registry.example:5000/edge/triton-cpu:1.2"
        )
    return repository, tag


def cache_root() -> Path:
    """Where wheels and runtimes are kept: $REPO_BUILDER_IMAGE_CACHE, or below the user's cache."""
    if own := os.environ.get("REPO_BUILDER_IMAGE_CACHE"):
        return Path(own).absolute()
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home, "repo-builder", "images")
