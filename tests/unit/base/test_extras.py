"""The command that installs an extra works the way the package came."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from repo_builder.base import extras
from repo_builder.base.errors import MissingExtra


class Installed:
    def __init__(self, url: str | None) -> None:
        self.url = url

    def read_text(self, name: str) -> str | None:
        assert name == "direct_url.json"
        return None if self.url is None else json.dumps({"url": self.url})


def test_in_a_checkout(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    root = Path(extras.__file__).parents[2]
    monkeypatch.chdir(root)
    assert extras.pip_install("serve") == "pip install -e '.[serve]'"
    monkeypatch.chdir(tmp_path)
    assert str(MissingExtra("serve", "serving")) == (
        f"serving needs an extra: pip install -e '{root}[serve]'"
    )


@pytest.mark.parametrize("there", [True, False])
def test_from_a_wheel(there: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    wheel = tmp_path / "with space" / "repo_builder-1-py3-none-any.whl"
    wheel.parent.mkdir()
    if there:
        wheel.touch()
    monkeypatch.setattr(extras, "_PACKAGE", tmp_path / "site-packages" / "repo_builder")
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: Installed(wheel.as_uri()))
    wanted = f"'{wheel}[build]'" if there else "'repo-builder[build]'"
    assert extras.pip_install("build") == f"pip install {wanted}"


def test_from_an_index(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(extras, "_PACKAGE", tmp_path / "repo_builder")
    monkeypatch.setattr(importlib.metadata, "distribution", lambda _: Installed(None))
    assert extras.pip_install("build") == "pip install 'repo-builder[build]'"
