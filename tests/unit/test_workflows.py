"""GitHub's workflows: keys that GitHub knows, steps that are whole, expressions that have a value.

What their shell steps do is tests/cases/images/test_release_workflow.py.
"""

from __future__ import annotations

import copy
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import documents
import pytest
import yaml

FILES = sorted((documents.ROOT / ".github/workflows").glob("*.yml"))
WORKFLOW = set("name run-name on permissions env defaults concurrency jobs".split())
JOB = set(
    "name permissions needs if runs-on environment concurrency outputs env defaults steps "
    "timeout-minutes strategy continue-on-error container services uses with secrets".split()
)
STEP = set(
    "id if name uses run working-directory shell with env continue-on-error timeout-minutes".split()
)
SCOPES = set(
    "actions attestations checks contents deployments discussions id-token issues models packages "
    "pages pull-requests security-events statuses".split()
)
GITHUB = set("actor ref_name repository_owner sha".split())


def complaints(workflow: dict[str, Any]) -> Iterator[str]:
    """What GitHub would refuse, or leave empty without a word."""
    yield from unknown("workflow", workflow, WORKFLOW)
    for job, content in workflow["jobs"].items():
        yield from unknown(job, content, JOB)
        rights = content.get("permissions", {})
        yield from unknown(f"{job}.permissions", rights, SCOPES)
        yield from (f"{job}: {r}" for r in rights.values() if r not in ("read", "write", "none"))
        if not content.get("runs-on"):
            yield f"{job}: no runs-on"
        outputs: dict[str, str] = {}
        for number, step in enumerate(content["steps"]):
            where = f"{job}.steps[{number}]"
            yield from unknown(where, step, STEP)
            if ("uses" in step) == ("run" in step):
                yield f"{where}: either uses or run"
            if not re.fullmatch(r"[\w.-]+/[\w./-]+@\S+", step.get("uses", "a/b@v1")):
                yield f"{where}: {step['uses']} names no version"
            if subprocess.run(["bash", "-n", "-c", step.get("run", "")], check=False).returncode:
                yield f"{where}: no shell"
            matrix = content.get("strategy", {}).get("matrix", {})
            yield from (
                f"{where}: {e} has no value"
                for e in re.findall(r"\$\{\{ *(.*?) *\}\}", str(step))
                if not known(e, matrix, outputs)
            )
            outputs[step.get("id", "")] = step.get("run", "")


def unknown(where: str, found: dict[str, Any], allowed: set[str]) -> Iterator[str]:
    yield from (f"{where}: {key}" for key in sorted(map(str, set(found) - allowed)))


def known(expression: str, matrix: dict[str, Any], outputs: dict[str, str]) -> bool:
    parts = expression.split(".")
    if parts[0] == "steps":
        return parts[2] == "outputs" and f'"{parts[3]}=' in outputs.get(parts[1], "")
    allowed = {"matrix": matrix, "github": GITHUB, "secrets": {"GITHUB_TOKEN"}}
    return parts[1] in allowed.get(parts[0], ())


def read(text: str) -> dict[str, Any]:
    """A workflow, with `on` as GitHub reads it; YAML 1.1 takes it for true."""
    workflow = yaml.safe_load(text)
    return {"on" if key is True else key: value for key, value in workflow.items()}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_github_takes_it(file: Path) -> None:
    assert list(complaints(read(file.read_text()))) == []


def misspell(workflow: dict[str, Any]) -> None:
    workflow["jobs"]["images"]["step"] = []


def no_such_output(workflow: dict[str, Any]) -> None:
    workflow["jobs"]["images"]["steps"][-1]["with"]["subject-digest"] = (
        "${{ steps.push.outputs.d }}"
    )


def both(workflow: dict[str, Any]) -> None:
    workflow["jobs"]["packages"]["steps"][0]["run"] = "true"


def no_version(workflow: dict[str, Any]) -> None:
    workflow["jobs"]["packages"]["steps"][0]["uses"] = "actions/checkout"


def no_shell(workflow: dict[str, Any]) -> None:
    workflow["jobs"]["packages"]["steps"][2]["run"] = "if true; then"


@pytest.mark.parametrize("change", [misspell, no_such_output, both, no_version, no_shell])
def test_what_it_would_not_take_is_told(change: Callable[[dict[str, Any]], None]) -> None:
    workflow = copy.deepcopy(read(FILES[0].read_text()))
    change(workflow)
    assert len(list(complaints(workflow))) == 1


def test_the_recipe_of_the_docs_is_part_of_a_workflow() -> None:
    page = documents.ROOT / "docs" / "operations.md"
    (block,) = (b for b in documents.blocks(page) if b.language == "yaml")
    job = {"runs-on": "ubuntu-24.04", "steps": yaml.safe_load(block.text)}
    assert list(complaints({"on": "push", "jobs": {"build": job}})) == []
