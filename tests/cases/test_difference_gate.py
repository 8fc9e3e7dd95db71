"""End to end: a model that answers wrongly is not published, and the table says so."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from workplace import repo_builder


def build(
    folder: Path, model: onnx.ModelProto, spec: str, **data: Any
) -> tuple[Any, dict[str, Any]]:
    """What `build` ended with, and the rows of its report by target."""
    onnx.save(model, folder / "m.onnx")
    for name, arrays in data.items():
        np.savez(folder / f"{name}.npz", **arrays)
    head = "name: m\nversion: 1.0.0\nsource: {onnx: m.onnx}\n"
    (folder / "m.yaml").write_text(head + spec)
    ended = repo_builder(
        "build", folder, "--out", folder / "out", "--store", folder / "store", "--no-images",
        COLUMNS="300", PYTHONPATH=os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH")])),
    )  # fmt: skip
    report = json.loads((folder / "out" / "report.json").read_text())
    return ended, {row["target"]: row for row in report["rows"]}


def integers() -> onnx.ModelProto:
    """t int64 [N, 2] -> 3 t."""
    t, y = (helper.make_tensor_value_info(n, TensorProto.INT64, ["N", 2]) for n in "ty")
    graph = helper.make_graph(
        [helper.make_node("Mul", ["t", "k"], ["y"])], "g", [t], [y],
        [numpy_helper.from_array(np.array(3), "k")],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def test_integers_that_openvino_computes_in_32_bits(tmp_path: Path) -> None:
    ended, rows = build(tmp_path, integers(), "targets: [cpu, cpu-openvino]\n")
    assert ended.returncode == 7
    assert "m@cpu-openvino: for 64-bit integers up to 2e+12 output 'y' gives" in ended.stderr
    assert (rows["cpu"]["status"], rows["cpu-openvino"]["status"]) == ("built", "gate failed")
    assert (tmp_path / "out" / "cpu" / "models" / "m").is_dir()
    assert not (tmp_path / "out" / "cpu-openvino").exists()


def overflowing() -> tuple[onnx.ModelProto, Any]:
    """A layer norm taken apart, whose squares pass 65504; and rows that do it."""
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 16]) for n in "xy")
    nodes = [
        helper.make_node("Pow", ["x", "two"], ["p"], "square"),
        helper.make_node("ReduceMean", ["p"], ["v"], "mean", axes=[1]),
        helper.make_node("Sqrt", ["v"], ["s"], "root"),
        helper.make_node("Div", ["x", "s"], ["n"], "normal"),
        helper.make_node("MatMul", ["n", "w"], ["y"], "dense"),
    ]
    stored = {"two": np.array(2, np.float32), "w": np.eye(16, dtype=np.float32)}
    weights = [numpy_helper.from_array(array, name) for name, array in stored.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], weights)
    rows = np.random.default_rng(0).normal(0, 900, (16, 16)).astype(np.float32)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model, rows


@pytest.mark.parametrize("target", ["intel-npu", "movidius-myriad-x"])
def test_what_overflows_on_a_device_of_fp16(tmp_path: Path, target: str) -> None:
    model, x = overflowing()
    spec = (
        f"targets: [{target}]\noptimize: {{precision: fp16}}\n"
        "data: {evaluation: {path: e.npz, metric: mae, outputs: {value: y}}}\n"
    )
    target_rows = x / np.sqrt((x**2).mean(axis=1, keepdims=True))
    ended, rows = build(tmp_path, model, spec, e={"x": x, "target": target_rows})
    assert ended.returncode == 7
    row = rows[target]
    assert row["status"] == "gate failed"
    assert "it begins at node 'square' (Pow); fp16 ends at 65504" in row["reason"]
    assert row["comparison"]["headroom"] < 0.1
    assert row["difference"]["y"]["relative"] > 0.5


def test_what_overflows_stays_in_fp32_for_tensorrt(tmp_path: Path) -> None:
    model, x = overflowing()
    spec = "targets: [jetson-orin-nx]\noptimize: {precision: fp16}\n"
    spec += "data: {calibration: {path: c.npz, samples: 16}}\n"
    ended, rows = build(tmp_path, model, spec, c={"x": x})
    assert ended.returncode == 0, ended.stderr
    row = rows["jetson-orin-nx"]
    assert row["difference"]["y"]["relative"] < 0.01
    assert "nodes stay in fp32, since fp16 ends at 65504" in row["level_reason"]
    assert "node 'square' (Pow)" in row["level_reason"]


def test_limits_that_the_spec_sets_are_told_with_their_reason(tmp_path: Path) -> None:
    model, x = overflowing()
    spec = "targets: [movidius-myriad-x]\noptimize: {precision: fp16}\n"
    spec += "data: {calibration: {path: c.npz, samples: 16}}\n"
    widened = "gates: {max_difference: {relative: 9, columns: 99, reason: noise is enough}}\n"
    ended, rows = build(tmp_path, model, spec + widened, c={"x": x})
    assert ended.returncode == 0, ended.stderr
    found = rows["movidius-myriad-x"]["comparison"]
    assert (found["limits"]["relative"], found["reason"]) == (9, "noise is enough")
    assert (found["origin"], found["rows"]) == ("calibration", 16)
    assert "noise is enough" in (tmp_path / "out" / "report.html").read_text()
    missing = spec + "gates: {max_difference: {relative: 9}}\n"
    (tmp_path / "m.yaml").write_text("name: m\nversion: 1.0.0\nsource: {onnx: m.onnx}\n" + missing)
    ended = repo_builder("plan", tmp_path, "--store", tmp_path / "store")
    assert ended.returncode != 0
    assert "reason" in ended.stderr


def test_one_row_of_evaluation_data(tmp_path: Path) -> None:
    """A batch is tried with a second row made of the first."""
    x, y = (
        helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", size])
        for n, size in (("x", 16), ("y", 8))
    )
    random = np.random.default_rng(0)
    w = numpy_helper.from_array(random.standard_normal((16, 8)).astype(np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "g", [x], [y], [w])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    spec = "targets: [cpu]\ndata: {evaluation: {path: e.npz, metric: accuracy, "
    spec += "outputs: {scores: y}}}\n"
    one = {"x": random.standard_normal((1, 16)).astype(np.float32), "label": np.array([0])}
    ended, rows = build(tmp_path, model, spec, e=one)
    assert ended.returncode == 0, ended.stderr
    assert rows["cpu"]["status"] == "built"
    config = (tmp_path / "out" / "cpu" / "models" / "m" / "config.pbtxt").read_text()
    assert "max_batch_size: 0" not in config
