"""Every rule fires where it is broken, and keeps quiet where it is kept."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from repo_builder.repository.lint import RULES, lint
from repo_builder.targets.types import TensorRt
from tests.unit.repository.lint.backend_cases import BACKEND_CASES, PARAMETER
from tests.unit.repository.lint.cases import (
    CORE_CASES,
    CPU,
    IR,
    PLAN,
    ensemble,
    for_target,
    more,
    parameter,
    plan,
)
from tests.unit.repository.lint.world import World

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


@pytest.mark.parametrize(("group", "fires"), [("gpus: [0]", True), ("count: 1", False)])
def test_auto_with_gpus_on_a_device_without(tmp_path: Path, group: str, fires: bool) -> None:
    """NormalizeInstanceGroup makes it KIND_CPU, which may have no gpus."""
    found = for_target(more(f"instance_group {{ {group} }}\n")).lint(tmp_path)
    assert ("kind-gpu" in {f.rule for f in found}) == fires


@pytest.mark.parametrize(("dims", "fires"), [("[4]", True), ("[-1]", False)])
def test_an_output_changes_only_if_an_input_is_reshaped(
    tmp_path: Path, dims: str, fires: bool
) -> None:
    result = b'<net><layer type="Result" output_names="y"><dim>3</dim></layer></net>'
    files: dict[str, str | bytes | None] = {"1/model.xml": PARAMETER + result, "1/model.bin": b""}
    config = parameter("RESHAPE_IO_LAYERS", "YES", IR.replace("[4]", dims))
    assert ("openvino-shape" in {f.rule for f in World(config, files).lint(tmp_path)}) == fires


def test_no_plan_for_the_target(tmp_path: Path) -> None:
    orin = CPU.model_copy(update={"tensorrt": TensorRt(compute_capability="8.7")})
    for capability, fires in (("8.6", True), ("8.7", False)):
        text = PLAN + f'cc_model_filenames {{ key: "{capability}" value: "model.plan" }}\n'
        found = for_target(plan(text), orin).lint(tmp_path / capability)
        assert ("tensorrt-no-plan" in {f.rule for f in found}) == fires
