"""`client.sequence` on a genuine Triton: an LSTM fed step by step answers as it does at once."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from test_build import repo_builder
from triton_models import StartTriton

from repo_builder.client import AsyncEdgeClient, EdgeClient, InvalidInput

node = helper.make_node


def lstm(steps: int) -> onnx.ModelProto:
    """`steps` of an LSTM; its state [2, 1, 8] is h and c, and so no batch."""
    random = np.random.default_rng(0)
    weights = {
        "W": random.standard_normal((1, 32, 6)).astype(np.float32),
        "R": random.standard_normal((1, 32, 8)).astype(np.float32),
        "axis": np.array([1]),
    }
    nodes = [
        node("Split", ["state"], ["h", "c"], axis=0, num_outputs=2),
        node("LSTM", ["x", "W", "R", "", "", "h", "c"], ["Y", "hn", "cn"], hidden_size=8),
        node("Concat", ["hn", "cn"], ["stateN"], axis=0),
        node("Squeeze", ["Y", "axis"], ["y"]),
    ]
    shapes: dict[str, list[int]] = {
        "x": [steps, 1, 6],
        "state": [2, 1, 8],
        "y": [steps, 1, 8],
        "stateN": [2, 1, 8],
    }
    ports = {
        name: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    }
    stored = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    sides = ([ports["x"], ports["state"]], [ports["y"], ports["stateN"]])
    graph = helper.make_graph(nodes, "lstm", *sides, stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


X = np.random.default_rng(1).standard_normal((5, 1, 6)).astype(np.float32)


def at_once() -> Any:
    session = onnxruntime.InferenceSession(lstm(5).SerializeToString())
    return session.run(["y"], {"x": X, "state": np.zeros((2, 1, 8), np.float32)})[0]


@pytest.fixture(scope="module")
def url(module_triton: StartTriton, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A server with the LSTM of one step, built from the spec that `init` writes."""
    folder = tmp_path_factory.mktemp("lstm")
    onnx.save(lstm(1), folder / "lstm.onnx")
    written = repo_builder("init", "lstm.onnx", cwd=folder)
    assert written.returncode == 0, written.stderr
    spec = (folder / "lstm.yaml").read_text(encoding="utf-8")
    assert "state: what stateN gives, state takes in the next call" in spec
    built = repo_builder("build", "lstm.yaml", "--store", "store", "--out", "out", cwd=folder)
    assert built.returncode == 0, built.stderr
    return module_triton(folder / "out" / "cpu").grpc_url


def test_a_state_goes_from_call_to_call(url: str) -> None:
    with EdgeClient(url) as client:
        steps = client.sequence("lstm")
        found = [steps.infer({"x": X[i : i + 1]})["y"] for i in range(5)]
        np.testing.assert_allclose(np.concatenate(found), at_once(), atol=1e-6)
        steps.reset()
        assert steps.values == {}
        np.testing.assert_array_equal(steps.infer({"x": X[:1]})["y"], found[0])


def test_two_sequences_do_not_mix_and_may_begin_anywhere(url: str) -> None:
    with EdgeClient(url) as client:
        one, two = client.sequence("lstm"), client.sequence("lstm")
        for i in range(3):
            one.infer({"x": X[i : i + 1]})
            two.infer({"x": -X[i : i + 1]})
        later = client.sequence("lstm", initial=one.values)
        found = [later.infer({"x": X[i : i + 1]})["y"] for i in (3, 4)]
        np.testing.assert_allclose(np.concatenate(found), at_once()[3:], atol=1e-6)
        assert not np.allclose(one.values["state"], two.values["state"])


def test_a_call_that_fails_leaves_the_state(url: str) -> None:
    with EdgeClient(url) as client:
        steps = client.sequence("lstm", states={"state": "stateN"})
        steps.infer({"x": X[:1]})
        before = steps.values["state"]
        with pytest.raises(InvalidInput):
            steps.infer({"x": X[:, :, :3]})
        np.testing.assert_array_equal(steps.values["state"], before)


def test_what_is_no_state_is_said(url: str) -> None:
    with EdgeClient(url) as client, pytest.raises(InvalidInput, match="no output 'hn'"):
        client.sequence("lstm", states={"state": "hn"}).infer({"x": X[:1]})


def test_async(url: str) -> None:
    async def run() -> Any:
        async with AsyncEdgeClient(url) as client:
            steps = client.sequence("lstm")
            return [(await steps.infer({"x": X[i : i + 1]}))["y"] for i in range(5)]

    np.testing.assert_allclose(np.concatenate(asyncio.run(run())), at_once(), atol=1e-6)
