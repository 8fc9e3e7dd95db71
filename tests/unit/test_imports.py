"""What a command that runs nothing must not import: start-up is most of its time."""

from __future__ import annotations

import subprocess
import sys

HEAVY = {"numpy", "onnx", "onnxruntime", "openvino", "tritonclient", "jinja2", "rich"}


def imported_by(code: str) -> set[str]:
    code = f"import sys\n{code}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_planning_imports_no_runtime() -> None:
    code = (
        "import repo_builder.build\nfrom repo_builder import steps, targets\n"
        "steps.declarations()\ntargets.load()"
    )
    rules = "repo_builder.repository.lint"  # only what is published anew is checked
    assert not imported_by(code) & (HEAVY | {rules})


def test_help_imports_hardly_anything() -> None:
    code = "from repo_builder.cli import cli\ncli.list_commands(None)"
    assert not imported_by(code) & (HEAVY | {"pydantic", "yaml", "repo_builder.build"})
