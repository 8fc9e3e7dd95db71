"""Finds the model that a release serves, for a spec whose weights are to be near it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from repo_builder.base.errors import StoreError, UsageError
from repo_builder.spec.released import Released

_ONNX = "model.onnx"


def files(named: Released, sha256_of: Callable[[Path], str]) -> dict[str, tuple[Path, str]]:
    """Its ONNX and external data: name -> (blob, sha256); that of `cpu` where a target has none.

    UsageError where the registry or the release has no such thing, StoreError where a blob is not
    what the release says.
    """
    from repo_builder.release.registry import Registry

    registry = Registry(named.registry)
    release = registry.release(named.id)
    for target in (named.target, "cpu"):
        artifact = release.targets.get(target)
        found: dict[str, tuple[Path, str]] = {}
        for path, (sha256, _) in artifact.files.items() if artifact else ():
            name = path.rpartition("/")[2]
            if name.startswith(_ONNX):
                blob = registry.blob(sha256)
                if not blob.is_file() or sha256_of(blob) != sha256:
                    raise StoreError(f"{blob}: is missing or damaged; {named.id} needs it")
                found[name] = blob, sha256
        if _ONNX in found:
            return found
    raise UsageError(
        f"{named.id}: has no ONNX for {named.target} or cpu; name a file under `release.near`"
    )
