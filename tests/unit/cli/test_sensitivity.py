"""`sensitivity`: the worst layer on top, on any terminal, as JSON, drawn, and kept in the store."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from repo_builder.cli import cli

RANDOM = np.random.default_rng(3)
LAYERS = ["first", "second", "third"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A spec of a net whose first layer reads one input that is 300 times the others."""
    made = tmp_path_factory.mktemp("ranked")
    far = np.array([300, *[1] * 15], np.float32)

    def weights(*shape: int) -> Any:
        return (RANDOM.normal(size=shape) / np.sqrt(shape[0])).astype(np.float32)

    stored = [weights(16, 32) / far[:, None], weights(32, 32), weights(32, 4)]
    nodes = [
        helper.make_node("MatMul", ["x", "w0"], ["a"], "first"),
        helper.make_node("Relu", ["a"], ["b"], "relu"),
        helper.make_node("MatMul", ["b", "w1"], ["c"], "second"),
        helper.make_node("Relu", ["c"], ["d"], "relu2"),
        helper.make_node("MatMul", ["d", "w2"], ["y"], "third"),
    ]
    given, made_of = (
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", size])]
        for name, size in (("x", 16), ("y", 4))
    )
    tensors = [numpy_helper.from_array(array, f"w{n}") for n, array in enumerate(stored)]
    graph = helper.make_graph(nodes, "g", given, made_of, tensors)
    opset = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), made / "m.onnx")
    np.savez(made / "c.npz", x=(RANDOM.normal(size=(64, 16)) * far).astype(np.float32))
    (made / "net.yaml").write_text(
        "name: net\nversion: 1.0.0\nsource: {onnx: m.onnx}\ntargets: [cpu, snapdragon-qcs8275]\n"
        "data: {calibration: {path: c.npz, samples: 64}}\n"
        "optimize: {precision: int8}\n"
    )
    return made


def asked(folder: Path, *options: str, columns: int | None = None) -> Result:
    env = {"REPO_BUILDER_STORE": str(folder / "store")}
    if columns:
        env["COLUMNS"] = str(columns)
    words = ["sensitivity", str(folder / "net.yaml"), *options]
    return CliRunner().invoke(cli, words, env=env, catch_exceptions=True)


def test_the_worst_layer_is_on_top(folder: Path) -> None:
    printed = asked(folder, "--target", "cpu")
    assert printed.exit_code == 0, printed.output
    head, header, *rows = printed.stdout.splitlines()
    assert head == "net@cpu"
    assert "net@cpu: all 3 layers in int8 are off by " in printed.stderr
    assert "with 1 of them in floating point" in printed.stderr
    assert header.split() == ["layer", "type", "error", "saves", "work", "auto"]
    assert rows[0].split()[0] == "first"
    assert sorted(row.split()[0] for row in rows) == sorted(LAYERS)
    assert rows[0].endswith("float")
    assert all(row.endswith("int8") for row in rows[1:])


def test_a_second_run_asks_the_store(folder: Path) -> None:
    first, second = (asked(folder, "--target", "cpu") for _ in range(2))
    assert first.stdout == second.stdout
    assert second.stderr.startswith("net@cpu: all 3 layers")  # no step ran


def test_a_narrow_terminal_keeps_layer_error_and_form(folder: Path) -> None:
    printed = asked(folder, "--target", "cpu", columns=40)
    _, header, *rows = printed.stdout.splitlines()
    assert {"layer", "error", "auto"} <= set(header.split())
    assert max(map(len, [header, *rows])) <= 40


def test_each_target_has_its_own(folder: Path) -> None:
    printed = asked(folder, "--json", "-q")
    assert printed.stderr == ""
    cpu, snapdragon = json.loads(printed.stdout)
    assert (cpu["id"], snapdragon["id"]) == ("net@cpu", "net@snapdragon-qcs8275")
    assert cpu["layers"][0]["name"] == "first"
    assert cpu["layers"][0]["error"] == max(layer["error"] for layer in cpu["layers"])
    assert sum(layer["share"] for layer in cpu["layers"]) == pytest.approx(1, rel=1e-2)
    assert cpu["whole"] > 2 * cpu["error"]


def test_a_plot_has_a_bar_for_each_layer(folder: Path, tmp_path: Path) -> None:
    plot = tmp_path / "p.svg"
    printed = asked(folder, "--target", "cpu", "--plot", str(plot))
    assert printed.exit_code == 0, printed.output
    drawn = ElementTree.fromstring(plot.read_text())  # noqa: S314 - our own
    names = [title.text for title in drawn.iter("{http://www.w3.org/2000/svg}title")]
    assert names[0] == "net@cpu: relative error with one layer in int8"
    assert sorted(filter(None, names[1:])) == sorted(LAYERS)


def test_a_plot_is_of_one(folder: Path, tmp_path: Path) -> None:
    printed = asked(folder, "--plot", str(tmp_path / "p.svg"))
    assert printed.exit_code != 0
    assert "--plot draws one model@target" in str(printed.exception)


def test_what_is_missing_is_said(folder: Path) -> None:
    spec = folder / "net.yaml"
    text = spec.read_text()
    try:
        spec.write_text(
            text.replace("data:", "# ")
            .replace("{precision: int8}", "{}")
            .replace(", snapdragon-qcs8275", "")
        )
        printed = asked(folder, "--target", "cpu")
        assert "needs calibration data" in str(printed.exception)
        spec.write_text(text.replace("cpu, snapdragon-qcs8275", "ethos-u55"))
        printed = asked(folder)
        assert "ethos-u55 leaves no layer in floating point" in str(printed.exception)
    finally:
        spec.write_text(text)
