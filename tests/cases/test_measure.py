"""`repo-builder measure` on what a build made, in the runtimes that serve it."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from triton_models import StartTriton
from workplace import Workplace, repo_builder

from repo_builder.base.errors import ModelError
from repo_builder.run.store import Store
from repo_builder.tune.measure import _served, read, subjects
from repo_builder.tune.measure.rounds import LEAST_ROUNDS


@pytest.fixture(scope="module")
def run(built: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the digits in both runtimes, as JSON beside its page and its Markdown."""
    file = tmp_path_factory.mktemp("measured") / "run.json"
    ended = repo_builder(
        "measure", built.out, "--store", built.store, "--only", "digits@*", "--batch", 1,
        "--batch", 4, "--seconds", 1, "--save", file, "--html", file.with_suffix(".html"),
        "--markdown", file.with_suffix(".md"),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    assert "digits  int8       onnxruntime" in ended.stdout
    assert f"round {LEAST_ROUNDS} of at least {LEAST_ROUNDS}: 4 to visit" in ended.stderr
    return file


def test_every_precision_runtime_and_batch_has_a_cell(run: Path) -> None:
    measured = read(run)
    assert {cell.key[1:5] for cell in measured.cells} == {
        (target, precision, runtime, batch)
        for target, runtime in (("cpu", "onnxruntime"), ("cpu-openvino", "openvino"))
        for precision in ("int8", "fp32")
        for batch in (1, 4)
    }
    assert measured.rounds == LEAST_ROUNDS
    assert measured.finished
    for cell in measured.cells:
        assert cell.rows_per_second.low is not None
        assert cell.p50_ms.value > 0
        assert len(cell.visits) == LEAST_ROUNDS
        assert cell.p99_ms is not None
        assert cell.p99_ms.value >= 0.5 * cell.p50_ms.value
        assert cell.memory is not None
        assert 0 < cell.memory.model < cell.memory.resident


def test_it_is_shown_whole_in_one_file(run: Path) -> None:
    page = run.with_suffix(".html").read_text()
    assert page.count("<svg") == 1
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "| digits | int8 | onnxruntime | 1 |" in run.with_suffix(".md").read_text()


def test_a_run_is_held_against_an_earlier_one_and_needs_no_store(
    built: Workplace, run: Path, tmp_path: Path
) -> None:
    """Without the store inputs are made up, and there is no fp32."""
    old = json.loads(run.read_text())
    for cell in old["cells"]:
        cell["visits"] = [rate / 1000 for rate in cell["visits"]]
        cell["doubt"] = ""
    file = tmp_path / "old.json"
    file.write_text(json.dumps({**old, "hardware": {**old["hardware"], "cpu": "Another"}}))
    ended = repo_builder(
        "measure", built.out / "cpu", "--store", tmp_path, "--only", "digits@*", "--batch", 1,
        "--seconds", 1, "--against", file, "--json",
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr
    made = json.loads(ended.stdout)
    assert [cell["precision"] for cell in made["cells"]] == ["int8"]
    (left,) = made["left_out"]
    assert left.startswith(f"digits@cpu in fp32: the store {tmp_path} does not have it")
    found = made["against"]
    assert "cpu Another, now " in found["other_machine"]
    assert len(found["gone"]) == 7
    (change,) = found["changes"]
    assert change["low"] > 10


def test_what_is_published_is_asked_through_triton(
    built: Workplace, tmp_path: Path, triton: StartTriton
) -> None:
    triton(built.out / "cpu", models=["vibration"])  # skips where there is none
    found = subjects.of(built.out / "cpu", Store(built.store), tmp_path, callers=(1, 4))
    served = {one.callers: one for one in found.subjects if one.model == "digits" and one.served}
    for callers, batches in ((1, (1, 4)), (4, (1,))):
        visit = _served.timed(served[callers], batches, 0.3)
        assert [sample.batch for sample in visit.samples] == list(batches)
        for sample in visit.samples:
            assert sample.runs > 10
            rate = sample.batch * sample.runs / sample.seconds
            assert sample.rows_per_second == pytest.approx(rate)
    lost = dataclasses.replace(served[1], inputs=None)
    with pytest.raises(ModelError, match="the store has no inputs of it"):
        _served.timed(lost, (1,), 0.1)


def test_what_is_no_build(built: Workplace, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    for folder, says in (
        (tmp_path / "none", "no such folder"),
        (tmp_path, "has no published models in it"),
    ):
        ended = repo_builder("measure", folder, "--store", built.store)
        assert (ended.returncode, ended.stdout) == (9, "")
        assert ended.stderr.startswith(f"error: {folder}: {says}; give the folder that")
    (tmp_path / "cpu" / "manifest.json").write_text("[]")
    ended = repo_builder("measure", tmp_path, "--store", built.store)
    assert (ended.returncode, "is no manifest of a build" in ended.stderr) == (9, True)
    ended = repo_builder("measure", built.out, "--store", built.store, "--only", "digit@*")
    assert (ended.returncode, "fits none of: digits@cpu" in ended.stderr) == (2, True)
    ended = repo_builder("measure", built.out, "--store", built.store, "--only", "read-digit@*")
    assert ended.returncode == 9
    assert "a pipeline; `repo-builder trace` shows its stages" in ended.stderr
    ended = repo_builder("measure", built.out, "--against", tmp_path / "cpu" / "manifest.json")
    assert (ended.returncode, "is no run of `measure`" in ended.stderr) == (9, True)


def test_ctrl_c_keeps_what_was_measured(built: Workplace, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "repo_builder", "measure", str(built.out), "--store"]
    command += [str(built.store), "--only", "digits@cpu", "--batch", "1", "--save"]
    command += [str(tmp_path / "run.json")]
    child = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ}
    )
    assert child.stderr is not None
    for line in child.stderr:
        if line.startswith("round 3"):
            child.send_signal(signal.SIGINT)
            break
    out, err = child.communicate(timeout=60)
    assert child.returncode == 130, err
    assert "digits  int8" in out
    assert "ended early: not all was measured" in err
    measured = read(tmp_path / "run.json")
    assert not measured.finished
    assert len(measured.cells[0].visits) >= 2
