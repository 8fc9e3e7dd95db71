"""Recipes as operators, beside Pillow: in both runtimes of the CPU, and data turned into images."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from workbench import Bench, make

from repo_builder.base.errors import DataError, ModelError
from repo_builder.client.models.preprocess import Preprocess
from repo_builder.plan.front import PREFIX
from repo_builder.steps import _image_front, join_preprocess

Array = np.ndarray[Any, Any]
RECIPE = {
    "input": "x",
    "size": [24, 40],
    "mean": [0.485, 0.456, 0.406],
    "std": [0.229, 0.224, 0.225],
}
MORE: dict[str, Any] = {"place": "graph", "source": None, "color": "rgb", "layout": "NCHW"}


def net(recipe: dict[str, Any], dtype: int = TensorProto.FLOAT, opset: int = 17) -> onnx.ModelProto:
    """Gives its input out."""
    channels = 1 if recipe["color"] == "gray" else 3
    last = recipe["layout"] == "NHWC"
    shape = [*recipe["size"], channels] if last else [channels, *recipe["size"]]
    model = make(
        [helper.make_node("Identity", ["x"], ["y"])],
        {"x": ["N", *shape]},
        {"y": ["N", *shape]},
        opset=opset,
    )
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.elem_type = dtype
    return model


def joined(bench: Bench, dtype: int = TensorProto.FLOAT, **changed: Any) -> tuple[Path, Any]:
    recipe = {**RECIPE, **MORE, **changed}
    if recipe["color"] == "gray":
        recipe.update(mean=[], std=[])
    params = {"recipe": recipe, "cast_first": False}
    out, facts = bench.run("join-preprocess", params=params, model=bench.model(net(recipe, dtype)))
    return out / "model.onnx", facts


def picture(random: np.random.Generator, height: int, width: int, channels: int = 3) -> Array:
    shape = (height, width, channels) if channels > 1 else (height, width)
    soft = np.cumsum(random.integers(-9, 10, shape), axis=1) + 128
    return np.clip(soft + random.integers(-20, 21, shape), 0, 255).astype(np.uint8)


@cache
def runs(
    fit: str, resize: str, size: tuple[int, int]
) -> tuple[Preprocess, list[Callable[..., Any]]]:
    """A front alone, as [height, width, 3] of whole numbers, in each runtime."""
    import openvino as ov

    recipe = Preprocess("x", size, layout="NHWC", scale=1.0, fit=fit, resize=resize, place="graph")
    graph, last = _image_front.front(recipe, "x", TensorProto.FLOAT, cast_first=False)
    image = helper.make_tensor_value_info("x", TensorProto.UINT8, [1, "h", "w", 3])
    made = helper.make_tensor_value_info(last, TensorProto.FLOAT, [1, *size, 3])
    parts = helper.make_graph(graph.nodes, "front", [image], [made], graph.constants)
    opset = helper.make_opsetid("", _image_front.OPSET)
    content = helper.make_model(parts, opset_imports=[opset], ir_version=8).SerializeToString()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    core = ov.Core()
    exact = {"INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(core.read_model(content), "CPU", exact)
    return recipe, [
        lambda x: session.run(None, {"x": x})[0],
        lambda x: compiled({"x": x})[0],
    ]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["stretch", "letterbox", "crop"]),
    st.sampled_from(["bilinear", "bicubic"]),
    st.sampled_from([(32, 48), (17, 9), (1, 1)]),
    st.integers(1, 200),
    st.integers(1, 200),
    st.integers(0, 2**31),
)
def test_every_size_is_resized_as_pillow_does(
    fit: str, resize: str, size: tuple[int, int], height: int, width: int, seed: int
) -> None:
    recipe, runtimes = runs(fit, resize, size)
    image = picture(np.random.default_rng(seed), height, width)
    try:
        sent, place = recipe.sent(image)
    except ValueError as refusal:
        assert "too narrow" in str(refusal)
        return
    wanted, same = recipe.apply_and_locate(image)
    assert place == same
    for run in runtimes:
        apart = np.abs(run(sent) - wanted)
        assert apart.shape == (1, *size, 3)
        # Small windows of noise overshoot more often than whole photos: the mean is not held here.
        assert apart.max() <= join_preprocess.LIMITS[resize]


@pytest.mark.parametrize("change", [
    {}, {"fit": "letterbox"}, {"fit": "crop", "resize": "bicubic"}, {"layout": "NHWC"},
    {"color": "bgr"}, {"color": "gray"}, {"source": [61, 43]}, {"source": [24, 40]},
    {"source": [24, 40], "resize": "nearest"},
])  # fmt: skip
def test_a_net_takes_images_of_its_recipe(bench: Bench, change: dict[str, Any]) -> None:
    path, facts = joined(bench, **change)
    resized = change.get("source") != [24, 40]
    limit = join_preprocess.LIMITS[change.get("resize", "bilinear")] if resized else 0
    assert facts.largest <= limit + 0.001
    assert facts.images == (1 if "source" in change else 4)
    recipe = Preprocess.from_json(
        json.dumps(
            {
                **RECIPE,
                **MORE,
                **change,
                **({"mean": [], "std": []} if change.get("color") == "gray" else {}),
            }
        )
    )
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    height, width = change.get("source", ["image_height", "image_width"])
    assert session.get_inputs()[0].shape == ["N", height, width, recipe.channels]
    assert session.get_inputs()[0].type == "tensor(uint8)"
    image = picture(np.random.default_rng(0), *(recipe.source or (55, 99)), recipe.channels)
    sent, _ = recipe.sent(image)
    rows = np.concatenate([sent, sent[:, ::-1]])
    answer = session.run(None, {"x": rows})[0]
    steps = np.abs(answer[:1] - recipe.apply(image)) / recipe.scale
    assert steps.max() <= (limit + 0.001) / min(recipe.std or (1,))
    assert answer.shape[0] == 2
    named = {node.name for node in onnx.load(path).graph.node if node.name}
    assert all(name.startswith(PREFIX) for name in named)


def test_integers_and_halves_are_made_where_the_net_takes_them(bench: Bench) -> None:
    for dtype, limit in ((TensorProto.UINT8, 1), (TensorProto.FLOAT16, 1.2)):
        path, _ = joined(bench, dtype, mean=[], std=[], scale=1.0)
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        recipe = Preprocess("x", (24, 40), scale=1.0)
        image = picture(np.random.default_rng(1), 70, 80)
        answer = session.run(None, {"x": image[None]})[0]
        assert answer.dtype == helper.tensor_dtype_to_np_dtype(dtype)
        wanted = recipe.apply(image, answer.dtype)
        assert np.abs(answer.astype(float) - wanted.astype(float)).max() <= limit


def test_a_net_of_an_old_opset_is_raised(bench: Bench) -> None:
    recipe = {**RECIPE, **MORE}
    given_model = bench.model(net(recipe, opset=9))
    params = {"recipe": recipe, "cast_first": True}
    out, _ = bench.run("join-preprocess", params=params, model=given_model)
    assert onnx.load(out / "model.onnx").opset_import[0].version == _image_front.OPSET


def test_inner_graphs_read_what_the_front_makes(bench: Bench) -> None:
    recipe = {**RECIPE, **MORE}
    model = net(recipe)
    shape = [d.dim_value or d.dim_param for d in model.graph.input[0].type.tensor_type.shape.dim]
    made = helper.make_tensor_value_info("z", TensorProto.FLOAT, shape)
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["z"])], "branch", [], [made])
    yes = helper.make_node("Constant", [], ["yes"], value_int=1)
    truth = helper.make_node("Cast", ["yes"], ["truth"], to=TensorProto.BOOL)
    choice = helper.make_node("If", ["truth"], ["y"], then_branch=branch, else_branch=branch)
    del model.graph.node[:]
    model.graph.node.extend([yes, truth, choice])
    params = {"recipe": recipe, "cast_first": False}
    out, _ = bench.run("join-preprocess", params=params, model=bench.model(model))
    session = ort.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    image = picture(np.random.default_rng(1), 24, 40)
    wanted = Preprocess("x", (24, 40), mean=tuple(RECIPE["mean"]), std=tuple(RECIPE["std"]))
    np.testing.assert_allclose(
        session.run(None, {"x": image[None]})[0], -wanted.apply(image), atol=1e-5
    )


@pytest.mark.parametrize(("change", "message"), [
    ({"input": "images"}, "the model has no input 'images'"),
    ({"size": [24, 41]}, r"\['N', 3, 24, 40\], which takes no images of NCHW \[3, 24, 41\]"),
    ({"layout": "NHWC"}, "takes no images of NHWC"),
    ({"color": "gray", "mean": [], "std": []}, "takes no images"),
])  # fmt: skip
def test_what_the_net_does_not_take_is_refused(
    bench: Bench, change: dict[str, Any], message: str
) -> None:
    params = {"recipe": {**RECIPE, **MORE, **change}, "cast_first": False}
    model = bench.model(net({**RECIPE, **MORE}))
    with pytest.raises(ModelError, match=message):
        bench.run("join-preprocess", params=params, model=model)


def test_an_image_without_pixels_is_an_error_and_no_crash(bench: Bench) -> None:
    for fit in ("stretch", "letterbox", "crop"):
        path, _ = joined(bench, fit=fit)
        session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
        for shape in ((1, 0, 5, 3), (1, 5, 0, 3)):
            with pytest.raises(Exception, match="Gather|indices|Reshape|shape"):
                session.run(None, {"x": np.zeros(shape, np.uint8)})


def test_rows_of_the_net_become_the_images_they_were_made_of(bench: Bench) -> None:
    random = np.random.default_rng(0)
    for change in ({}, {"color": "bgr"}, {"layout": "NHWC"}, {"source": [24, 40]}):
        values = {**RECIPE, **MORE, **change}
        recipe = Preprocess.from_json(json.dumps(values))
        pixels = random.integers(0, 256, (5, 24, 40, 3)).astype(np.uint8)
        rows = recipe.normalized(pixels)
        for given_rows, turned in ((rows, 5), (rows.astype(np.float64), 5), (pixels, 0)):
            data = bench.data("evaluation", x=given_rows, label=np.arange(5))
            (data / "metric.py").write_text("pass")
            out, facts = bench.run("to-images", params={"recipe": values}, data=data)
            found = np.load(out / "evaluation.npz")
            assert facts.turned_back == turned
            assert found["x"].dtype == np.uint8
            assert (found["x"] == pixels).all()
            assert (found["label"] == np.arange(5)).all()
            assert (out / "metric.py").read_text() == "pass"


@pytest.mark.parametrize(("rows", "change", "message"), [
    (np.full((2, 3, 24, 40), 0.3, np.float32), {}, "not what the recipe makes of 8-bit pixels"),
    (np.full((2, 3, 24, 40), np.nan, np.float32), {}, "not what the recipe makes"),
    (np.zeros((2, 3, 24, 41), np.float32), {}, "neither images nor the net's inputs; give uint8"),
    (np.zeros((2, 24, 40), np.uint8), {}, "neither images nor the net's inputs"),
    (np.zeros((2, 24, 40, 3), np.uint8), {"source": [48, 80]}, "of 40 x 24 .* takes 80 x 48"),
    (np.zeros((2, 3, 24, 40), np.float32), {"source": [48, 80]}, "no larger images can be made"),
])  # fmt: skip
def test_rows_that_are_neither_are_refused(
    bench: Bench, rows: Array, change: dict[str, Any], message: str
) -> None:
    params = {"recipe": {**RECIPE, **MORE, **change}}
    with pytest.raises(DataError, match=message):
        bench.run("to-images", params=params, data=bench.data("calibration", x=rows))
