"""The stages of a Dockerfile that the engine builds for us; the rest of an image needs no build."""

from __future__ import annotations

import io
import re
import tarfile
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import IO

from repo_builder.base import digest
from repo_builder.base.errors import ImageError
from repo_builder.images.context import Context
from repo_builder.images.engine import Engine
from repo_builder.images.manifest import Manifest

RUNTIME, PLANS = "runtime", "plans"
"""All below the models; and models with the TensorRT plans that are made with the image."""


def parts(manifest: Manifest, stage: str) -> tuple[str, ...]:
    """The folders and files of a context that a stage needs, Dockerfile aside."""
    if stage == RUNTIME:
        return "rootfs", "tools", "wheels"
    models = [f"models/{model.name}" for model in manifest.models if model.planned]
    return "compiler", "trust/manifest.json", *models


def needed(dockerfile: str, stage: str) -> str:
    """The part of a Dockerfile that leads to a stage.

    Docker's classic builder, which the `docker` package speaks to, builds every stage that stands
    above the one that is asked for.
    """
    head, *found = re.split(r"^(?=FROM )", dockerfile, flags=re.MULTILINE)
    of = {match[1]: text for text in found if (match := re.match(r"FROM \S+ AS (\S+)", text))}
    names, todo = set[str](), [stage]
    while todo:
        name = todo.pop()
        if name in of and name not in names:
            names.add(name)
            todo += re.findall(r"(?:^FROM |--from=)(\S+)", of[name], flags=re.MULTILINE)
    return head + "".join(text for name, text in of.items() if name in names)


def key(context: Context, stage: str) -> str:
    """The digest of all that shapes a stage, but for the base image, which the engine knows.

    ImageError where the context cannot be read.
    """
    # Of the base, what it is counts, and not how it is called.
    home, base_line = context.folder, f"ARG BASE={context.base}\n"
    try:
        return digest.of_json(
            {
                "dockerfile": needed(_dockerfile(context), stage).replace(base_line, ""),
                "platform": context.platform,
                "files": {
                    path.relative_to(home).as_posix(): digest.of_file(path)
                    for part in parts(context.manifest, stage)
                    for path in sorted([home / part, *(home / part).rglob("*")])
                    if path.is_file()
                },
            }
        )
    except OSError as failure:
        raise ImageError(f"{home}: {failure.strerror}; write the context again") from failure


def build(
    context: Context, stage: str, engine: Engine, mark: str, say: Callable[[str], None]
) -> str:
    """Let the engine build a stage of a context; returns the id of its image."""
    text = needed(_dockerfile(context), stage)
    with tempfile.TemporaryFile() as tar:
        _tar(context.folder, parts(context.manifest, stage), text, tar)
        tar.seek(0)
        return engine.build(tar, stage, context.platform, mark, say)


def _dockerfile(context: Context) -> str:
    return (context.folder / "Dockerfile").read_text(encoding="utf-8")


def _tar(folder: Path, parts: Iterable[str], dockerfile: str, out: IO[bytes]) -> None:
    """Tar the named parts of a context folder with fixed times, owners and order, to build from."""

    def plain(info: tarfile.TarInfo) -> tarfile.TarInfo:
        info.mtime, info.uid, info.gid, info.uname, info.gname = 0, 0, 0, "", ""
        info.mode = 0o755 if info.isdir() or info.mode & 0o100 else 0o644
        return info

    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        info, text = tarfile.TarInfo("Dockerfile"), dockerfile.encode()
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
        for part in sorted(parts):
            tar.add(folder / part, arcname=part, filter=plain)
