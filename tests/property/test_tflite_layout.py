"""Reshapes and transpositions through `Layouts` give what numpy gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from repo_builder.tflite.flatbuffer import Builder
from repo_builder.tflite.layout import Layouts, Value

pytest.importorskip("ai_edge_litert")


@given(st.data())
def test_any_chain_of_views_ends_in_the_right_order(data: st.DataObject) -> None:
    dims = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple))
    order = tuple(data.draw(st.permutations(range(len(dims)))))
    builder = Builder()
    stored = np.arange(np.prod(dims)).reshape([dims[axis] for axis in order])
    source = builder.tensor("x", stored.shape)
    layouts = Layouts(builder)
    value = Value(source, dims, dims, order, 1.0, 0)
    meant = stored.transpose(np.argsort(order))
    for _ in range(data.draw(st.integers(0, 4))):
        if data.draw(st.booleans()):
            axes = tuple(data.draw(st.permutations(range(len(value.shape)))))
            value = layouts.natural(value).transposed(axes)
            meant = meant.transpose(axes)
        else:
            shape = data.draw(st.sampled_from([(meant.size,), (1, *meant.shape), (meant.size, 1)]))
            value = value.reshaped(shape)
            meant = meant.reshape(shape)
    wanted = tuple(data.draw(st.permutations(range(len(value.shape)))))
    value = layouts.stored(value, wanted)
    assert np.array_equal(_interpret(builder, source, stored, value.index), meant.transpose(wanted))


def _interpret(builder: Builder, source: int, stored: np.ndarray, wanted: int) -> np.ndarray:
    """What the written RESHAPE and TRANSPOSE operators make of the source tensor."""
    content = {source: stored}
    names = {number: code for (code, _), number in builder._codes.items()}
    for operator in builder.operators:
        values = content[operator.inputs[0]]
        numbers = builder._buffers[builder.tensors[operator.inputs[1]].buffer]
        parameter = np.frombuffer(numbers, np.int32)
        if names[operator.opcodeIndex] == "RESHAPE":
            content[operator.outputs[0]] = values.reshape(parameter)
        else:
            content[operator.outputs[0]] = values.transpose(parameter)
        assert (
            list(content[operator.outputs[0]].shape) == builder.tensors[operator.outputs[0]].shape
        )
    return content[wanted]
