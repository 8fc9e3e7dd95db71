"""`optimize: auto` end to end: what is found, held to other rows, kept, and gone on with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from workplace import repo_builder

from repo_builder import targets
from repo_builder.base import energy
from repo_builder.base.errors import SpecError
from repo_builder.build import Request, build
from repo_builder.plan import Node, Plan
from repo_builder.spec.load import load
from repo_builder.spec.search import Auto
from repo_builder.spec.types import Spec

CLASSES, WIDTH, ROWS = 4, 24, 600


def _model(folder: Path) -> None:
    """Two layers that tell four clusters apart, with a scale that one wild value would ruin."""
    random = np.random.default_rng(0)
    centers = random.normal(0, 1, (CLASSES, WIDTH)).astype(np.float32)
    label = random.integers(0, CLASSES, ROWS)
    x = (centers[label] + random.normal(0, 0.9, (ROWS, WIDTH))).astype(np.float32)
    first = np.concatenate([centers.T, random.normal(0, 0.3, (WIDTH, 60))], 1).astype(np.float32)
    second = np.zeros((first.shape[1], CLASSES), np.float32)
    second[:CLASSES] = np.eye(CLASSES)
    bias = (-0.5 * (centers**2).sum(axis=1)).astype(np.float32)
    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["x", "first"], ["hidden"], "first"),
            helper.make_node("MatMul", ["hidden", "second"], ["inner"], "second"),
            helper.make_node("Add", ["inner", "bias"], ["scores"], "last"),
        ],
        "clusters",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", WIDTH])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["n", CLASSES])],
        [
            numpy_helper.from_array(array, name)
            for name, array in {"first": first, "second": second, "bias": bias}.items()
        ],
    )
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), folder / "m.onnx")
    np.savez(folder / "evaluation.npz", x=x, label=label)
    wild = x[:200].copy()
    wild[0] *= 300  # one broken sensor: the least and largest value say nothing of the others
    np.savez(folder / "calibration.npz", x=wild)


def _spec(folder: Path, auto: str = "auto", gates: str = "max_accuracy_drop: 0.02") -> Path:
    (folder / "m.yaml").write_text(
        "name: m\nversion: 1.0.0\nsource: {onnx: m.onnx}\ntargets: [cpu]\n"
        "data:\n  calibration: {path: calibration.npz, samples: 200}\n"
        "  evaluation: {path: evaluation.npz, metric: accuracy, outputs: {scores: scores}}\n"
        f"optimize: {auto}\ngates: {{{gates}}}\n"
    )
    return folder / "m.yaml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    _model(tmp_path)
    return tmp_path


def _build(folder: Path, *options: object) -> tuple[dict[str, Any], str]:
    ended = repo_builder(
        "build", "m.yaml", "--no-images", "--json", "--store", "store", *options, cwd=folder
    )
    assert ended.returncode in (0, 7), ended.stderr
    row: dict[str, Any] = json.loads(ended.stdout)["rows"][0]
    return row, ended.stderr


def test_the_smallest_that_keeps_the_gate_is_found_told_and_kept(folder: Path) -> None:
    _spec(folder)
    planned = repo_builder("plan", "m.yaml", "--store", "store", cwd=folder)
    assert "tries up to 13 variants for the least size" in " ".join(planned.stdout.split())
    row, _ = _build(folder)
    tried = {one["name"]: one for one in row["search"]["candidates"]}
    assert row["status"] == "built"
    won = tried.pop(row["search"]["winner"])
    assert won["why_not"] == ""
    assert "max_accuracy_drop" in tried["int8 minmax"]["why_not"]
    larger = [one["size"] for one in tried.values() if "larger than" in one["why_not"]]
    assert larger
    assert won["size"] <= min(larger)
    assert row["size"] < 0.6 * row["source_size"]
    assert row["score"]["rows"] == ROWS // 2  # the half that chose nothing
    page = (folder / "build" / "report.html").read_text()
    assert "What auto tried" in page
    again = repo_builder("build", "m.yaml", "--no-images", "--all", "--store", "store", cwd=folder)
    assert f"m@cpu: auto took {row['search']['winner']}, the smallest" in again.stderr
    assert "trying" not in again.stderr
    shown, _ = _build(folder)
    assert (shown["status"], shown["search"]) == ("cached", row["search"])
    planned = repo_builder("plan", "m.yaml", "--store", "store", cwd=folder)
    assert "nothing to do" in planned.stdout + planned.stderr


class _Stopped(Exception):
    pass


class _Watch:
    """Counts the steps that run, and stops the build after so many."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.ran: list[str] = []

    def planned(self, plan: Plan) -> None:
        """Nothing to do."""

    def counted(self, steps: int) -> None:
        """Nothing to do."""

    def started(self, node: Node) -> None:
        """Nothing to do."""

    def finished(self, node: Node, entry: object) -> None:
        self.ran.append(node.key)
        if len(self.ran) == self.most:
            raise _Stopped

    def failed(self, node: Node, error: Exception) -> None:
        """Nothing to do."""


def test_a_search_that_was_stopped_goes_on_and_repeats_nothing(folder: Path) -> None:
    request = Request((_spec(folder),), folder / "out", folder / "kept")
    first = _Watch(9)
    with pytest.raises(_Stopped):
        build(request, first)
    second = _Watch(10_000)
    report = build(request, second)
    assert report.good
    assert len(first.ran) == 9
    assert not set(first.ran) & set(second.ran)
    whole = _Watch(10_000)
    build(Request(request.specs, folder / "other", folder / "empty"), whole)
    assert set(first.ran) | set(second.ran) == set(whole.ran)


def test_too_short_a_time_gives_the_best_so_far_and_says_so(folder: Path) -> None:
    _spec(folder, "{auto: {budget_s: 0.000001}}")
    row, _ = _build(folder)
    assert not row["search"]["complete"]
    assert [one["size"] is None for one in row["search"]["candidates"]].count(False) == 1
    told = repo_builder("build", "m.yaml", "--no-images", "--all", "--store", "store", cwd=folder)
    assert "the time was up" in told.stderr
    _spec(folder, "{auto: {budget_s: 600}}")
    row, _ = _build(folder)
    assert row["search"]["complete"]
    assert row["status"] in ("built", "cached")


def test_where_nothing_keeps_the_gates_the_best_is_refused_with_the_reason(folder: Path) -> None:
    _spec(folder, gates="max_accuracy_drop: 0.02, max_size_mb: 0.000001")
    row, _ = _build(folder)
    assert row["status"] == "gate failed"
    assert "max_size_mb" in row["reason"]
    assert all(one["why_not"] for one in row["search"]["candidates"])


def test_the_fastest_is_sought_beside_fp32(folder: Path) -> None:
    _spec(folder, "{auto: {objective: latency}}")
    row, _ = _build(folder)
    assert row["search"]["objective"] == "latency"
    tried = {one["name"]: one for one in row["search"]["candidates"]}
    assert tried["fp32"]["faster"] == 1.0
    assert tried["int8 minmax"]["faster"] > 0


@pytest.mark.parametrize(
    ("auto", "gates", "said"),
    [
        ("auto", "max_size_mb: 1", "needs to know how much the score may fall"),
        ("{auto: {}, precision: int8}", "max_accuracy_drop: 0.1", "`auto` finds it"),
        (
            "{auto: {}, quantization: {method: entropy}}",
            "max_accuracy_drop: 0.1",
            "`auto` finds how to quantize",
        ),
        ("{auto: {objective: power}}", "max_accuracy_drop: 0.1", "unknown value 'power'"),
        ("fast", "max_accuracy_drop: 0.1", "optimize"),
    ],
)
def test_what_a_search_needs_is_told_where_it_is_missing(
    folder: Path, auto: str, gates: str, said: str
) -> None:
    _spec(folder, auto, gates)
    ended = repo_builder("build", "m.yaml", "--store", "store", cwd=folder)
    assert ended.returncode == 3
    assert said in " ".join(ended.stderr.split())


def test_energy_that_cannot_be_read_is_refused_before_anything_runs(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = _spec(folder, "{auto: {objective: energy}}")
    monkeypatch.setattr(energy, "why_not", lambda: "this machine has no counters of energy")
    with pytest.raises(SpecError) as refused:
        load([spec], targets.load())
    assert "no counters of energy; or write `objective: latency`" in str(refused.value.problems[0])
    monkeypatch.setattr(energy, "why_not", lambda: "")
    (loaded,) = load([spec], targets.load())
    assert isinstance(loaded, Spec)
    assert loaded.optimize.auto == Auto("energy")
