"""One repository for several targets: what differs lies apart, and each config finds its own."""

from __future__ import annotations

from typing import Any

import pytest

from repo_builder import targets
from repo_builder.base import digest
from repo_builder.base.artifact import Artifact, Blob, Entry
from repo_builder.base.errors import UsageError
from repo_builder.repository import multi_target, render
from repo_builder.repository.publish import Model
from repo_builder.spec.serving import ModelConfig
from repo_builder.spec.types import Version

CATALOG = targets.load()
CPU, OPENVINO, ORIN = CATALOG["cpu"], CATALOG["cpu-openvino"], CATALOG["jetson-orin-nx"]


def model(backend: str, files: dict[str, str], name: str = "digits", **record: Any) -> Model:
    blobs = {f: Blob(digest.of_bytes(c.encode()), len(c)) for f, c in files.items()}
    fields = {"platform": "ensemble"} if backend == "ensemble" else {"backend": backend}
    config = ModelConfig(name=name, **fields)
    entry = Entry(f"{backend} {files}", {}, Artifact(blobs), {}, 0.0)
    texts = {"config.pbtxt": render.text(config).encode(), "labels.txt": b"a\n"}
    return Model(name, Version(1, 0, 0), texts, entry, {"interface": backend, **record})


def config(made: Model, target: str = "") -> Any:
    name = f"configs/{target}.pbtxt" if target else "config.pbtxt"
    return render.parse(made.texts[name].decode())


def test_files_that_differ_lie_apart_and_each_config_names_its_own() -> None:
    built = {
        "cpu": {"digits": model("onnxruntime", {"model.onnx": "1"})},
        "cpu-openvino": {"digits": model("openvino", {"model.xml": "2", "model.bin": "3"})},
    }
    (made,) = multi_target.merge(built, CATALOG)
    assert set(made.entry.artifact.files) == {
        "cpu/model.onnx", "cpu-openvino/model.xml", "cpu-openvino/model.bin",
    }  # fmt: skip
    assert config(made).default_model_filename == "cpu/model.onnx"
    assert config(made) == config(made, "cpu")
    assert config(made, "cpu-openvino").default_model_filename == "cpu-openvino/model.xml"
    assert made.texts["labels.txt"] == b"a\n"
    assert set(made.record["targets"]) == {"cpu", "cpu-openvino"}


def test_what_is_the_same_is_there_once() -> None:
    same = {"model.py": "x"}
    built = {t: {"digits": model("python", same)} for t in ("cpu", "cpu-openvino")}
    (made,) = multi_target.merge(built, CATALOG)
    assert set(made.entry.artifact.files) == {"model.py"}
    assert config(made).default_model_filename == ""


def test_plans_are_found_by_compute_capability() -> None:
    """Each target's config knows the plans of all; of equal GPUs its own."""
    here = {
        name: facts.model_copy(update={"compile_at": "builder", "name": name})
        for name, facts in (("jetson-orin-nx", ORIN), ("jetson-agx-orin", ORIN))
    }
    gpu = CATALOG["nvidia-gpu"]
    assert gpu.tensorrt is not None
    assert ORIN.tensorrt is not None
    here["nvidia-gpu"] = gpu
    built = {t: {"digits": model("tensorrt", {"model.plan": t})} for t in here}
    (made,) = multi_target.merge(built, here)
    for target in ("jetson-orin-nx", "jetson-agx-orin"):
        found = dict(config(made, target).cc_model_filenames)
        assert found == {
            ORIN.tensorrt.compute_capability: f"{target}/model.plan",
            gpu.tensorrt.compute_capability: "nvidia-gpu/model.plan",
        }
        assert config(made, target).default_model_filename == f"{target}/model.plan"


def test_a_pipelines_uses_are_those_of_the_joined_models() -> None:
    pipeline = {"pipeline": "read", "uses": {"digits": "own"}}
    built = {
        t: {
            "digits": model(b, {"model": t}),
            "read": model("ensemble", {"pipeline.json": t}, "read", **pipeline),
        }
        for t, b in (("cpu", "onnxruntime"), ("cpu-openvino", "openvino"))
    }
    digits, read = multi_target.merge(built, CATALOG)
    assert read.record["uses"] == {"digits": digits.record["interface"]}
    assert config(read).default_model_filename == ""


@pytest.mark.parametrize(
    ("name", "group", "what"),
    [
        ("cpu", ("cpu", "cpu-openvino"), "cpu is a target"),
        ("edge", ("cpu", "tflite-micro"), "tflite-micro is not served by"),
        ("edge", ("cpu", "snapdragon-qcs8275"), "snapdragon-qcs8275 is not served by"),
        ("edge", ("cpu", "jetson-orin-nx"), "plans of jetson-orin-nx are built later"),
    ],
)
def test_what_cannot_share_is_told(name: str, group: tuple[str, ...], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        multi_target.check(name, group, CATALOG)


def test_a_plan_that_is_made_with_the_image_cannot_share() -> None:
    gpu = model("tensorrt", {"model.onnx": "1"}, compiler={"at": "image"})
    built = {"cpu": {"digits": model("onnxruntime", {"model.onnx": "2"})}}
    with pytest.raises(UsageError, match="digits: plans of nvidia-gpu are built later"):
        multi_target.merge({**built, "nvidia-gpu": {"digits": gpu}}, CATALOG)


def test_texts_that_differ_are_told() -> None:
    one, other = (model("onnxruntime", {"model.onnx": c}) for c in "12")
    other = Model(**{**vars(other), "texts": {**other.texts, "labels.txt": b"b\n"}})
    with pytest.raises(UsageError, match="labels.txt differs for cpu-openvino"):
        multi_target.merge({"cpu": {"digits": one}, "cpu-openvino": {"digits": other}}, CATALOG)
