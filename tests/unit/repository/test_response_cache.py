"""A version that is published anew under its number must not be answered from the cache."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from repo_builder.repository.response_cache import stale

ON, OFF = "response_cache { enable: true }", ""


def generation(root: Path, name: str, config: str, **versions: str) -> Path:
    """One model; `v1="aa"` is its version 1 with a file of that digest."""
    folder = root / name
    model = folder / "models" / "m"
    model.mkdir(parents=True)
    (model / "config.pbtxt").write_text(config)
    files = {f"{number[1:]}/model.onnx": [sha, 1] for number, sha in versions.items()}
    record = {"folder": "models/m", "files": {"config.pbtxt": ["c", 1], **files}}
    (folder / "manifest.json").write_text(json.dumps({"models": {"m": record}}))
    return folder


@pytest.mark.parametrize(
    ("before", "after", "stays"),
    [
        ({"v1": "aa"}, {"v1": "bb"}, True),
        ({"v1": "aa"}, {"v1": "aa"}, False),
        ({"v1": "aa"}, {"v2": "bb"}, False),
        ({"v1": "aa"}, {"v1": "aa", "v2": "bb"}, False),
        ({"v1": "aa", "v2": "bb"}, {"v1": "cc", "v2": "bb"}, True),
    ],
)
def test_other_files_under_the_same_number(
    tmp_path: Path, before: dict[str, str], after: dict[str, str], stays: bool
) -> None:
    old = generation(tmp_path, "old", ON, **before)
    found = stale(old, generation(tmp_path, "new", ON, **after))
    assert found.keys() == ({"m"} if stays else set())
    assert all("version 1 was published before" in why for why in found.values())


@pytest.mark.parametrize(("before", "after"), [(OFF, ON), (ON, OFF), (OFF, OFF)])
def test_only_where_the_cache_was_and_is_on(tmp_path: Path, before: str, after: str) -> None:
    old = generation(tmp_path, "old", before, v1="aa")
    assert stale(old, generation(tmp_path, "new", after, v1="bb")) == {}


def test_nothing_was_published(tmp_path: Path) -> None:
    assert stale(tmp_path / "none", generation(tmp_path, "new", ON, v1="aa")) == {}
