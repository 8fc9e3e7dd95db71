"""warm-up: a spec's samples, run as Triton would feed them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from workbench import Bench

from repo_builder.base.errors import ModelError
from repo_builder.steps.warm_up import Given, Sample

HEAD = '<ir_version: 8, opset_import: ["" : 17]>\n'
RELU = HEAD + "g (float[N, 4] x) => (float[N, 4] y) { y = Relu(x) }"
LOOK_UP = (
    HEAD + "g (int64[N, 2] id) => (float[N, 2] y) <float[3] table = {1, 2, 3}>"
    " { y = Gather(table, id) }"
)
FIXED = HEAD + "g (float[2, 4] x, float s) => (float[2, 4] y) { y = Mul(x, s) }"
TEXT = HEAD + "g (string[N, 1] t) => (string[N, 1] y) { y = Identity(t) }"
SUM = (
    HEAD + "g (float[N, 2] x) => (float[N, 2] y) <float[3, 2] w = {1, 2, 3, 4, 5, 6}>"
    " { y = Add(x, w) }"
)


def warm(bench: Bench, model: str, rows: int = 1, **inputs: Given) -> Any:
    made = bench.model(onnx.parser.parse_model(model))
    params = {"runtime": "onnxruntime", "samples": (Sample("first", rows, inputs),)}
    return bench.run("warm-up", params=params, model=made)[1]


@pytest.mark.parametrize("rows", [1, 5])
def test_good_samples(bench: Bench, rows: int) -> None:
    for random in (False, True):
        assert warm(bench, RELU, rows, x=Given("TYPE_FP32", (4,), random)).ran == 1
    assert warm(bench, LOOK_UP, rows, id=Given("TYPE_INT64", (2,))).ran == 1
    assert warm(bench, TEXT, rows, t=Given("TYPE_STRING", (1,), random=True)).ran == 1


def test_full_shapes_and_scalars(bench: Bench) -> None:
    inputs = {"x": Given("TYPE_FP32", (2, 4)), "s": Given("TYPE_FP32", (1,))}
    assert warm(bench, FIXED, **inputs).ran == 1


@pytest.mark.parametrize(
    ("model", "rows", "inputs", "why"),
    [
        (
            LOOK_UP,
            1,
            {"id": Given("TYPE_INT64", (2,), random=True)},
            "out of .*bounds|out of range",
        ),
        (RELU, 1, {"x": Given("TYPE_FP32", (5,))}, "Got: 5 Expected: 4"),
        (RELU, 1, {"x": Given("TYPE_INT32", (4,))}, "expected: .tensor.float"),
        (RELU, 1, {}, "it has no input 'x'"),
        (RELU, 1, {"x": Given("TYPE_FP32", (4,)), "z": Given("TYPE_FP32", (4,))}, "no input 'z'"),
        (SUM, 2, {"x": Given("TYPE_FP32", (2,))}, "2 by 3"),
    ],
)
def test_samples_that_fail(
    bench: Bench, model: str, rows: int, inputs: dict[str, Given], why: str
) -> None:
    with pytest.raises(ModelError, match=f"the warm-up sample 'first' fails: .*({why})"):
        warm(bench, model, rows, **inputs)


def test_openvino_runs_them_too(bench: Bench) -> None:
    openvino = pytest.importorskip("openvino")
    folder = bench.folder()
    (folder / "in.onnx").write_bytes(onnx.parser.parse_model(RELU).SerializeToString())
    openvino.save_model(openvino.convert_model(folder / "in.onnx"), folder / "model.xml")
    for dims, good in (((3, 4), True), ((3, 5), False)):
        samples = (Sample("first", 1, {"x": Given("TYPE_FP32", dims)}),)
        params = {"runtime": "openvino", "samples": samples}
        if good:
            assert bench.run("warm-up", params=params, model=folder)[1].ran == 1
        else:
            with pytest.raises(ModelError, match="the warm-up sample 'first' fails"):
                bench.run("warm-up", params=params, model=folder)


def test_random_data_is_drawn_more_than_once(bench: Bench) -> None:
    """A table of 2**62 entries would be hit by a half of all draws; one draw proves little."""
    halves = HEAD + (
        "g (int64[N, 1] id) => (int64[N, 1] y) <int64[1] zero = {0}, int64[1] least = {-1}>"
        " { low = Less(id, zero) bad = Cast<to=7>(low) y = Gather(least, bad) }"
    )
    with pytest.raises(ModelError):
        warm(bench, halves, id=Given("TYPE_INT64", (1,), random=True))


def test_rows_are_alike(bench: Bench) -> None:
    """Triton fills every request of a sample from one buffer."""
    from repo_builder.steps import _runtimes, warm_up

    folder = bench.model(onnx.parser.parse_model(RELU))
    sample = Sample("first", 3, {"x": Given("TYPE_FP32", (4,), random=True)})
    feed = warm_up._feed(sample, _runtimes.load(folder, "onnxruntime"), np.random.default_rng(0))
    assert feed["x"].shape == (3, 4)
    assert feed["x"].view(np.uint32).tolist() == [feed["x"][0].view(np.uint32).tolist()] * 3
