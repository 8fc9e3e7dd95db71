"""Every command that prints a table: it fits 60 columns, and what identifies a row is whole."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import repo_builder.cli
from repo_builder.base.hardware import Hardware, State
from repo_builder.build.report.types import Budget, Row
from repo_builder.cli import bench, build, cli, images, measure, sensitivity
from repo_builder.client.load import Load
from repo_builder.images.sizes import LayerSize
from repo_builder.release import registry
from repo_builder.release.folder import Folder
from repo_builder.release.types import Artifact, Release
from repo_builder.targets.loader import CATALOG
from repo_builder.tune.measure import compare
from repo_builder.tune.measure.types import Cell, Figure, Measured, Memory
from tests.unit.base.energy import trees

SPEC = Path(__file__).parents[3] / "model_specs" / "digits.yaml"
TARGETS = sorted(file.stem for file in CATALOG.glob("*.yaml"))
LONG = "registry.example.com/team/a-name-as-long-as-people-make-them/cpu-openvino:1.2.3"


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("REPO_BUILDER_KEYS", str(tmp_path / "keys"))


def run(*arguments: object) -> list[str]:
    ended = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    assert ended.exception is None, ended.exception
    return ended.stdout.splitlines()


def fits(lines: list[str]) -> str:
    """The lines without white space: what was said, wherever it was broken."""
    assert lines
    assert [line for line in lines if len(line) > 60 and not line.startswith("    http")] == []
    return "".join("".join(lines).split())


def test_targets() -> None:
    said = run("targets", "list")
    fits(said)
    assert [line.split()[0] for line in said if not line.startswith(" ")] == ["target", *TARGETS]
    assert "(NeuralComputeStick2)" in "".join("".join(said).split())
    ranked = run("targets", "advise", SPEC)
    fits(ranked)
    assert any(line.startswith("jetson-agx-orin-32gb/15W ") for line in ranked)


def test_a_family(monkeypatch: pytest.MonkeyPatch) -> None:
    folder = SPEC.parent / "families"
    monkeypatch.chdir(folder)
    said = run(
        "family", "image/mixture-image.yaml", "--target", "jetson-orin-nx", "--latency-ms", 2
    )
    assert "jetson-orin-nx/MAXNactive=3" in fits(said)


@pytest.mark.parametrize("name", TARGETS)
def test_a_target(name: str) -> None:
    said = fits(run("targets", "show", name))
    assert said.startswith(f"{name}:")
    assert "…" not in said


def test_a_plan(tmp_path: Path) -> None:
    said = fits(run("plan", SPEC, "--store", tmp_path))
    assert "digits@snapdragon-qcs8275" in said
    assert "…" not in said


def test_pins() -> None:
    said = fits(run("pins", "list"))
    assert "python:3.11-bookworm" in said
    assert "onnxruntime-qnn" in said


def test_keys() -> None:
    run("keys", "new", "a-key-with-a-name-as-long-as-people-make-them")
    said = fits(run("keys", "list"))
    assert "a-key-with-a-name-as-long-as-people-make-" in said
    assert "them" in said
    assert "…" not in said


def test_data(tmp_path: Path) -> None:
    file = tmp_path / "d.npz"
    np.savez(file, **{"an-input-as-long-as-exporters-make": np.ones((2, 3, 4, 5, 6, 7))})
    said = fits(run("data", "show", file))
    assert all(part in said for part in ("an-input-as-long-as-", "exporters-make"))
    assert all(part in said for part in ("[2,3,", "4,5,6,7]"))


Capture = pytest.CaptureFixture[str]


def printed(capsys: Capture, show: Callable[[], None]) -> str:
    show()
    return fits(capsys.readouterr().out.splitlines())


def test_images(capsys: Capture) -> None:
    listed = {
        "reference": LONG, "target": "cpu-openvino", "manifest": "0123456789ab",
        "models": "digits 1.0.0, shapes 1.0.0", "id": "sha256:0123456789abcd", "size": 204_000_000,
    }  # fmt: skip
    said = printed(capsys, lambda: images._print_images([listed]))
    assert "204.00MB" in said
    layer = LayerSize(f"COPY models/ # {LONG}", "sha256:0123456789abcd", 204_000_000, 72_000_000)
    said = printed(capsys, lambda: images._print_layers([(layer, "new")], 204_000_000, 72_000_000))
    assert "72.00MB" in said


def test_bench(capsys: Capture) -> None:
    load = Load([0.001] * 98 + [12.3456] * 2, seconds=25.0, sources=Counter(edge=90, cloud=10))
    assert "12345.60" in printed(capsys, lambda: bench._print(load, None))


def test_budgets(capsys: Capture) -> None:
    stages = {"capture": 17.0, "transfer": 2.0, "preprocess": 0.1, "infer": 0.5, "postprocess": 0.2}
    name = "find-shapes@snapdragon-qcs8275"
    row = Row(
        name, "find-shapes", "snapdragon-qcs8275", "1.0.0", "pipeline", "built",
        budget=Budget(stages, 19.8, 25.0),
    )  # fmt: skip
    said = printed(capsys, lambda: build._print_budgets([row]))
    assert name in said
    assert "19.80" in said


def test_sensitivity(capsys: Capture) -> None:
    layer = {
        "name": "/model/encoder/layers.11/self_attention/output_dense/MatMul", "kind": "MatMul",
        "error": 0.0123, "saved": 204_000_000, "share": 0.0123, "form": "weights",
    }  # fmt: skip
    facts = {
        "layers": [layer], "source": "", "whole": 0.1, "error": 0.01, "max_error": 0.05,
        "saved": 1.0, "share": 0.5,
    }  # fmt: skip
    said = printed(capsys, lambda: sensitivity._print("digits@cpu", facts, first=True))
    assert "…" not in said
    assert all(part in said for part in ("/model/encoder/layers.11/self_", "/MatMul", "0.012"))
    assert "int8" in said
    assert "weights" in said


def test_roi(tmp_path: Path) -> None:
    costs = tmp_path / "costs.yaml"
    costs.write_text(
        "devices: {low: 1.0e+6, likely: 2.0e+6, high: 9.0e+8}\nyears: 5\n"
        "cloud: {compute_per_year: 123456789}\nedge: {support_per_year: 1}\n"
        "once: {hardware_per_device: 1, installation_per_device: {low: 1, likely: 2, high: 3}}\n"
    )
    assert "once.installation_per_device" in fits(run("roi", costs))


def test_sensors(tmp_path: Path) -> None:
    trees.orin_nx(tmp_path)
    said = fits(run("targets", "sensors", "--root", tmp_path))
    assert all(name in said for name in ("VDD_CPU_GPU_CV", "gpu-thermal", "over-currentoc3"))


def test_tegrastats(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("RAM 1/2MB CPU [1%@9] gpu@40C VDD_IN 4000mW/1mW\nnoise\n" * 3)
    said = fits(run("targets", "tegrastats", log))
    assert "VDD_IN4.000W" in said
    assert "gpu40.0C40.0" in said


def test_measure(capsys: pytest.CaptureFixture[str]) -> None:
    figure = Figure(123456.7, 123000.0, 124000.0)
    cell = Cell(
        "a-model-of-a-long-name", "cpu-openvino", "int4 weights", "onnxruntime", 32, 0, "d" * 64,
        figure, figure, figure, figure, Memory(1234.5, 999.9), 100, (1.0,), narrow=False,
    )  # fmt: skip
    pc = Hardware("CPU", "amd64", 2, 2, None, (), (), None, None, False, "Linux")
    now = State(None, None, None, None)
    made = Measured("2026-11-28T04:00:00Z", 1.0, 1, 0.03, pc, now, now, {}, (cell,))
    said = printed(capsys, lambda: measure._print(made, compare.of(made, made)))
    assert "123,457" in said


def test_releases(tmp_path: Path) -> None:
    name, targets = "shapes-of-many-kinds", ("cpu-openvino", "ethos-u85")
    registry.init(tmp_path / "registry")
    empty = Artifact("", {}, "", "", "", "", {}, None, None, None, None, {}, {})
    made = Release(name, "10.20.30", 0, "", "", "", "", dict.fromkeys(targets, empty))
    Folder(tmp_path / "registry").write(f"releases/{name}/10.20.30.json", made.text())
    said = fits(run("release", "list", "--registry", tmp_path / "registry"))
    assert made.id in said
    assert all(target in said for target in targets)


def test_these_are_all() -> None:
    """A new table needs a test here; the rows of a build have theirs in test_build_table.py."""
    folder = Path(repo_builder.cli.__file__).parent
    found = {
        file.stem for file in folder.glob("*.py") if "console.table(" in file.read_text("utf-8")
    }
    assert found == {
        "_advise", "bench", "build", "data", "family", "images", "keys", "measure", "pins", "plan",
        "release", "roi", "sensitivity", "targets",
    }  # fmt: skip
