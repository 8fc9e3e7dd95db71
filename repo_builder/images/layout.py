"""Writes an image as an OCI image layout (image-spec 1.1), with the same bytes each time."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from repo_builder.base import digest
from repo_builder.base.errors import OutputError
from repo_builder.images.archive import SavedImage

_TYPE = "application/vnd.oci.image"


def write(image: SavedImage, folder: Path, name: str) -> str:
    """Write the layout to the new `folder`; returns the digest of the image's manifest."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder} exists and is not empty; name a new folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".layout-", dir=folder.parent))
    try:
        blobs = draft / "blobs" / "sha256"
        blobs.mkdir(parents=True)
        layers = [_layer(image, number, blobs) for number in range(len(image.names))]
        config = _blob(blobs, digest.canonical(image.config), f"{_TYPE}.config.v1+json")
        manifest = _blob(
            blobs,
            digest.canonical(
                {
                    "schemaVersion": 2,
                    "mediaType": f"{_TYPE}.manifest.v1+json",
                    "config": config,
                    "layers": layers,
                }
            ),
            f"{_TYPE}.manifest.v1+json",
        )
        manifest["annotations"] = {"org.opencontainers.image.ref.name": name}
        index = {"schemaVersion": 2, "mediaType": f"{_TYPE}.index.v1+json", "manifests": [manifest]}
        (draft / "index.json").write_text(json.dumps(index, indent=1), encoding="utf-8")
        (draft / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}', encoding="utf-8")
        draft.chmod(0o755)
        if folder.exists():
            folder.rmdir()
        draft.rename(folder)
    except OSError as failure:
        raise OutputError(f"{folder}: {failure.strerror}; free some space") from failure
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return str(manifest["digest"])


def _layer(image: SavedImage, number: int, blobs: Path) -> dict[str, Any]:
    draft = blobs / f".{number}"
    with draft.open("wb") as out, gzip.GzipFile("", "wb", 6, out, mtime=0) as packed:
        for chunk in image.chunks(number):
            packed.write(chunk)
    state = hashlib.sha256()
    with draft.open("rb") as file:
        while chunk := file.read(1 << 20):
            state.update(chunk)
    size = draft.stat().st_size
    draft.rename(blobs / state.hexdigest())
    return _descriptor(f"{_TYPE}.layer.v1.tar+gzip", state.hexdigest(), size)


def _blob(blobs: Path, content: bytes, media_type: str) -> dict[str, Any]:
    name = digest.of_bytes(content)
    (blobs / name).write_bytes(content)
    return _descriptor(media_type, name, len(content))


def _descriptor(media_type: str, sha256: str, size: int) -> dict[str, Any]:
    return {"mediaType": media_type, "digest": f"sha256:{sha256}", "size": size}
