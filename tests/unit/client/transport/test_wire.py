"""Requests as bytes, against those of tritonclient."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2, service_pb2

from repo_builder.client.models.model import Model
from repo_builder.client.transport import wire


def model(datatype: str, dims: list[int]) -> Model:
    """A model with one input `x`, of up to 8 rows."""
    config = model_config_pb2.ModelConfig(name="m", max_batch_size=8)
    config.input.add(name="x", data_type=datatype, dims=dims)
    config.output.add(name="y", data_type="TYPE_FP32", dims=[-1])
    return Model.of_config(config)


TYPES = {
    "TYPE_BOOL": np.bool_,
    "TYPE_INT8": np.int8,
    "TYPE_UINT16": np.uint16,
    "TYPE_INT64": np.int64,
    "TYPE_FP16": np.float16,
    "TYPE_FP64": np.float64,
    "TYPE_STRING": object,
    "TYPE_BF16": np.float32,
}


@pytest.mark.parametrize("datatype", TYPES)
def test_the_bytes_are_those_that_tritonclient_sends(datatype):
    import tritonclient.grpc as tritonclient
    from tritonclient.grpc._utils import _get_inference_request

    rng = np.random.default_rng(0)
    x = (rng.random((3, 5)) * 100).astype(TYPES[datatype])
    if datatype == "TYPE_STRING":
        x = np.array([[b"a", b"", b"long" * 50]] * 3, dtype=object)
    one = model(datatype, [-1])
    batch = one.batch(x)
    ours = service_pb2.ModelInferRequest.FromString(wire.infer_request("m", "3", batch, 1.5))
    assert ours.parameters["timeout"].int64_param == 1_500_000
    del ours.parameters["timeout"]
    theirs = tritonclient.InferInput("x", x.shape, one.inputs[0].datatype)
    theirs.set_data_from_numpy(x)
    expected = _get_inference_request("m", [theirs], "3", "", None, 0, False, False, 0, None, None)
    assert ours == expected


@given(size=st.integers(0, 70_000), timeout=st.floats(0.0, 1e6))
@settings(max_examples=60, deadline=None)
def test_any_size_and_deadline_parse(size, timeout):
    one = model("TYPE_UINT8", [-1])
    x = np.arange(size, dtype=np.uint8)[None]
    body = wire.infer_request("m", "", one.batch(x), timeout)
    parsed = service_pb2.ModelInferRequest.FromString(body)
    assert parsed.raw_input_contents[0] == x.tobytes()
    assert abs(parsed.parameters["timeout"].int64_param - timeout * 1e6) <= 1000


def test_arrays_that_are_not_contiguous_arrive_as_they_look():
    one = model("TYPE_FP32", [2, 3])
    base = np.arange(48, dtype=np.float32).reshape(4, 2, 6)
    for _ in range(2):
        batch = one.batch(base[:, :, ::2])
        sent = service_pb2.ModelInferRequest.FromString(wire.infer_request("m", "", batch, 1.0))
        assert sent.raw_input_contents[0] == base[:, :, ::2].tobytes()
