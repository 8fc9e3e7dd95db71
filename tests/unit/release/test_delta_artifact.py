"""Deltas of a model's folder: which files are paired, and what describes them."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np

from repo_builder.release.delta import apply, between


def _blob(folder: Path, content: bytes) -> tuple[str, Path]:
    """A file called by its digest, as in a registry."""
    sha256 = hashlib.sha256(content).hexdigest()
    (folder / sha256).write_bytes(content)
    return sha256, folder / sha256


def _xml(sizes: list[int]) -> bytes:
    """Constants of float32 in a row, called by their sizes."""
    at, layers = 0, []
    for size in sizes:
        layers.append(
            f'<layer name="w{size}" type="Const"><data element_type="f32" shape="{size}"'
            f' offset="{at}" size="{4 * size}"/></layer>'
        )
        at += 4 * size
    return f"<net><layers>{''.join(layers)}</layers></net>".encode()


def test_files_are_paired_across_versions(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    parts = {size: random.normal(size=size).astype(np.float32) for size in (9000, 5000, 70000)}
    nudged = {
        s: p + np.float32(1e-4) * random.normal(size=s).astype(np.float32) for s, p in parts.items()
    }
    labels = _blob(tmp_path, b"zero\none\n")
    before, after = [9000, 5000, 70000], [70000, 9000, 5000]
    old = {
        "1000000/model.bin": _blob(tmp_path, b"".join(parts[s].tobytes() for s in before)),
        "1000000/model.xml": _blob(tmp_path, _xml(before)),
        "labels.txt": labels,
    }
    new = {
        "1001000/model.bin": _blob(tmp_path, b"".join(nudged[s].tobytes() for s in after)),
        "1001000/model.xml": _blob(tmp_path, _xml(after)),
        "labels.txt": labels,
        "new.txt": _blob(tmp_path, b"nothing before it"),
    }
    made = between(old, new, tmp_path)
    assert "labels.txt" not in made
    assert "new.txt" not in made
    weights = made["1001000/model.bin"]
    assert weights.way == "tensors"
    assert weights.size < 0.7 * weights.header.length
    base, result = old["1000000/model.bin"], new["1001000/model.bin"]
    with (
        (tmp_path / f"{base[0]}-{result[0]}").open("rb") as delta,
        base[1].open("rb") as held,
        (tmp_path / "out").open("w+b") as out,
    ):
        apply(delta, held, out, result[0], result[1].stat().st_size)
    assert (tmp_path / "out").read_bytes() == result[1].read_bytes()
