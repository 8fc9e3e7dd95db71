"""TensorRT plans that the engine makes on its own GPU, in a stage of the image.

The manifest is signed before they are made, so it cannot hold their digests. It holds those of the
models that they are made from; `plans.json` adds the plans, and is signed once they are here.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from repo_builder.base import digest
from repo_builder.base.errors import ImageError
from repo_builder.images import archive, stages
from repo_builder.images.context import Context
from repo_builder.images.engine import Engine
from repo_builder.images.inside import check

_RECORD = "plans.json"


@dataclass(frozen=True)
class Plans:
    """What the stage made: `record` is `plans.json`, `files` are below `folder`, by model."""

    record: bytes
    folder: Path

    def files(self, model: str) -> Mapping[str, Path]:
        """Path below the model's folder -> file."""
        home = self.folder / model
        found = home.rglob("*")
        return {path.relative_to(home).as_posix(): path for path in found if path.is_file()}


def get_or_build(
    context: Context, engine: Engine, cache: Path, say: Callable[[str], None]
) -> Plans | None:
    """The plans of a context, from `cache` or made by the engine; None where it asks for none.

    TensorRT makes other bytes each time, so what was made is kept, and with it the image's id.
    """
    if not any(model.planned for model in context.manifest.models):
        return None
    base = engine.base(context.base, context.platform)
    key = digest.of_json([stages.key(context, stages.PLANS), base, engine.identity()])
    home = cache / "plans" / key
    if not _is_intact(home):
        image_id = stages.build(context, stages.PLANS, engine, key[:16], say)
        try:
            _keep(image_id, context, engine, home)
        finally:
            engine.drop(image_id, key[:16])
    return Plans((home / _RECORD).read_bytes(), home / "models")


def _is_intact(home: Path) -> bool:
    """Whether the cache holds a record, and every plan as it says."""
    try:
        files = check.files_made((home / _RECORD).read_bytes())
        return all(digest.of_file(home / "models" / name) == of for name, (of, _) in files.items())
    except (OSError, ValueError):
        return False


def _keep(image_id: str, context: Context, engine: Engine, home: Path) -> None:
    """Take from a built stage what its record names, once that holds."""
    home.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".new-", dir=home.parent))
    try:
        with archive.saved(engine, image_id) as saved:
            files = saved.read("models/", f"etc/repo-builder/{_RECORD}")
        record = files.get(f"etc/repo-builder/{_RECORD}", b"")
        for name in check.files_made(record):
            target = (draft / "models" / name).resolve()
            if not target.is_relative_to(draft.resolve()):
                raise ImageError(f"the engine made a plan outside the models: {name}")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(files[f"models/{name}"])
        problems = check.plans(context.manifest.text, draft / "models", record)
        if problems:
            raise ImageError(f"the engine made other plans than were asked for: {problems[0]}")
        (draft / _RECORD).write_bytes(record)
        shutil.rmtree(home, ignore_errors=True)
        draft.rename(home)
    except (KeyError, ValueError) as failure:
        raise ImageError(f"the engine made no record of its plans: {failure!r}") from failure
    except OSError as failure:
        raise ImageError(f"{home}: {failure.strerror or failure}; free some space") from failure
    finally:
        shutil.rmtree(draft, ignore_errors=True)
