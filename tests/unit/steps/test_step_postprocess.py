"""Answers that a model makes of its outputs, as operators: beside numpy, in both CPU runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from onnx import helper
from workbench import Bench, make

from repo_builder.base.errors import ModelError
from repo_builder.steps import join_postprocess, stage_nms
from repo_builder.steps.join_postprocess import Params

Array = np.ndarray[Any, Any]
SYMBOLS = st.integers(0, 3)
TOP: dict[str, Any] = {"of": "y", "k": 3, "softmax": True}
CTC: dict[str, Any] = {"of": "y", "layout": "batch_first", "blank": 0}
NMS: dict[str, Any] = {
    "boxes": "y", "scores": "z", "detections": "", "layout": "corners",
    "iou_threshold": 0.5, "score_threshold": 0.25, "max_boxes": 5,
}  # fmt: skip


def net(*shape: int | str) -> Any:
    return make([helper.make_node("Identity", ["x"], ["y"])], {"x": shape}, {"y": shape}, opset=17)


def joined(bench: Bench, kind: str, said: dict[str, Any], model: Any) -> Path:
    given_model = bench.model(model)
    out, _ = bench.run("join-postprocess", params={"kind": kind, "params": said}, model=given_model)
    return Path(out) / "model.onnx"


def answers(path: Path, feeds: dict[str, Array]) -> list[dict[str, Array]]:
    """What each runtime answers."""
    import openvino as ov

    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    made = ov.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(feeds)
    return [
        dict(zip(names, session.run(None, feeds), strict=True)),
        {name: made[name] for name in names},
    ]


@pytest.mark.parametrize(("kind", "said", "shape"), [
    ("top_k", TOP, ("N", 11)),
    ("top_k", {**TOP, "softmax": False, "k": 1}, ("N", 11)),
    ("mask", {"of": "y"}, ("N", 5, 12, 7)),
    ("ctc", CTC, ("N", 30, 4)),
    ("ctc", {**CTC, "layout": "time_first", "blank": 3}, (30, "N", 4)),
])  # fmt: skip
def test_both_runtimes_answer_as_numpy_does(
    bench: Bench, kind: str, said: dict[str, Any], shape: tuple[int | str, ...]
) -> None:
    path = joined(bench, kind, said, net(*shape))
    random = np.random.default_rng(3)
    scores = random.standard_normal([6 if isinstance(s, str) else s for s in shape])
    scores = scores.astype(np.float32)
    wanted = join_postprocess.expected(Params(kind, said), scores)
    for answer in answers(path, {"x": scores}):
        np.testing.assert_array_equal(answer["y"], scores)  # the net's own output is still there
        assert set(answer) == {"y", *wanted}
        for name, array in wanted.items():
            np.testing.assert_allclose(answer[name], array, atol=1e-6)
    kinds = {"class": np.int64, "mask": np.uint8, "symbols": np.int64, "length": np.int64}
    for name, array in answers(path, {"x": scores})[0].items():
        assert array.dtype == kinds.get(name, np.float32)


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(np.int64, st.tuples(st.integers(1, 3), st.integers(1, 12)), elements=SYMBOLS),
    SYMBOLS,
)
def test_ctc_drops_blanks_and_repeats(best: Array, blank: int) -> None:
    said = {**CTC, "blank": blank}
    back = join_postprocess._back(Params("ctc", said))
    session = ort.InferenceSession(back.SerializeToString(), providers=["CPUExecutionProvider"])
    symbols, length = session.run(None, {"of": np.eye(4, dtype=np.float32)[best]})
    for row, line in enumerate(best.tolist()):
        plain: list[int] = []
        for i, symbol in enumerate(line):
            if symbol != blank and not (i and line[i - 1] == symbol):
                plain.append(symbol)
        assert symbols[row].tolist() == plain + [-1] * (len(line) - len(plain))
        assert length[row].tolist() == [len(plain)]


def test_suppression_is_that_of_the_stage(bench: Bench) -> None:
    random = np.random.default_rng(1)
    corner = random.uniform(0, 60, (2, 40, 2))
    boxes = np.concatenate([corner, corner + random.uniform(5, 40, (2, 40, 2))], 2)
    feeds = {"a": boxes.astype(np.float32), "b": random.random((2, 40, 3)).astype(np.float32)}
    model = make(
        [helper.make_node("Identity", [a], [b]) for a, b in (("a", "y"), ("b", "z"))],
        {"a": ["N", 40, 4], "b": ["N", 40, 3]},
        {"y": ["N", 40, 4], "z": ["N", 40, 3]},
    )
    stage = stage_nms.graph(stage_nms.Params(0.5, 0.25, 5, to_image=False))
    session = ort.InferenceSession(stage.SerializeToString(), providers=["CPUExecutionProvider"])
    wanted = session.run(None, {"boxes": feeds["a"], "scores": feeds["b"]})
    for answer in answers(joined(bench, "nms", NMS, model), feeds):
        for output, array in zip(session.get_outputs(), wanted, strict=True):
            np.testing.assert_allclose(answer[output.name], array, atol=1e-5)
        assert (answer["count"] == 5).all()


@pytest.mark.parametrize(("kind", "said", "shape", "message"), [
    ("top_k", {**TOP, "of": "yy"}, ("N", 4), "postprocess.top_k.of: the model has no output 'yy'"),
    ("top_k", {**TOP, "k": 5}, ("N", 4), "the model has 4 classes; write fewer"),
    ("mask", {"of": "y"}, ("N", 4), "'y' is FLOAT of 2 dimensions, not FLOAT of 4"),
    ("mask", {"of": "y"}, ("N", 300, 2, 2), "300 classes do not fit into uint8"),
    ("ctc", {**CTC, "blank": 4}, ("N", 9, 4), "the model has 4 symbols, from 0 on"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(
    bench: Bench, kind: str, said: dict[str, Any], shape: tuple[int | str, ...], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        joined(bench, kind, said, net(*shape))


def test_a_name_that_is_taken_is_refused(bench: Bench) -> None:
    model = make(
        [helper.make_node("Identity", ["score"], ["y"])], {"score": ["N", 4]}, {"y": ["N", 4]}
    )
    with pytest.raises(ModelError, match="a tensor 'score' already"):
        joined(bench, "top_k", TOP, model)
