"""What the package carries: examples and compose files; and how much every command says."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from repo_builder.base import console, resources
from repo_builder.cli import COMMANDS, cli


def test_the_examples_are_copied(tmp_path: Path) -> None:
    place = tmp_path / "specs"
    done = CliRunner().invoke(cli, ["examples", "copy", str(place)])
    assert done.exit_code == 0, done.output
    shipped = resources.folder("model_specs")
    assert {p.name for p in place.glob("*.yaml")} == {p.name for p in shipped.glob("*.yaml")}
    assert (place / "digits" / "digits.onnx").is_file()
    assert not list(place.rglob("__pycache__"))


def test_a_folder_with_something_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").touch()
    done = CliRunner().invoke(cli, ["examples", "copy", str(tmp_path)])
    assert "is not empty; name a new folder" in str(done.exception)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.yaml"]


@pytest.mark.parametrize("name", ["edge", "cloud", "dev"])
def test_compose_files(name: str, tmp_path: Path) -> None:
    text = (resources.folder("compose") / f"{name}.yaml").read_text()
    printed = CliRunner().invoke(cli, ["compose", name])
    assert printed.stdout == text
    written = CliRunner().invoke(cli, ["compose", name, "--out", str(tmp_path)])
    assert (tmp_path / f"{name}.yaml").read_text() == text
    assert (tmp_path / "prometheus.yml").exists() == ("./prometheus.yml" in text)
    assert written.exit_code == 0
    again = CliRunner().invoke(cli, ["compose", name, "--out", str(tmp_path)])
    assert "move what is there away" in str(again.exception)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_can_be_quiet_verbose_and_debugged(name: str) -> None:
    said = CliRunner().invoke(cli, [name, "--help"])
    assert said.exit_code == 0
    assert all(option in said.stdout for option in ("-q, --quiet", "-v, --verbose", "--debug"))


@pytest.mark.parametrize(
    "words", [["-q", "examples", "copy"], ["examples", "-q", "copy"], ["examples", "copy", "-q"]]
)
def test_quiet_stands_before_or_after_the_command(words: list[str], tmp_path: Path) -> None:
    quiet = CliRunner().invoke(cli, [*words, str(tmp_path / "a")])
    assert quiet.stderr == ""
    assert quiet.stdout == f"{tmp_path / 'a'}\n"
    loud = CliRunner().invoke(cli, ["examples", "copy", str(tmp_path / "b")])
    assert "build them" in loud.stderr
    assert not console.talk.quiet
