"""A detector in the layout of Ultralytics: built, judged, served, asked by the client."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import squares
from test_pipelines import ask, files, png
from triton_models import StartTriton
from tritonclient.grpc import InferenceServerClient
from workplace import repo_builder

from repo_builder.client import EdgeClient

SPEC = """name: squares
version: 1.0.0
source: {onnx: squares.onnx}
targets: [cpu, cpu-openvino]
data:
  calibration: {path: calibration.npz, samples: 32}
  evaluation: {path: evaluation.npz, metric: map50_ultralytics, outputs: {detections: output0}}
optimize: {precision: int8}
gates: {max_accuracy_drop: 0.02}
fallback: {policy: max_score, threshold: 0.5}
preprocess: {input: images, size: [64, 64]}
"""
PIPELINE = """kind: pipeline
name: find
version: 1.0.0
targets: [cpu, cpu-openvino]
inputs: [file]
steps:
  decode: {preprocess: squares, inputs: {file: file}}
  detect: {model: squares, inputs: {images: decode.images}}
  suppress:
    nms: {layout: ultralytics, score_threshold: 0.3, iou_threshold: 0.3, max_boxes: 5}
    inputs: {detections: detect.output0, to_image: decode.to_image}
outputs: {box: suppress.box, score: suppress.score, class: suppress.class, count: suppress.count}
sample: {file: sample.png}
"""


@pytest.fixture(scope="module", params=["n", 1], ids=["batched", "one"])
def built(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("detector")
    onnx.save(squares.model(request.param), folder / "squares.onnx")
    images, boxes, classes = squares.rows(64)
    truth = {"true_boxes": boxes, "true_classes": classes}
    np.savez(folder / "evaluation.npz", images=images, **truth)
    np.savez(folder / "calibration.npz", images=squares.rows(32, seed=1)[0])
    (folder / "sample.png").write_bytes(png(images[0]))
    (folder / "squares.yaml").write_text(SPEC)
    (folder / "find.yaml").write_text(PIPELINE)
    options = ("--store", folder / "store", "--out", folder / "build", "--no-images")
    ended = repo_builder("build", folder / "squares.yaml", folder / "find.yaml", *options)
    assert ended.returncode == 0, ended.stderr
    return folder / "build"


def test_it_is_judged_and_its_threshold_is_counted(built: Path) -> None:
    report = json.loads((built / "report.json").read_text())
    rows = {row["id"]: row for row in report["rows"]}
    for target in ("cpu", "cpu-openvino"):
        row = rows[f"squares@{target}"]
        assert row["score"]["metric"] == "map50_ultralytics"
        assert row["score"]["built"] >= 0.98
        assert row["confidence"]["kept"] == 52  # of 64: every fifth image is empty
        assert row["confidence"]["tested"] == 64


@pytest.mark.parametrize("target", ["cpu", "cpu-openvino"])
def test_the_pipeline_finds_the_squares_in_the_image_that_was_sent(
    built: Path, triton: StartTriton, target: str
) -> None:
    images, boxes, classes = squares.rows(20, seed=2)
    server = triton(built / target)
    with InferenceServerClient(server.grpc_url) as client:
        for image, box, cls in zip(images, boxes[:, 0], classes[:, 0], strict=True):
            for size in ((64, 64), (128, 192)):
                found = ask(client, "find", file=files([png(image, size)]))
                assert found["count"][0, 0] == (cls >= 0)
                assert found["class"][0, 0] == cls
                scale = np.tile(np.array(size) / squares.SIZE, 2)
                assert np.abs(found["box"][0, 0] / scale - box).max() < 2


def test_the_client_asks_the_cloud_where_no_square_is_seen(
    built: Path, module_triton: StartTriton
) -> None:
    images, _, classes = squares.rows(16, seed=3)
    edge, cloud = (module_triton(built / target) for target in ("cpu", "cpu-openvino"))
    with EdgeClient(edge.grpc_url, cloud.grpc_url) as client:
        policy = client.describe("squares").policy
        assert policy is not None
        assert (policy.output, policy.layout) == ("output0", "ultralytics")
        results: list[Any] = [client.infer("squares", image[None]) for image in images]
    assert [r.source for r in results] == ["edge" if c >= 0 else "cloud" for c in classes[:, 0]]
    for result, cls in zip(results, classes[:, 0], strict=True):
        assert result.confidence.shape == (1,)
        assert (result.confidence[0] > 0.5) == (cls >= 0)
        if cls >= 0:
            channel = np.unravel_index(result["output0"][0, 4:].argmax(), (2, squares.BOXES))[0]
            assert channel == cls
