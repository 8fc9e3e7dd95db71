"""The main job end to end: the example specs, built twice, changed, broken, and served."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import onnx
import pytest
from triton_models import StartTriton
from tritonclient.grpc import InferenceServerClient, InferInput
from workplace import SPECS, Workplace, repo_builder

from repo_builder.base import digest
from repo_builder.run.store import Store
from tests.browser import CHROMIUM, Browser

LOOK = Path(__file__).parent / "look.js"


def test_every_example_is_built_verified_and_reported(built: Workplace) -> None:
    report = json.loads((built.out / "report.json").read_text())
    names = ("digits", "digits-large", "find-shapes", "read-digit", "shapes", "vibration")
    ids = {f"{name}@{target}" for name in names for target in ("cpu", "cpu-openvino")}
    rows = {row["id"]: row for row in report["rows"]}
    assert set(rows) == ids
    for row in rows.values():
        assert row["status"] == "built"
        assert row["level"] == "executed"
        assert row["latency"]["p50_ms"] > 0
        assert row["budget"] or abs(row["score"]["drop"]) <= 0.02
    assert rows["digits@cpu"]["score"]["drop"] <= 0.005
    assert rows["digits@cpu"]["size"] < rows["digits@cpu"]["source_size"]
    page = (built.out / "report.html").read_text()
    assert all(name in page for name in ids)
    assert page.count("<script") == 1
    assert "://" not in page


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_of_a_build_looks_right(
    built: Workplace, unavailable: Callable[[str], NoReturn], width: int
) -> None:
    if CHROMIUM is None:
        unavailable("no chromium; apt-get install chromium")
    address = (built.out / "report.html").as_uri()
    with Browser() as browser:
        page = browser.open(address, width=width, height=900, dark=width < 600)
        page.run("for (const e of document.querySelectorAll('details')) e.open = true")
        found = page.run(LOOK.read_text())
        assert page.complaints() == []
    assert found.pop("texts") > 500
    assert found == {"overflow": 0, "wide": [], "clipped": [], "faint": []}


def test_the_manifest_says_what_is_in_the_repository(built: Workplace) -> None:
    manifest = json.loads((built.out / "cpu" / "manifest.json").read_text())
    assert manifest["models"]["digits"]["triton_version"] == 1_000_000
    for name, record in manifest["models"].items():
        folder = built.out / "cpu" / "models" / name
        found = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
        assert found == set(record["files"])


def test_a_second_build_does_nothing_and_says_so(place: Workplace) -> None:
    assert place.steps_to_run() == {}
    before = (place.out / "cpu").readlink()
    ended = place.run("build")
    assert ended.returncode == 0
    said = [line for line in ended.stderr.splitlines() if "image" not in line]
    assert re.fullmatch(r"nothing changed \(\d+ models; --all lists them\)", said[0])
    assert said[1].startswith("report: ")
    assert len(said) == 2
    assert ended.stdout == ""
    assert "digits@cpu " in place.run("build", "--all").stdout
    assert (place.out / "cpu").readlink() == before


def test_the_report_as_markdown_also_of_a_build_that_fails(place: Workplace) -> None:
    file = place.folder / "report.md"
    place.build("--only", "vibration@cpu", "--markdown", file)
    assert "vibration: " in file.read_text()
    place.edit("vibration.yaml", "max_size_mb: 0.1", "max_size_mb: 0.001")
    ended = place.run("build", "--only", "vibration@cpu", "--markdown", file)
    assert ended.returncode == 7, ended.stderr
    text = file.read_text()
    assert "held back by a gate" in text
    assert "size 0.0" in text
    assert "no longer good" in text


def test_what_is_remembered_of_a_build_is_never_believed_after_a_change(place: Workplace) -> None:
    wait_until_old(place.specs)
    for _ in range(2):  # the second has nothing to do and remembers it
        assert {row["status"] for row in place.build("--only", "digits@cpu")["rows"]} <= {
            "built",
            "cached",
        }
    (memory,) = (place.store / "unchanged").glob("*.json")
    text, report = memory.read_bytes(), (place.out / "report.json").read_bytes()

    again = place.build("--only", "digits@cpu")
    assert [row["id"] for row in again["rows"]] == ["digits@cpu"]
    assert (place.out / "report.json").read_bytes() == report
    assert memory.read_bytes() == text

    manifest = place.out / "cpu" / "manifest.json"
    for harm, ran in (
        (lambda: place.edit("digits.yaml", "version: 1.0.0", "version: 1.0.1"), False),
        (lambda: next((place.out / "cpu/models/digits").rglob("model.onnx")).unlink(), False),
        ((place.out / "report.json").unlink, False),
        (lambda: [path.unlink() for path in (place.store / "blobs").rglob("*") if path.is_file()],
         True),
    ):  # fmt: skip
        harm()
        rows = place.build("--only", "digits@cpu")["rows"]
        assert ("import" in rows[0]["ran"]) == ran
        assert (place.out / "report.json").is_file()
        assert next((place.out / "cpu/models/digits").rglob("model.onnx")).is_file()
    assert json.loads(manifest.read_text())["models"]["digits"]["version"] == "1.0.1"


def wait_until_old(folder: Path) -> None:
    """Wait until no file is so new that a build would not trust its time."""
    newest = max(path.stat().st_ctime for path in folder.rglob("*"))
    while time.time() < newest + 2.5:
        time.sleep(newest + 2.5 - time.time())


def test_a_part_of_a_build_keeps_the_other_rows_of_the_report(place: Workplace) -> None:
    before = json.loads((place.out / "report.json").read_text())
    place.edit("digits.yaml", "version: 1.0.0", "version: 1.0.1")
    assert [row["id"] for row in place.build("--only", "digits@cpu")["rows"]] == ["digits@cpu"]
    after = json.loads((place.out / "report.json").read_text())
    assert [row["id"] for row in after["rows"]] == [row["id"] for row in before["rows"]]
    versions = {row["id"]: row["version"] for row in after["rows"]}
    assert versions["digits@cpu"] == "1.0.1"
    assert versions["digits@cpu-openvino"] == "1.0.0"
    assert set(after["repositories"]) == set(before["repositories"])


def test_a_byte_in_a_model_rebuilds_what_depends_on_it(place: Workplace) -> None:
    path = place.specs / "digits" / "digits.onnx"
    model = onnx.load(path)
    weights = next(tensor for tensor in model.graph.initializer if tensor.raw_data)
    raw = bytearray(weights.raw_data)
    raw[0] ^= 1
    weights.raw_data = bytes(raw)
    onnx.save(model, path)
    would = place.steps_to_run()
    names = ("digits", "read-digit")
    changed = {f"{name}@{target}" for name in names for target in ("cpu", "cpu-openvino")}
    assert {name for name, _ in would} == changed
    assert would["digits@cpu", "import"] == "digits.onnx changed"
    assert would["digits@cpu", "quantize"] == "simplify changed"
    report = place.build()
    ran = {row["id"] for row in report["rows"] if row["status"] == "built"}
    assert ran == changed


def test_a_parameter_rebuilds_what_depends_on_it(place: Workplace) -> None:
    place.edit("digits.yaml", "percentile: 99.99", "percentile: 99.9")
    would = place.steps_to_run("--target", "cpu")
    steps = {"quantize", "compile-onnxruntime", "verify", "calibrate-confidence", "profile"}
    assert set(would) == {
        *(("digits@cpu", step) for step in steps),
        ("read-digit@cpu", "run-pipeline"),
    }
    assert would["digits@cpu", "quantize"] == "percentile 99.99 -> 99.9"


def test_a_tool_rebuilds_what_depends_on_it(place: Workplace) -> None:
    """The tool's version is what its installed metadata says: another copy says another one."""
    shadow = place.folder / "shadow" / "onnxslim-0.0.1.dist-info"
    shadow.mkdir(parents=True)
    (shadow / "METADATA").write_text("Metadata-Version: 2.1\nName: onnxslim\nVersion: 0.0.1\n")
    root = Path(__file__).parents[2]
    path = os.pathsep.join([str(shadow.parent), str(root)])
    ended = repo_builder(
        "plan", place.specs, "--store", place.store, "--json", "--only", "digits@cpu",
        PYTHONPATH=path,
    )  # fmt: skip
    why = {line["step"]: line["why"] for line in json.loads(ended.stdout) if not line["cached"]}
    assert why["simplify"].startswith("onnxslim ")
    assert why["simplify"].endswith(" -> 0.0.1")
    assert "import" not in why
    assert "reference" not in why


def test_a_serving_change_renders_again_and_runs_nothing(place: Workplace) -> None:
    place.edit("digits.yaml", "objective: latency", "objective: throughput")
    assert place.steps_to_run() == {}
    report = place.build("--only", "digits@cpu")
    assert report["repositories"]["cpu"]["changed"]
    assert {"digits", "digits-large", "shapes", "vibration", "read-digit", "find-shapes"} < set(
        report["repositories"]["cpu"]["models"]
    )
    assert "count: 2" in (place.out / "cpu/models/digits/config.pbtxt").read_text() or (
        len(os.sched_getaffinity(0)) != 2
    )


def test_a_gate_that_fails_keeps_the_previous_version(place: Workplace) -> None:
    place.edit("digits.yaml", "max_size_mb: 0.1", "max_size_mb: 0.001")
    place.edit("digits.yaml", "version: 1.0.0", "version: 1.1.0")
    ended = place.run("build")
    assert ended.returncode == 7
    assert "> max_size_mb 0.001" in ended.stderr
    models = place.out / "cpu" / "models"
    assert (models / "digits" / "1000000" / "model.onnx").is_file()
    assert not (models / "digits" / "1001000").exists()


def test_a_model_that_fails_leaves_the_others(place: Workplace) -> None:
    (place.specs / "broken.onnx").write_bytes(b"not a model")
    (place.specs / "broken.yaml").write_text(
        "name: broken\nversion: 1.0.0\nsource: {onnx: broken.onnx}\ntargets: [cpu]\n"
    )
    ended = place.run("build")
    assert ended.returncode == 6
    assert "broken.onnx: not an ONNX model" in ended.stderr
    assert "Traceback" not in ended.stderr
    lines = ended.stdout.splitlines()
    assert lines[0].startswith("model@target")
    at = next(number for number, line in enumerate(lines) if line.startswith("broken@cpu"))
    told = "".join("".join(lines[at + 1 :]).split())  # a long path is broken where the line ends
    assert "broken.onnx:notanONNXmodel" in told


def test_a_model_whose_spec_is_gone_leaves_the_repository(place: Workplace) -> None:
    for name in ("shapes", "find-shapes"):
        (place.specs / f"{name}.yaml").unlink()
    report = place.build()
    assert "shapes" not in report["repositories"]["cpu"]["models"]
    assert not (place.out / "cpu" / "models" / "shapes").exists()


def test_a_damaged_entry_is_found_and_made_again(place: Workplace) -> None:
    """Same size, other content: found when it is read, and by `cache verify`."""
    manifest = json.loads((place.out / "cpu" / "manifest.json").read_text())
    sha256, _ = manifest["models"]["digits"]["files"]["1000000/model.onnx"]
    blob = place.store / "blobs" / sha256[:2] / sha256
    content = blob.read_bytes()
    blob.chmod(0o644)
    blob.write_bytes(bytes(reversed(content)))
    shutil.rmtree(place.out)
    report = place.build("--only", "digits@cpu")
    assert [row["status"] for row in report["rows"]] == ["built"]
    assert (place.out / "cpu/models/digits/1000000/model.onnx").read_bytes() == content


def test_garbage_collection_leaves_nothing_to_do(place: Workplace) -> None:
    ended = repo_builder("cache", "gc", "--store", place.store)
    assert ended.returncode == 0, ended.stderr
    assert place.steps_to_run() == {}


def test_two_builds_at_once_into_one_store_and_one_output(tmp_path: Path) -> None:
    place = Workplace(tmp_path)
    only = ("--only", "digits@cpu", "--only", "vibration@cpu")
    ended: list[subprocess.CompletedProcess[str]] = []
    threads = [
        threading.Thread(target=lambda: ended.append(place.run("build", *only))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [process.returncode for process in ended] == [0, 0], [p.stderr for p in ended]
    assert place.steps_to_run(*only) == {}


@pytest.mark.parametrize("target", ["cpu", "cpu-openvino"])
def test_digits_answers_right_through_tritonclient(
    built: Workplace, triton: StartTriton, target: str
) -> None:
    server = triton(built.out / target)
    data = np.load(SPECS / "digits" / "evaluation.npz")
    images, labels = data["image"][:64], data["label"][:64]
    with InferenceServerClient(server.grpc_url) as client:
        answers = []
        for start in range(0, 64, 16):
            tensor = InferInput("image", [16, 1, 8, 8], "FP32")
            tensor.set_data_from_numpy(images[start : start + 16])
            result = client.infer("digits", [tensor])
            answers.append(result.as_numpy("logits").argmax(axis=1))
            assert result.get_response().model_version == "1000000"
    assert (np.concatenate(answers) == labels).mean() >= 0.9


def told_of_load(place: Workplace, load: float) -> None:
    """Let the store say that others used this share of the cores when digits@cpu was measured."""
    store = Store(place.store)
    (key,) = (
        digest.of_json(recipe)
        for name, recipe in store.recall("digits@cpu").items()
        if name == "profile"
    )
    entry = store.get(key)
    assert entry is not None
    conditions: Any = entry.facts["conditions"]
    batches: Any = entry.facts["batches"]
    facts = {
        **entry.facts,
        "conditions": {**conditions, "load": load, "throttled": 0.0},
        "batches": [{**batch, "spread": 0.01} for batch in batches],
    }
    store.add(dataclasses.replace(entry, facts=facts), {})


def test_what_is_not_fp32_stands_beside_the_fp32_of_its_runtime(place: Workplace) -> None:
    rows = {row["id"]: row for row in json.loads((place.out / "report.json").read_text())["rows"]}
    for name, runtime in (("digits@cpu", "onnxruntime"), ("digits@cpu-openvino", "openvino")):
        fp32, built = rows[name]["fp32"], rows[name]
        assert fp32["runtime"] == runtime
        assert fp32["smaller"] == fp32["size"] / built["size"]
        assert fp32["faster_low"] <= fp32["faster"] <= fp32["faster_high"]
        assert fp32["score"] + fp32["score_change"] == pytest.approx(built["score"]["built"])
        assert 1 <= built["latency"]["cores"] <= len(os.sched_getaffinity(0))
        assert built["latency"]["cpu"]
    assert rows["digits-large@cpu"]["fp32"] is None
    table = place.run("build", "--all").stdout
    assert rows["digits@cpu"]["fp32"]["text"] in table


def test_measuring_again_runs_profile_alone_and_publishes_nothing(place: Workplace) -> None:
    before = (place.out / "cpu").readlink()
    report = place.build("--only", "digits@cpu", "--measure-again")
    assert [row["ran"] for row in report["rows"]] == [["profile"]]
    assert (place.out / "cpu").readlink() == before
    assert not report["repositories"]["cpu"]["changed"]


def test_a_gate_on_latency_passes_no_figure_of_a_busy_machine(place: Workplace) -> None:
    place.edit("digits.yaml", "max_size_mb: 0.1", "max_latency_ms: 1000")
    place.edit("digits.yaml", "version: 1.0.0", "version: 1.1.0")
    told_of_load(place, 0.6)
    ended = place.run("build", "--only", "digits@cpu")
    assert ended.returncode == 7
    assert "others used 60% of the processor while it was measured" in ended.stderr
    assert "repo-builder build --measure-again" in ended.stderr
    assert re.search(r"digits@cpu .* \d+\.\d\d \?", ended.stdout)
    models = place.out / "cpu" / "models"
    assert (models / "digits" / "1000000" / "model.onnx").is_file()
    assert not (models / "digits" / "1001000").exists()
    told_of_load(place, 0.0)
    ended = place.run("build", "--only", "digits@cpu")
    assert ended.returncode == 0
    assert "?" not in ended.stdout
    assert (models / "digits" / "1001000" / "model.onnx").is_file()
