"""Pipelines end to end: built from the example specs, served by genuine Triton, and right."""

from __future__ import annotations

import dataclasses
import io
import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from triton_models import StartTriton
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException
from workplace import SPECS, Workplace

from repo_builder.base import digest
from repo_builder.plan.pipelines import RUN
from repo_builder.run.store import Store

Array = np.ndarray[Any, Any]


def png(image: Array, size: tuple[int, int] | None = None) -> bytes:
    """The file of an image [channels, height, width] in 0..1."""
    pixels = np.rint(image.transpose(1, 2, 0) * 255).astype(np.uint8)
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    stream = io.BytesIO()
    (picture.resize(size, Image.Resampling.BICUBIC) if size else picture).save(stream, "PNG")
    return stream.getvalue()


def ask(client: InferenceServerClient, model: str, **arrays: Array) -> dict[str, Array]:
    tensors = []
    for name, array in arrays.items():
        kind = "BYTES" if array.dtype == object else "FP32"
        tensors.append(InferInput(name, array.shape, kind))
        tensors[-1].set_data_from_numpy(array)
    result = client.infer(model, tensors)
    return {out.name: result.as_numpy(out.name) for out in result.get_response().outputs}


def files(contents: list[bytes]) -> Array:
    return np.array([[content] for content in contents], dtype=object)


def test_stages_are_reported(built: Workplace) -> None:
    report = json.loads((built.out / "report.json").read_text())
    rows = {row["id"]: row for row in report["rows"]}
    for target in ("cpu", "cpu-openvino"):
        for name in ("read-digit", "find-shapes"):
            budget = rows[f"{name}@{target}"]["budget"]
            assert budget["stages"]["capture"] == 17
            assert all(budget["stages"][s] > 0 for s in ("preprocess", "infer", "postprocess"))
            assert sum(budget["stages"].values()) == pytest.approx(budget["total_ms"])
            assert 19 < budget["total_ms"] < 250
    assert "Latency budgets" in (built.out / "report.html").read_text()
    assert not built.steps_to_run()


@pytest.mark.parametrize("target", ["cpu", "cpu-openvino"])
def test_pipelines_answer_as_their_steps_by_hand(
    built: Workplace, triton: StartTriton, target: str
) -> None:
    server = triton(built.out / target)
    digits = np.load(SPECS / "digits" / "evaluation.npz")
    shapes = np.load(SPECS / "shapes" / "evaluation.npz")
    with InferenceServerClient(server.grpc_url) as client:
        right = 0
        for start in range(0, 256, 16):
            images, truth = (digits[n][start : start + 16] for n in ("image", "label"))
            answer = ask(client, "read-digit", file=files([png(i) for i in images]))
            pixels = np.rint(images * 255).astype(np.float32) * np.float32(1 / 255)
            logits = ask(client, "digits", image=pixels)["logits"]
            best = np.argsort(-logits, axis=1, kind="stable")[:, :3]
            powers = np.exp(logits - logits.max(axis=1, keepdims=True))
            scores = np.take_along_axis(powers / powers.sum(axis=1, keepdims=True), best, 1)
            np.testing.assert_allclose(answer["score"], scores, rtol=1e-4, atol=1e-6)
            assert answer["label"][:, 0].astype(int).tolist() == best[:, 0].tolist()
            right += int((answer["label"][:, 0].astype(int) == truth).sum())
        assert right / 256 >= 0.93
        found = hit = 0
        for row in range(40):
            answer = ask(client, "find-shapes", file=files([png(shapes["images"][row])]))
            large = ask(client, "find-shapes", file=files([png(shapes["images"][row], (288, 192))]))
            cls = shapes["true_classes"][row]
            for scale, got in ((np.array([1, 1, 1, 1]), answer), (np.array([3, 2, 3, 2]), large)):
                count = int(got["count"][0, 0])
                assert (got["class"][0, count:] == -1).all()
                assert (got["class"][0, :count] >= 0).all()
                boxes = shapes["true_boxes"][row][cls >= 0]
                for box, kind in zip(boxes, cls[cls >= 0], strict=True):
                    near = np.abs(got["box"][0, :count] / scale - box).max(axis=1) < 6
                    found += 1
                    hit += bool((near & (got["class"][0, :count] == kind)).any())
        assert hit / found >= 0.9
    assert not list((built.out / target).rglob("__pycache__"))  # all is in the signed manifest


def test_an_image_that_cannot_be_read_fails_its_own_request_only(
    built: Workplace, triton: StartTriton
) -> None:
    server = triton(built.out / "cpu")
    good = (SPECS / "digits" / "sample.png").read_bytes()
    with InferenceServerClient(server.grpc_url) as client:
        for bad in (b"", b"text", good[:60]):
            with pytest.raises(InferenceServerException, match="row 1: not an image") as caught:
                ask(client, "read-digit", file=files([good, bad]))
            assert caught.value.status() == "StatusCode.INVALID_ARGUMENT"
        assert ask(client, "read-digit", file=files([good]))["label"].shape == (1, 3)


def test_the_stages_need_nothing_but_numpy_and_pillow(built: Workplace, tmp_path: Path) -> None:
    """As in an image whose stub has only these: an interpreter that sees nothing else."""
    import sys

    site = tmp_path / "site"
    site.mkdir()
    for name in ("numpy", "PIL", "numpy.libs", "pillow.libs"):
        import numpy

        source = Path(numpy.__file__).parents[1] / name
        if source.exists():
            (site / name).symlink_to(source)
    script = (
        "import sys, types, importlib, pathlib\n"
        f"sys.path.append({str(site)!r})\n"
        "for folder in map(pathlib.Path, sys.argv[1:]):\n"
        "    package = types.ModuleType('p' + str(len(sys.modules)))\n"
        "    package.__path__ = [str(folder)]\n"
        "    sys.modules[package.__name__] = package\n"
        "    importlib.import_module(package.__name__ + '.stage').Stage(folder)\n"
    )
    models = built.out / "cpu" / "models"
    folders = [path.parent for path in models.glob("*/*/stage.py")]
    assert len(folders) == 3
    command = [sys.executable, "-B", "-I", "-S", "-c", script, *map(str, folders)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr


def models(place: Workplace) -> set[str]:
    manifest = json.loads((place.out / "cpu" / "manifest.json").read_text())
    return set(manifest["models"])


READ = {"digits", "read-digit", "read-digit.decode", "read-digit.best"}


def test_a_pipeline_over_its_budget_is_not_published_and_the_earlier_stays(
    place: Workplace,
) -> None:
    place.edit("read-digit.yaml", "# latency_budget_ms: 250", "latency_budget_ms: 18")
    place.edit("read-digit.yaml", "version: 1.0.0", "version: 1.1.0")
    ended = place.run("build", "--only", "read-digit@cpu")
    assert ended.returncode == 7
    assert "> latency_budget_ms 18" in ended.stderr
    assert models(place) >= READ
    assert not (place.out / "cpu/models/read-digit/1001000").exists()


def test_a_budget_is_kept_by_no_figure_of_a_busy_machine(place: Workplace) -> None:
    place.edit("read-digit.yaml", "# latency_budget_ms: 250", "latency_budget_ms: 250")
    place.edit("read-digit.yaml", "version: 1.0.0", "version: 1.1.0")
    for load, code in ((0.6, 7), (0.0, 0)):
        told_of_load(place, load)
        ended = place.run("build", "--only", "read-digit@cpu")
        assert ended.returncode == code
        doubted = "cannot be held to latency_budget_ms 250: others used 60% of the processor"
        assert (doubted in ended.stderr) == (code == 7)
        new = place.out / "cpu/models/read-digit/1001000"
        assert new.is_dir() == (code == 0)


def told_of_load(place: Workplace, load: float) -> None:
    """Let the store say that others used this share of the cores while read-digit@cpu ran."""
    store = Store(place.store)
    found = store.recall("read-digit@cpu").items()
    (key,) = (digest.of_json(recipe) for step, recipe in found if step == RUN)
    entry = store.get(key)
    assert entry is not None
    conditions: Any = entry.facts["conditions"]
    told = {**conditions, "load": load, "throttled": 0.0}
    facts = {**entry.facts, "conditions": told, "spread": 0.01}
    files = {blob.sha256: store.read(entry, name) for name, blob in entry.artifact.files.items()}
    store.add(dataclasses.replace(entry, facts=facts), files)


def test_a_budget_holds_at_a_rate_too(place: Workplace) -> None:
    """Measured through a genuine Triton; then the store is told what a quiet machine would say."""
    budget = "latency_budget_ms: {total: 250, queue: 40, rate: 50}"
    place.edit("read-digit.yaml", "# latency_budget_ms: 250", budget)
    place.edit("read-digit.yaml", "version: 1.0.0", "version: 1.1.0")
    told_of_load(place, 0.0)
    place.run("build", "--only", "read-digit@cpu")
    (file,) = (place.store / "loads").glob("*.json")
    store = Store(place.store)
    seen = store.read_json(file)
    assert {"total", "queue", "preprocess", "infer", "postprocess"} == seen["ms"].keys()
    assert all(ms > 0 for ms in seen["ms"].values())
    assert seen["ms"]["total"] > 19 + seen["ms"]["infer"]
    new = place.out / "cpu/models/read-digit/1001000"
    published = new.is_dir()  # where this machine was quiet and kept it
    for total, doubt, code, said in (
        (251.0, "", 7, "latency 251 ms > latency_budget_ms at 50/s 250"),
        (30.0, "a quota", 7, "latency 30 ms cannot be held to latency_budget_ms at 50/s"),
        (30.0, "", 0, ""),
    ):
        ms = {**seen["ms"], "total": total, "queue": 1.0}
        store.write_json(file, {"ms": ms, "doubt": doubt})
        ended = place.run("build", "--only", "read-digit@cpu")
        assert (ended.returncode, said in ended.stderr) == (code, True), ended.stderr
        assert new.is_dir() == (published or code == 0)
    report = json.loads((place.out / "report.json").read_text())
    gates = {gate["name"]: gate for row in report["rows"] for gate in row["gates"]}
    assert gates["latency_budget_ms at 50/s"]["measured"] == 30.0
    assert gates["latency_budget_ms.queue at 50/s"]["limit"] == 40


def test_an_earlier_pipeline_that_no_longer_fits_is_left_out(place: Workplace) -> None:
    """Its model now batches no more; the new one fails its budget."""
    place.edit("read-digit.yaml", "# latency_budget_ms: 250", "latency_budget_ms: 18")
    place.edit("digits.yaml", "objective: latency", "objective: latency\n  max_batch_size: 0")
    ended = place.run("build", "--only", "read-digit@cpu")
    assert ended.returncode == 7
    assert "the earlier read-digit does not fit digits and is left out" in ended.stderr
    assert models(place) & READ == {"digits"}


def test_a_renamed_step_leaves_nothing_behind(place: Workplace) -> None:
    place.edit("read-digit.yaml", "best", "top")
    place.build("--only", "read-digit@cpu")
    assert {name for name in models(place) if name.startswith("read-digit")} == {
        "read-digit", "read-digit.decode", "read-digit.top",
    }  # fmt: skip


def test_a_model_that_fails_takes_its_pipeline_along(place: Workplace) -> None:
    place.edit("digits.yaml", "max_size_mb: 0.1", "max_size_mb: 0.001")
    ended = place.run("build", "--only", "*@cpu")
    assert ended.returncode == 7
    rows = {row["id"]: row for row in json.loads((place.out / "report.json").read_text())["rows"]}
    assert rows["read-digit@cpu"]["status"] == "gate failed"
    assert "digits" in rows["read-digit@cpu"]["reason"]
    assert rows["find-shapes@cpu"]["status"] == "cached"
    assert models(place) >= READ  # the earlier ones
