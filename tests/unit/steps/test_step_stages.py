"""Stages of pipelines: suppression, the best classes, and images, each against a plain reading."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from repo_builder import steps
from repo_builder.base import digest
from repo_builder.base.errors import DataError, ModelError
from repo_builder.client.models.preprocess import Preprocess
from repo_builder.steps import run_pipeline, stage_nms, stage_python
from repo_builder.steps.run_pipeline import Stage

Array = np.ndarray[Any, Any]


def iou(a: Array, b: Array) -> float:
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    both = np.prod(np.clip(high - low, 0, None))
    return float(both / (np.prod(a[2:] - a[:2]) + np.prod(b[2:] - b[:2]) - both))


def suppressed(
    boxes: Array, scores: Array, params: stage_nms.Params
) -> list[tuple[float, int, int]]:
    """(score, class, box) of what is kept, best first: greedy, class by class."""
    found = []
    for cls in range(scores.shape[1]):
        kept: list[int] = []
        for box in np.argsort(-scores[:, cls], kind="stable"):
            if scores[box, cls] <= params.score_threshold or len(kept) == params.max_boxes:
                break
            if all(iou(boxes[box], boxes[other]) <= params.iou_threshold for other in kept):
                kept.append(int(box))
        found += [(float(scores[box, cls]), cls, box) for box in kept]
    return sorted(found, key=lambda f: -f[0])[: params.max_boxes]


@pytest.mark.parametrize("most", [1, 5, 200])
@pytest.mark.parametrize("to_image", [False, True])
def test_suppression_is_that_of_a_plain_loop(tmp_path: Path, most: int, to_image: bool) -> None:
    params = stage_nms.Params(0.4, 0.3, most, to_image)
    stage_nms.run(stage_nms.Inputs(), params, tmp_path)
    session = ort.InferenceSession(tmp_path / "model.onnx")
    random = np.random.default_rng(0)
    for rows, count, classes in ((1, 40, 3), (3, 7, 1), (2, 1, 4)):
        corner = random.uniform(0, 50, (rows, count, 2))
        size = random.uniform(5, 40, (rows, count, 2))
        boxes = np.concatenate([corner, corner + size], axis=2).astype(np.float32)
        scores = random.uniform(0, 1, (rows, count, classes)).astype(np.float32)
        place = random.uniform(0.5, 3, (rows, 4)).astype(np.float32)
        feeds = {"boxes": boxes, "scores": scores} | ({"to_image": place} if to_image else {})
        box, score, cls, number = session.run(["box", "score", "class", "count"], feeds)
        for row in range(rows):
            want = suppressed(boxes[row], scores[row], params)
            n = len(want)
            assert number[row] == [n]
            assert cls[row].tolist() == [c for _, c, _ in want] + [-1] * (most - n)
            np.testing.assert_allclose(score[row], [s for s, _, _ in want] + [0] * (most - n))
            expected = boxes[row][[b for _, _, b in want]]
            if to_image:
                expected = expected * place[row, [0, 1, 0, 1]] + place[row, [2, 3, 2, 3]]
            np.testing.assert_allclose(box[row, :n], expected, rtol=1e-5)
            assert not box[row, n:].any()


@pytest.mark.parametrize("layout", ["corners", "ultralytics"])
@pytest.mark.parametrize("size", [None, [48, 64]])
def test_layouts_and_sizes_mean_the_same_boxes(
    tmp_path: Path, layout: str, size: list[int] | None
) -> None:
    random = np.random.default_rng(3)
    center, side = (random.uniform(low, high, (2, 30, 2)) for low, high in ((0, 60), (5, 40)))
    corners = np.concatenate([center - side / 2, center + side / 2], axis=2).astype(np.float32)
    scores = random.uniform(0, 1, (2, 30, 3)).astype(np.float32)
    asked: dict[str, dict[str, Array]] = {"corners": {"boxes": corners, "scores": scores}}
    one = np.concatenate([center, side, scores], axis=2).astype(np.float32).transpose(0, 2, 1)
    pixels = np.tile(np.array([64, 48], np.float32), 2) if size else np.ones(4, np.float32)
    asked["corners"]["boxes"] = corners / pixels
    one[:, :4] /= pixels[:, None]
    asked["ultralytics"] = {"detections": np.ascontiguousarray(one)}
    params = stage_nms.Params(0.4, 0.3, 40, False, layout, size)
    stage_nms.run(stage_nms.Inputs(), params, tmp_path)
    session = ort.InferenceSession(tmp_path / "model.onnx")
    box, score, cls, number = session.run(["box", "score", "class", "count"], asked[layout])
    for row in range(2):
        want = suppressed(corners[row], scores[row], params)
        assert number[row] == [len(want)]
        assert cls[row, : len(want)].tolist() == [c for _, c, _ in want]
        np.testing.assert_allclose(score[row, : len(want)], [s for s, _, _ in want])
        expected = corners[row][[b for _, _, b in want]]
        np.testing.assert_allclose(box[row, : len(want)], expected, rtol=1e-4, atol=1e-4)


def test_nothing_found_is_padding_only(tmp_path: Path) -> None:
    stage_nms.run(stage_nms.Inputs(), stage_nms.Params(0.5, 0.9, 4, False), tmp_path)
    session = ort.InferenceSession(tmp_path / "model.onnx")
    feeds = {"boxes": np.ones((2, 3, 4), np.float32), "scores": np.zeros((2, 3, 2), np.float32)}
    box, score, cls, count = session.run(["box", "score", "class", "count"], feeds)
    assert (box.any(), score.any(), cls.max(), count.max()) == (False, False, -1, 0)


def python_stage(folder: Path, kind: str, params: dict[str, Any]) -> Any:
    stage_python.run(stage_python.Inputs(), stage_python.Params(kind, params), folder)
    stage = Stage("s", kind, "python", {}, ())
    return run_pipeline._load(stage, folder, run_pipeline.Params((stage,), {}))


def test_top_k_names_the_best_and_the_first_of_equals(tmp_path: Path) -> None:
    params = {"k": 2, "softmax": False, "labels": ["a", "b", "ü"]}
    stage = python_stage(tmp_path, "top_k", params)
    found = stage.run({"scores": np.array([[0, 3, 5], [1, 1, 0]], np.float32)})
    assert found["label"].tolist() == [["ü".encode(), b"b"], [b"a", b"b"]]
    assert found["score"].tolist() == [[5, 3], [1, 1]]
    assert found["class"].tolist() == [[2, 1], [0, 1]]


def test_softmax_gives_probabilities_of_any_scores(tmp_path: Path) -> None:
    params = {"k": 3, "softmax": True, "labels": ["a", "b", "c"]}
    scores = np.array([[1000, 1000, -1000]], np.float32)
    found = python_stage(tmp_path, "top_k", params).run({"scores": scores})
    np.testing.assert_allclose(found["score"], [[0.5, 0.5, 0]])


def png(size: tuple[int, int], pixels: Array | None = None) -> bytes:
    stream = io.BytesIO()
    picture = Image.new("RGB", size) if pixels is None else Image.fromarray(pixels)
    picture.save(stream, "PNG")
    return stream.getvalue()


def test_preprocess_does_what_the_client_does_row_by_row(tmp_path: Path) -> None:
    recipe = {"input": "x", "size": [8, 6], "fit": "letterbox"}
    params = {"recipe": recipe, "dtype": "FP32"}
    stage = python_stage(tmp_path, "preprocess", params)
    files = [png((30, 20)), png((5, 9))]
    found = stage.run({"file": np.array([[f] for f in files], dtype=object)})
    client = Preprocess.from_json(json.dumps(recipe))
    for row, file in enumerate(files):
        tensor, place = client.apply_and_locate(file)
        np.testing.assert_array_equal(found["x"][row : row + 1], tensor)
        np.testing.assert_allclose(found["to_image"][row], place, rtol=1e-6)
    with pytest.raises(ValueError, match="row 1: not an image that can be read"):
        stage.run({"file": np.array([[files[0]], [b"x"]], dtype=object)})


@given(
    st.integers(8, 90), st.integers(8, 90), st.integers(4, 40), st.integers(4, 40),
    st.sampled_from(["stretch", "letterbox", "crop"]),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_a_point_of_the_tensor_is_found_in_the_image(
    width: int, height: int, columns: int, rows: int, fit: str
) -> None:
    """An image whose red is its x and whose green is its y says where each pixel came from."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    pixels = np.stack([x, y, np.full_like(x, 255)], axis=2)
    recipe = Preprocess("x", (rows, columns), fit=fit, scale=1.0, layout="NHWC")
    file = png((width, height), pixels)
    if fit == "letterbox" and min(width / height * rows, height / width * columns) <= 0.5:
        with pytest.raises(ValueError, match="too narrow"):
            recipe.apply(file)
        return
    tensor, (across, down, left, top) = recipe.apply_and_locate(file)
    red, green, blue = np.moveaxis(tensor[0], 2, 0)
    inside = blue == 255  # not padding
    at_y, at_x = np.mgrid[:rows, :columns] + 0.5
    margin = max(across, down, 1)
    want_x = np.clip(at_x * across + left - 0.5, 0, width - 1)
    want_y = np.clip(at_y * down + top - 0.5, 0, height - 1)
    assert inside.any()
    assert np.abs(red - want_x)[inside].max() <= margin
    assert np.abs(green - want_y)[inside].max() <= margin


def test_the_step_has_a_new_version_where_what_it_ships_changed() -> None:
    """Keys must change with the sources: raise its version in `STEPS` and put the digest here."""
    files = {
        f"{kind}/{path.name}": digest.of_file(path)
        for kind in ("preprocess", "top_k")
        for path in stage_python.sources(kind)
    }
    assert (steps.STEPS["stage_python"].version, digest.of_json(files)[:12]) == (2, "c8c2f5e3315a")


def a_pipeline(folder: Path, sample: str, content: bytes) -> tuple[run_pipeline.Inputs, Any]:
    stage_python.run(
        stage_python.Inputs(),
        stage_python.Params("top_k", {"k": 1, "softmax": False, "labels": ["a", "b"]}),
        folder / "best",
    )
    (folder / "sample" / "scores").mkdir(parents=True)
    (folder / "sample" / "scores" / sample).write_bytes(content)
    stage = Stage("best", "top_k", "python", {"scores": ("", "scores")}, ("label",))
    inputs = run_pipeline.Inputs({"sample": folder / "sample", "stage best": folder / "best"})
    return inputs, run_pipeline.Params((stage,), {"label": ("best", "label")})


def test_a_run_measures_every_stage_and_keeps_the_wiring(tmp_path: Path) -> None:
    (tmp_path / "best").mkdir()
    stream = io.BytesIO()
    np.save(stream, np.array([[0, 1]], np.float32))
    inputs, params = a_pipeline(tmp_path, "scores.npy", stream.getvalue())
    out = tmp_path / "out"
    out.mkdir()
    facts = run_pipeline.run(inputs, params, out)
    assert facts.runs >= run_pipeline.MIN_RUNS
    assert facts.spread >= 0
    assert facts.conditions.cores >= 1
    assert [(t.name, t.kind) for t in facts.stages] == [("best", "top_k")]
    assert 0 < facts.stages[0].ms <= facts.p95_ms
    assert facts.shapes == {"label": (1, 1)}
    assert json.loads((out / "pipeline.json").read_text())["outputs"] == {
        "label": ["best", "label"]
    }


@pytest.mark.parametrize(
    ("name", "content", "error", "what"),
    [
        ("x.npy", b"no array", DataError, "x.npy is no .npy array"),
        ("x.png", b"text", ModelError, "step 'best' fails on scores"),
    ],
)
def test_a_sample_that_does_not_fit_is_told(
    tmp_path: Path, name: str, content: bytes, error: type[Exception], what: str
) -> None:
    (tmp_path / "best").mkdir()
    inputs, params = a_pipeline(tmp_path, name, content)
    with pytest.raises(error, match=what):
        run_pipeline.run(inputs, params, tmp_path)
