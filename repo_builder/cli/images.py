"""`repo-builder images`: make, look at, and move images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from repo_builder.base import console
from repo_builder.base.errors import GateFailed, ImageError, UsageError, did_you_mean
from repo_builder.cli import _options

if TYPE_CHECKING:
    from repo_builder.images.build import Built, Request
    from repo_builder.images.context import Context
    from repo_builder.images.engine import Engine

_FOLDER = click.Path(path_type=Path)


@click.group()
def command() -> None:
    """Make, inspect, compare and move images of built repositories."""


@command.command()
@click.argument("folders", nargs=-1, type=_FOLDER)
@click.option(
    "--name",
    default="",
    help="repository[:tag]; for a single folder. [default: repo-builder/TARGET:DIGEST]",
)
@click.option("--base", help="Base image in place of the pinned one.")
@click.option("--platform", help="OCI platform, e.g. linux/arm64. [default: the target's first]")
@click.option("--key", metavar="NAME", help="Sign with this key; see repo-builder keys.")
@click.option("--pins", type=_FOLDER, help="Pins file. [default: ./pins.yaml where it exists]")
@click.option("--context-only", is_flag=True, help="Write the build contexts, build nothing.")
@click.option(
    "--gate/--no-gate", default=True, show_default=True, help="Refuse images over budget."
)
@_options.json_option
def build(
    folders: tuple[Path, ...],
    name: str,
    base: str | None,
    platform: str | None,
    key: str | None,
    pins: Path | None,
    context_only: bool,
    gate: bool,
    as_json: bool,
) -> None:
    """Build an image for each of FOLDERS: build/<target>, or all of build/.

    The context of each stays in build/images/<target>, where a plain docker
    build makes the same image.
    """
    _need_images_extra("building images")
    from repo_builder.images import build as images
    from repo_builder.images import engine, trust

    found = _repositories(folders or (Path("build"),))
    if name and len(found) > 1:
        raise UsageError(f"--name is for one folder, and there are {len(found)}; leave it out")
    if name:
        images.split_name(name)
    signing = trust.key(key) if key else None
    requests = [
        images.Request(f, f.parent / "images" / f.name, name, platform, base, pins, signing, gate)
        for f in found
    ]
    contexts = write_contexts(requests)
    if context_only:
        return
    try:
        running = engine.connect()
    except ImageError as failure:
        lines = "; ".join(map(how_to_build, contexts))
        raise ImageError(f"{failure}. The contexts are written: {lines}") from None
    built = [make(r, c, running) for r, c in zip(requests, contexts, strict=True)]
    if as_json:
        console.out_json(
            [{"id": b.id, "reference": b.reference, "changed": b.changed} for b in built]
        )
        return
    for image in built:
        console.out(image.reference)


def write_contexts(requests: Sequence[Request]) -> list[Context]:
    """Write the build context of each request, and say where."""
    from repo_builder.images import build as images

    contexts = [images.write_context(request) for request in requests]
    for request, context in zip(requests, contexts, strict=True):
        console.say(f"context: {context.folder} ({len(context.manifest.models)} models)")
        if "@sha256:" not in context.base and request.base is None:
            console.warn(f"{context.base} is not pinned by digest; run repo-builder pins update")
    return contexts


def how_to_build(context: Context) -> str:
    """The command that builds a context where repo-builder finds no engine."""
    target = context.manifest.target
    return f"docker build --network none -t repo-builder/{target} {context.folder}"


def make(request: Request, context: Context, running: Engine) -> Built:
    """Build the image of a written context, saying what happens."""
    from repo_builder.images import build as images

    console.say(f"building the image for {context.manifest.target} with {running.name}")
    image = images.build(request, context, running, lambda line: console.say(f"  {line}"))
    size = console.megabytes(sum(layer.content for layer in image.layers))
    console.say(f"{image.reference}: {'built' if image.changed else 'unchanged'}, {size} on disk")
    return image


@command.command("list")
@_options.json_option
def list_(as_json: bool) -> None:
    """List the images here that repo-builder made."""
    running = _engine()
    from repo_builder.images.context import LABEL

    rows = []
    for image in running.labelled(f"{LABEL}.target"):
        labels = image.labels
        for reference in sorted(image.tags) or [""]:
            rows.append(
                {
                    "reference": reference,
                    "target": labels[f"{LABEL}.target"],
                    "manifest": labels[f"{LABEL}.manifest"].removeprefix("sha256:")[:12],
                    "models": labels.get("org.opencontainers.image.description", ""),
                    "id": str(image.id),
                    "size": image.attrs["Size"],
                }
            )
    rows.sort(key=lambda row: (row["target"], row["reference"]))
    if as_json:
        console.out_json(rows)
        return
    _print_images(rows)


@command.command()
@click.argument("image")
@click.option("--plot", type=_FOLDER, help="Write the size plot to this SVG file.")
@click.option("--sbom", type=_FOLDER, help="Write the SBOM (CycloneDX JSON) to this file.")
@click.option("--max-disk-mb", type=_options.FiniteRange(min=0), help="Fail if more on disk.")
@click.option("--max-pull-mb", type=_options.FiniteRange(min=0), help="Fail if more to pull.")
@_options.json_option
def inspect(
    image: str,
    plot: Path | None,
    sbom: Path | None,
    max_disk_mb: float | None,
    max_pull_mb: float | None,
    as_json: bool,
) -> None:
    """Explain every megabyte of IMAGE, by layer and by part."""
    running = _engine()
    from repo_builder.images import archive, sizes
    from repo_builder.images import sbom as boms
    from repo_builder.images.build import cache_root

    with archive.saved(running, image) as saved:
        layers = sizes.layer_sizes(saved, cache_root())
        parts = sizes.parts(saved)
        if sbom is not None:
            sbom.write_text(boms.make(image, saved), encoding="utf-8")
    if plot is not None:
        plot.write_text(sizes.plot(image, parts), encoding="utf-8")
    disk, pull = sum(layer.disk for layer in layers), sum(layer.pull for layer in layers)
    if as_json:
        rows = [vars(layer) for layer in layers]
        console.out_json({"disk": disk, "pull": pull, "layers": rows, "parts": parts})
    else:
        _print_layers([(layer, "") for layer in layers], disk, pull)
        console.out("")
        rows_ = [
            (name, console.megabytes(n), f"{100 * n / max(disk, 1):.1f}%")
            for name, n in parts.items()
        ]
        console.out(console.table(("part", "on disk", "share"), rows_, right=(1, 2)))
    over = [
        f"{console.megabytes(size)} {what}, limit {limit:g} MB"
        for size, limit, what in ((disk, max_disk_mb, "on disk"), (pull, max_pull_mb, "to pull"))
        if limit is not None and size > limit * 1e6
    ]
    if over:
        raise GateFailed(f"{image} is too large: {'; '.join(over)}")


@command.command()
@click.argument("has")
@click.argument("wants")
@_options.json_option
def diff(has: str, wants: str, as_json: bool) -> None:
    """Show what a device with image HAS must pull to run image WANTS."""
    running = _engine()
    from repo_builder.images import archive, sizes
    from repo_builder.images.build import cache_root

    with archive.saved(running, has) as saved:
        before = sizes.layer_sizes(saved, cache_root())
    with archive.saved(running, wants) as saved:
        after = sizes.layer_sizes(saved, cache_root())
    found = sizes.difference(before, after)
    if as_json:
        rows = [{**vars(layer), "new": new} for layer, new in found.layers]
        console.out_json({"by_digest": found.by_digest, "by_chain": found.by_chain, "layers": rows})
        return
    _print_layers([(layer, "pull" if new else "here") for layer, new in found.layers])
    console.say(
        f"to pull: {console.megabytes(found.by_digest)} (containerd, Podman, Kubernetes), "
        f"{console.megabytes(found.by_chain)} (Docker's classic store)"
    )


@command.command()
@click.argument("image")
@click.argument("name")
@click.option("--force", is_flag=True, help="Replace other content under the same tag.")
def push(image: str, name: str, force: bool) -> None:
    """Push the local IMAGE to a registry as NAME (registry/repository:tag)."""
    running = _engine()
    from repo_builder.images.build import split_name

    repository, tag = split_name(name)
    if not tag:
        raise UsageError(f"'{name}' has no tag; write {name}:TAG")
    local = running.image(image)
    there = running.registry_digest(name)
    ours = [d.rpartition("@")[2] for d in local.attrs.get("RepoDigests") or []]
    if there is not None and there not in ours and not force:
        raise ImageError(
            f"{name} is taken by other content ({there}); choose a new tag, or use --force"
        )
    running.tag(image, repository, tag)
    digest = running.push(repository, tag, lambda line: console.say(f"  {line}"))
    console.out(f"{repository}@{digest}")


@command.command()
@click.argument("image")
@click.argument("file", type=_FOLDER)
def save(image: str, file: Path) -> None:
    """Write IMAGE to FILE, for docker load on a device without a registry."""
    running = _engine()
    draft = file.with_name(f".{file.name}.part")
    try:
        with draft.open("wb") as out:
            running.save(image, out)
        draft.replace(file)
    except OSError as failure:
        raise ImageError(
            f"{file}: {failure.strerror}; free some space, or write elsewhere"
        ) from None
    finally:
        draft.unlink(missing_ok=True)
    console.say(f"wrote {file} ({console.megabytes(file.stat().st_size)})")


@command.command()
@click.argument("image")
@click.argument("folder", type=_FOLDER)
def export(image: str, folder: Path) -> None:
    """Write IMAGE to FOLDER as an OCI image layout, for tools other than Docker."""
    running = _engine()
    from repo_builder.images import archive, layout

    with archive.saved(running, image) as saved:
        digest = layout.write(saved, folder, image)
    console.out(digest)


def _print_images(rows: list[dict[str, Any]]) -> None:
    cells = [
        (
            row["reference"],
            row["target"],
            row["manifest"],
            row["models"],
            row["id"].removeprefix("sha256:")[:12],
            console.megabytes(row["size"]),
        )
        for row in rows
    ]
    header = ("image", "target", "manifest", "models", "id", "size")
    console.out(console.table(header, cells, (5,), drop=(4, 3, 2)))


def _print_layers(rows: list[tuple[Any, str]], *totals: int) -> None:
    cells: list[tuple[str, ...]] = [
        (
            layer.title,
            layer.diff_id.removeprefix("sha256:")[:12],
            console.megabytes(layer.disk),
            console.megabytes(layer.pull),
            mark,
        )
        for layer, mark in rows
    ]
    if totals:
        cells.append(("all", "", *map(console.megabytes, totals), ""))
    console.out(
        console.table(("layer", "digest", "on disk", "to pull", ""), cells, (2, 3), drop=(1,))
    )


def _repositories(folders: tuple[Path, ...]) -> list[Path]:
    """The folders with a manifest: those given, or the ones right below them."""
    found: list[Path] = []
    for folder in folders:
        inner = [path.parent for path in sorted(folder.glob("*/manifest.json"))]
        if (folder / "manifest.json").is_file():
            found.append(folder)
        elif inner:
            found += inner
        else:
            below = (
                [path.name for path in folder.parent.iterdir()] if folder.parent.is_dir() else []
            )
            hint = did_you_mean(folder.name, below) if not folder.exists() else ""
            raise UsageError(
                f"{folder}: no manifest.json in it or below it; "
                + (hint or "run repo-builder build first")
            )
    return found


def _engine() -> Any:
    _need_images_extra("working with images")
    from repo_builder.images import engine

    return engine.connect()


def _need_images_extra(what: str) -> None:
    from importlib.util import find_spec

    from repo_builder.base.errors import MissingExtra

    if any(find_spec(m) is None for m in ("docker", "jinja2", "yaml", "pydantic", "cryptography")):
        raise MissingExtra("images", what)
