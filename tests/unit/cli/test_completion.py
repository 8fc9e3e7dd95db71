"""Shell completion: the script is one that the shell reads, and completes what is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import click
import pytest
from click.testing import CliRunner

from repo_builder import targets
from repo_builder.cli import COMMANDS, cli


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
        ("repo-builder ", set(COMMANDS)),
        ("repo-builder pl", {"plan"}),
        ("repo-builder cache ", {"du", "verify", "gc"}),
        ("repo-builder build --keep", {"--keep-going"}),
    ],
)
def test_bash_completes(
    words: str, found: set[str], tmp_path: Path, unavailable: Callable[[str], NoReturn]
) -> None:
    if shutil.which("bash") is None:
        unavailable("bash is not installed")
    command = tmp_path / "repo-builder"
    command.write_text(
        f"#!{sys.executable}\nimport sys\nsys.argv[0] = 'repo-builder'\n"
        "from repo_builder.__main__ import main\nmain()\n"
    )
    command.chmod(0o755)
    script = f"""
        eval "$(repo-builder completion bash)"
        COMP_WORDS=({words}{"''" if words.endswith(" ") else ""})
        COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))
        _repo_builder_completion repo-builder
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    env = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(Path(__file__).parents[3]),
    }
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, env=env
    )
    assert found <= set(done.stdout.split()), done.stderr


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
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "a.yaml").write_text("# mine\nname: digits\nversion: 1.0.0\n")
    (tmp_path / "specs" / "b.yaml").write_text("name: 'shapes'\n")
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
    for place in ("build/cpu/models/digits", "build/cpu/models/shapes", "other/vad"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "config.pbtxt").touch()
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
