"""Shell completion: the script is one that the shell reads, and completes what is there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from click.testing import CliRunner

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
