"""What is read from a config, and what is refused as input."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from repo_builder.client.errors import InvalidInput, ServerFailed
from repo_builder.client.models.model import Model, version_name, version_number


def test_several_inputs_by_name_with_one_optional():
    config = model_config_pb2.ModelConfig(name="m", max_batch_size=4)
    config.input.add(name="a", data_type="TYPE_FP32", dims=[2])
    config.input.add(name="b", data_type="TYPE_INT32", dims=[1], optional=True)
    config.output.add(name="y", data_type="TYPE_FP32", dims=[2])
    one = Model.of_config(config)
    a, b = np.zeros((3, 2), np.float32), np.zeros((3, 1), np.int32)
    assert [t.name for t in one.batch({"a": a, "b": b}).signature.tensors] == ["a", "b"]
    assert one.batch(a).count == 3
    assert one.batch({"a": a[0], "b": b[0]}).signature.single
    with pytest.raises(InvalidInput, match="'a' has 3 rows, 'b' has shape"):
        one.batch({"a": a, "b": b[:2]})
    with pytest.raises(InvalidInput, match="'a' has 3 rows, 'b' has shape"):
        one.batch({"a": a, "b": b[0]})


def test_a_batch_axis_in_the_dims_is_seen():
    config = model_config_pb2.ModelConfig(name="m")
    config.input.add(name="x", data_type="TYPE_FP32", dims=[-1, 2])
    config.output.add(name="y", data_type="TYPE_FP32", dims=[-1, 2])
    one = Model.of_config(config)
    assert one.batch(np.zeros((7, 2), np.float32)).count == 7
    assert one.batch(np.zeros(2, np.float32)).signature.single


@pytest.mark.parametrize("batch", [0, 4])
def test_a_size_of_0_that_the_build_did_not_run_is_refused(batch):
    config = model_config_pb2.ModelConfig(name="m", max_batch_size=batch)
    for name in ("x", "y"):
        config.input.add(name=name, data_type="TYPE_FP32", dims=[-1] if batch else [4, -1])
    config.output.add(name="z", data_type="TYPE_FP32", dims=[2])
    full = np.zeros((4, 3), np.float32)
    for empty in ("x", "y"):
        given = {"x": full, "y": full, empty: full[:, :0]}
        assert Model.of_config(config).batch(given).count  # built by others: the server decides
    config.parameters["repo_builder.version"].string_value = "1.0.0"
    config.parameters["repo_builder.may_be_empty"].string_value = '["y"]'
    one = Model.of_config(config)
    assert one.batch({"x": full, "y": full[:, :0]}).count
    with pytest.raises(InvalidInput, match=r"'x' of shape \[4, 0\].*not verified with .* size 0"):
        one.batch({"x": full[:, :0], "y": full})


def test_config_parameters_that_cannot_be_read_are_named():
    config = model_config_pb2.ModelConfig(name="m", max_batch_size=4)
    config.input.add(name="x", data_type="TYPE_FP32", dims=[2])
    config.output.add(name="y", data_type="TYPE_FP32", dims=[2])
    for text, says in (
        ("{", "cannot be read"),
        (json.dumps({"policy": "best", "output": "y"}), "best"),
        (json.dumps({"policy": "margin", "output": "z"}), "'z', which is not one of its outputs"),
    ):
        config.parameters["repo_builder.confidence"].string_value = text
        with pytest.raises(ServerFailed, match=says):
            Model.of_config(config)


@given(st.tuples(st.integers(0, 999), st.integers(0, 999), st.integers(0, 999)))
def test_versions_survive_being_numbers(parts):
    name = ".".join(map(str, parts))
    number = version_number(name)
    if int(number) >= 1000:
        assert version_name(number) == name


def test_odd_versions():
    assert version_name("3") == "3"
    assert version_number("") == ""
    with pytest.raises(InvalidInput, match="'latest'"):
        version_number("latest")
