"""The command line of targets: what goes to stdout, and how mistakes are told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from repo_builder.base.errors import RepoBuilderError
from repo_builder.cli import cli

ROOT = Path(__file__).parents[3]
DIGITS = str(ROOT / "model_specs/digits/digits.onnx")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(cli, ["targets", *arguments], catch_exceptions=True)


def told(*arguments: str) -> str:
    failure = run(*arguments).exception
    assert isinstance(failure, RepoBuilderError)
    return str(failure)


def test_list_and_show() -> None:
    assert "jetson-orin-nx" in run("list").stdout
    assert {target["name"] for target in json.loads(run("list", "--json").stdout)} >= {"cpu"}
    shown = " ".join(run("show", "jetson-agx-orin").stdout.split())
    assert "374 TFLOPS FP8" in shown
    assert "85 TOPS dense, 170 sparse" in shown
    assert json.loads(run("show", "cpu", "--json").stdout)["runtime"] == "onnxruntime"
    assert "did you mean 'cpu'" in told("show", "cpuu")


def test_advise_ranks_as_json() -> None:
    options = ("--fps", "15", "--latency-ms", "30", "--power-w", "10", "--battery-wh", "100")
    records = json.loads(run("advise", DIGITS, *options, "--price-kwh", "0.3", "--json").stdout)
    by_id = {record["candidate"]: record for record in records}
    best = by_id["jetson-orin-nx/10W"]
    assert best["verdict"] == "yes"
    assert best["battery_hours"] == pytest.approx(100 / (best["watts"] + 2))
    assert best["yearly_cost"] == pytest.approx((best["watts"] + 2) * 8.76 * 0.3)
    assert by_id["jetson-orin-nx/25W"]["verdict"] == "no"
    verdicts = [record["verdict"] for record in records]
    assert verdicts == sorted(verdicts, key=["yes", "maybe", "unknown", "no"].index)


def test_advise_takes_a_spec() -> None:
    spec = str(ROOT / "model_specs/digits.yaml")
    by_spec = run("advise", spec, "--json", "--target", "jetson-orin-nx").stdout
    by_file = run("advise", DIGITS, "--json", "--target", "jetson-orin-nx").stdout
    assert json.loads(by_spec) == json.loads(by_file)


def test_advise_says_what_it_assumes() -> None:
    result = run("advise", DIGITS, "--target", "tflite-micro")
    assert "right within 2x on most published figures" in result.stderr
    assert "tflite-micro" in result.stdout


def test_advise_tells_mistakes() -> None:
    assert "unknown target 'jetson'" in told("advise", DIGITS, "--target", "jetson")
    lacking = told("advise", DIGITS, "--target", "ethos-u55", "--precision", "fp16")
    assert lacking.startswith("ethos-u55 lacks precision 'fp16'")
    assert "no target has precision 'int5'" in told("advise", DIGITS, "--precision", "int5")
    assert "no such file" in told("advise", "none.onnx")
    assert "write NAME=1,3,224,224" in told("advise", DIGITS, "--shape", "x")


@pytest.mark.parametrize("option", ["--fps", "--latency-ms", "--power-w", "--battery-wh",
                                    "--system-w", "--price-kwh"])  # fmt: skip
@pytest.mark.parametrize("figure", ["nan", "inf", "-1"])
def test_figures_that_are_none_are_refused(option: str, figure: str) -> None:
    result = CliRunner().invoke(cli, ["targets", "advise", DIGITS, option, figure])
    assert result.exit_code == 2
    assert f"Invalid value for '{option}': {figure}" in result.stderr


def test_users_targets_are_advised_too(tmp_path: Path) -> None:
    (tmp_path / "pi.yaml").write_text("extends: cpu\ncpu: {cores: 4}\n", encoding="utf-8")
    options = ("--targets-dir", str(tmp_path), "--target", "pi", "--json")
    assert json.loads(run("advise", DIGITS, *options).stdout)[0]["candidate"] == "pi"


def test_tune_power_prints_a_script_only() -> None:
    result = run("tune-power", "jetson-orin-nx", "--mode", "15W", "--cap", "gpu=510")
    assert result.stdout.startswith("#!/bin/sh\n")
    assert "budget: 15 W" in result.stderr
    assert "write ENGINE=MHZ" in told("tune-power", "jetson-orin-nx", "--cap", "gpu")
