"""Shell completion: the script is one that the shell reads, and completes what is there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from repo_builder import targets
from repo_builder.cli import cli


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_for_each_shell(shell: str) -> None:
    printed = CliRunner().invoke(cli, ["completion", shell])
    assert printed.exit_code == 0
    assert f"_REPO_BUILDER_COMPLETE={shell}_complete" in printed.stdout
    assert "repo-builder" in printed.stdout


def test_another_shell_is_a_mistake() -> None:
    printed = CliRunner().invoke(cli, ["completion", "tcsh"])
    assert printed.exit_code == 2
    assert "'bash', 'zsh', 'fish'" in printed.output


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["targets", "tune-power", "jetson-orin-nx", "--mode", "1"], ["10W", "15W"]),
        (["build", "specs/b.yaml", "--only", ""], ["*@*", "shapes@*"]),
        (["serve", "other", "--model", ""], ["vad"]),
        (["bild", "--t"], []),
    ],
)
@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_what_fits_the_words_before(
    shell: str, words: list[str], found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Behind an option whose value is begun click parses no argument: they count all the same."""
    files(tmp_path)
    monkeypatch.chdir(tmp_path)
    last = str(len(words)) if shell == "zsh" else words[-1]
    asked = {
        "_REPO_BUILDER_COMPLETE": f"{shell}_complete",
        "COMP_WORDS": " ".join(["repo-builder", *words]),
        "COMP_CWORD": last,
    }
    ended = CliRunner().invoke(cli, [], env=asked, prog_name="repo-builder")
    lines = list(filter(None, ended.stdout.splitlines()))
    answers = lines[1::3] if shell == "zsh" else [line.removeprefix("plain,") for line in lines]
    assert answers == found


def files(folder: Path) -> None:
    """Two specs, and two folders of what was built."""
    (folder / "specs").mkdir()
    (folder / "specs" / "a.yaml").write_text("# mine\nname: digits\nversion: 1.0.0\n")
    (folder / "specs" / "b.yaml").write_text("name: 'shapes'\n")
    for place in ("build/cpu/models/digits", "build/cpu/models/shapes", "other/vad"):
        (folder / place).mkdir(parents=True)
        (folder / place / "config.pbtxt").touch()


def complete(command: str, option: str, incomplete: str, **given: object) -> list[str]:
    """What a shell is offered for `option`, after the arguments `given`."""
    words = command.split()
    found: click.Command = cli
    for word in words:
        assert isinstance(found, click.Group)
        inner = found.get_command(click.Context(found), word)
        assert inner is not None
        found = inner
    context = click.Context(found)
    context.params = dict(given)
    (param,) = (p for p in found.params if option in p.opts)
    return [item.value for item in param.shell_complete(context, incomplete)]


def test_targets_and_power_modes_are_completed(tmp_path: Path) -> None:
    assert complete("build", "--target", "cpu") == ["cpu", "cpu-openvino"]
    (tmp_path / "cpu-mine.yaml").touch()
    assert "cpu-mine" in complete("plan", "--target", "cpu", targets_dir=tmp_path)
    modes = [mode.name for mode in targets.load(None)["jetson-orin-nx"].power_modes]
    assert complete("targets tune-power", "--mode", "", name="jetson-orin-nx") == sorted(modes)
    assert complete("targets tune-power", "--mode", "", name="cpu") == []


def test_models_are_completed_from_the_spec_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path)
    (tmp_path / "broken.yaml").write_bytes(b"\xff\xfe")
    monkeypatch.chdir(tmp_path)
    assert complete("build", "--only", "") == ["*@*", "digits@*", "shapes@*"]
    assert complete("build", "--only", "", specs=(Path("specs/b.yaml"),)) == ["*@*", "shapes@*"]
    assert complete("build", "--only", "*@cpu") == ["*@cpu", "*@cpu-openvino"]
    assert complete("plan", "--only", "digits@cpu", specs=("specs",)) == [
        "digits@cpu",
        "digits@cpu-openvino",
    ]


def test_what_was_built_is_completed_where_a_model_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert complete("infer", "name", "") == ["digits", "shapes", "vad"]
    assert complete("bench", "--model", "d") == ["digits"]
    assert complete("serve", "--model", "", repository=Path("build/cpu")) == ["digits", "shapes"]
    assert complete("serve", "--model", "", repository="other") == ["vad"]


def test_completion_loads_no_tool() -> None:
    script = (
        "import sys; from repo_builder.cli import build; "
        "print([m for m in ('yaml', 'pydantic', 'onnx', 'numpy') if m in sys.modules])"
    )
    root = str(Path(__file__).parents[3])
    said = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": root},
    )  # fmt: skip
    assert said.stdout == "[]\n"
