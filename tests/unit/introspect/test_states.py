"""Pairs of inputs and outputs that are a state, by the names that exporters give them."""

from __future__ import annotations

import pytest

from repo_builder.base.artifact import Tensor
from repo_builder.introspect.states import pairs


def tensors(names: str, shape: tuple[int | str, ...] = (2, 1, 8)) -> list[Tensor]:
    return [Tensor(name, "FP32", shape) for name in names.split()]


@pytest.mark.parametrize(
    ("inputs", "outputs", "found"),
    [
        ("input state", "output stateN", {"state": "stateN"}),
        ("x h c", "y hn cn", {"h": "hn", "c": "cn"}),
        ("x h0 c0", "y hn cn", {"h0": "hn", "c0": "cn"}),
        ("x hidden_in", "y hidden_out", {"hidden_in": "hidden_out"}),
        ("x prev_cache", "y new_cache", {"prev_cache": "new_cache"}),
        ("speech in_cache0 in_cache1", "logits out_cache0 out_cache1",
         {"in_cache0": "out_cache0", "in_cache1": "out_cache1"}),
        ("ids past_key_values.0.key past_key_values.0.value",
         "logits present.0.key present.0.value",
         {"past_key_values.0.key": "present.0.key", "past_key_values.0.value": "present.0.value"}),
        ("x encoderState", "y encoderStateNew", {"encoderState": "encoderStateNew"}),
        ("input", "output", {}),
        ("image", "mask", {}),
        ("x", "y", {}),
        ("a_in", "a_out a_new", {}),
    ],
)  # fmt: skip
def test_names(inputs: str, outputs: str, found: dict[str, str]) -> None:
    assert pairs(tensors(inputs), tensors(outputs)) == found


def test_types_and_shapes_must_agree() -> None:
    (state,) = tensors("state", (2, "batch", 8))
    assert pairs([state], tensors("stateN", (2, 1, 8))) == {"state": "stateN"}
    assert pairs([state], tensors("stateN", (2, 1, 9))) == {}
    assert pairs([state], tensors("stateN", (1, 8))) == {}
    assert pairs([state], [Tensor("stateN", "FP16", (2, 1, 8))]) == {}
