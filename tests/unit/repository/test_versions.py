"""Versions that stay beside a new one: the newest older ones with the same tensors."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from test_publish import fetch, model

from repo_builder.repository.publish import Model, publish
from repo_builder.spec.types import Version


def version(text: str, content: str = "", interface: str = "x", **record: Any) -> Model:
    major, minor, patch = map(int, text.split("."))
    made = model("digits", content or text)
    record = {"interface": interface, "precision": "fp32", **record}
    return dataclasses.replace(made, version=Version(major, minor, patch), record=record)


def put(out: Path, *models: Model, count: int = 3) -> dict[str, Any]:
    """Publish, and give the record of `digits`, whose files must be just those that lie there."""
    publish(out, "cpu", models, lambda _: False, fetch, lambda _: None, count)
    manifest = json.loads((out / "cpu" / "manifest.json").read_text())
    record: dict[str, Any] = manifest["models"]["digits"]
    folder = out / "cpu" / record["folder"]
    found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert found == set(record["files"])
    return record


def kept(record: dict[str, Any]) -> list[str]:
    return [record["version"], *(earlier["version"] for earlier in record.get("earlier", ()))]


def test_the_newest_stay_with_their_own_files(tmp_path: Path) -> None:
    for text in ("1.0.0", "1.1.0", "1.1.1", "2.0.0"):
        record = put(tmp_path, version(text))
    assert kept(record) == ["2.0.0", "1.1.1", "1.1.0"]
    digits = tmp_path / "cpu" / "models" / "digits"
    assert (digits / "1001001" / "0" / "model.onnx").read_text() == "1.1.1"
    assert (digits / "config.pbtxt").read_text() == "2.0.0"
    assert not (digits / "1000000").exists()


def test_the_same_again_changes_nothing_and_new_content_replaces(tmp_path: Path) -> None:
    put(tmp_path, version("1.0.0"))
    put(tmp_path, version("1.1.0"))
    link = (tmp_path / "cpu").readlink()
    assert kept(put(tmp_path, version("1.1.0"))) == ["1.1.0", "1.0.0"]
    assert (tmp_path / "cpu").readlink() == link
    assert kept(put(tmp_path, version("1.1.0", "other"))) == ["1.1.0", "1.0.0"]


def test_going_back_makes_the_older_the_newest(tmp_path: Path) -> None:
    for text in ("1.0.0", "1.1.0", "1.2.0"):
        put(tmp_path, version(text))
    record = put(tmp_path, version("1.1.0"))
    assert kept(record) == ["1.1.0", "1.0.0"]


def test_what_has_other_tensors_is_left_out_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    put(tmp_path, version("1.0.0"))
    put(tmp_path, version("1.1.0"))
    assert kept(put(tmp_path, version("2.0.0", interface="y"))) == ["2.0.0"]
    said = capsys.readouterr().err
    assert "digits 1.1.0 has other tensors than 2.0.0 and is not kept" in said


def test_one_version_is_the_default_and_fewer_are_dropped(tmp_path: Path) -> None:
    put(tmp_path, version("1.0.0"))
    put(tmp_path, version("1.1.0"))
    assert kept(put(tmp_path, version("1.1.0"), count=1)) == ["1.1.0"]


def test_bundles_keep_versions_too(tmp_path: Path) -> None:
    for text in ("1.0.0", "1.1.0"):
        record = put(tmp_path, dataclasses.replace(version(text), texts={}, bundle=True))
    assert kept(record) == ["1.1.0", "1.0.0"]
    bundle = tmp_path / "cpu" / "bundles" / "digits"
    assert (bundle / "1.0.0" / "0" / "model.onnx").read_text() == "1.0.0"


def test_a_damaged_version_is_not_carried_on(tmp_path: Path) -> None:
    put(tmp_path, version("1.0.0"))
    file = tmp_path / "cpu" / "models" / "digits" / "1000000" / "0" / "model.onnx"
    file.write_text("damag")
    assert kept(put(tmp_path, version("1.1.0"))) == ["1.1.0"]


def test_a_pipeline_has_one_version(tmp_path: Path) -> None:
    put(tmp_path, version("1.0.0", pipeline="digits"))
    assert kept(put(tmp_path, version("1.1.0", pipeline="digits"))) == ["1.1.0"]
