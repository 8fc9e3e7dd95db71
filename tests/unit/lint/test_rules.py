"""Every rule fires where it is broken, and keeps quiet where it is kept."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from repo_builder.repository.lint import RULES, lint
from repo_builder.targets.types import TensorRt
from tests.unit.lint.backend_cases import BACKEND_CASES
from tests.unit.lint.cases import CORE_CASES, CPU, PLAN, ensemble, for_target, plan
from tests.unit.lint.world import World

CASES = CORE_CASES | BACKEND_CASES
ELSEWHERE = {"layout-unreadable", "name-unusual", "poll-future", "tensorrt-no-plan"}
"""Rules whose worlds need more than a World; tests below."""


def test_every_rule_has_its_cases() -> None:
    ids = [rule.id for rule in RULES]
    assert len(ids) == len(set(ids))
    assert CASES.keys() | ELSEWHERE == set(ids)


@pytest.mark.parametrize("rule", CASES)
def test_rule_fires(tmp_path: Path, rule: str) -> None:
    found = [f for f in CASES[rule][0].lint(tmp_path) if f.rule == rule]
    assert found
    assert all(f.what and f.source and f.file.startswith(str(tmp_path)) for f in found)


@pytest.mark.parametrize("rule", CASES)
def test_rule_keeps_quiet(tmp_path: Path, rule: str) -> None:
    assert [str(f) for f in CASES[rule][1].lint(tmp_path) if f.rule == rule] == []


def test_a_good_model_has_no_finding(tmp_path: Path) -> None:
    assert [str(f) for f in World().lint(tmp_path)] == []
    assert [str(f) for f in ensemble().lint(tmp_path / "e")] == []


def test_unusual_names(tmp_path: Path) -> None:
    assert {f.rule for f in World().lint(tmp_path, "naïve model")} == {"name-unusual"}


@pytest.mark.parametrize(("ahead", "fires"), [(3600, True), (-3600, False)])
def test_files_from_the_future(tmp_path: Path, ahead: int, fires: bool) -> None:
    World().write(tmp_path)
    file = tmp_path / "m" / "1" / "model.onnx"
    os.utime(file, (time.time() + ahead,) * 2)
    (tmp_path / "m" / "1" / "nowhere").symlink_to("gone")
    found = [f for f in lint([tmp_path]) if f.rule == "poll-future"]
    assert [f.file for f in found] == [str(file)] * fires


def test_hidden_folders_are_models_to_triton(tmp_path: Path) -> None:
    World().write(tmp_path)
    (tmp_path / ".git").mkdir()
    (found,) = lint([tmp_path])
    assert (found.rule, found.model, found.line) == ("config-unreadable", ".git", 0)
    assert found.fix == "move it out of the repository"


def test_unreadable_folder(tmp_path: Path) -> None:
    World().write(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    assert [(f.rule, f.model) for f in lint([tmp_path])] == [("layout-unreadable", "loop")]


def test_no_plan_for_the_target(tmp_path: Path) -> None:
    orin = CPU.model_copy(update={"tensorrt": TensorRt(compute_capability="8.7")})
    for capability, fires in (("8.6", True), ("8.7", False)):
        text = PLAN + f'cc_model_filenames {{ key: "{capability}" value: "model.plan" }}\n'
        found = for_target(plan(text), orin).lint(tmp_path / capability)
        assert ("tensorrt-no-plan" in {f.rule for f in found}) == fires
