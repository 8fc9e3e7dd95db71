"""The typed config covers Triton's protocol exactly, and its text is read back as it was meant."""

from __future__ import annotations

import typing

import pytest
from pydantic import ValidationError
from tritonclient.grpc import model_config_pb2

from repo_builder.repository import render
from repo_builder.spec import protocol
from repo_builder.spec.protocol import Message
from repo_builder.spec.serving import ModelConfig


def _inner(annotation: object) -> type[Message] | None:
    if isinstance(annotation, type) and issubclass(annotation, Message):
        return annotation
    found = [_inner(part) for part in typing.get_args(annotation)]
    return next((part for part in found if part), None)


def _compare(message: type[Message], descriptor) -> int:
    fields = {info.alias or name: info for name, info in message.model_fields.items()}
    assert fields.keys() == {f.name for f in descriptor.fields}, descriptor.full_name
    count = len(fields)
    for field in descriptor.fields:
        inner = _inner(fields[field.name].annotation)
        if field.enum_type and field.name != "data_type":
            words = typing.get_args(fields[field.name].annotation)
            assert set(words) == {v.name for v in field.enum_type.values}
        is_map = field.message_type and field.message_type.GetOptions().map_entry
        below = field.message_type.fields_by_name["value"].message_type if is_map else None
        below = below if is_map else field.message_type
        assert (inner is None) == (below is None), field.full_name
        if inner is not None:
            count += _compare(inner, below)
    return count


def test_the_types_are_the_protocol_field_by_field() -> None:
    assert _compare(ModelConfig, model_config_pb2.ModelConfig.DESCRIPTOR) > 150
    names = {v.name for v in model_config_pb2.DataType.DESCRIPTOR.values}
    assert set(typing.get_args(protocol.DataType)) == names


def test_every_kind_of_value_is_read_back() -> None:
    config = ModelConfig.model_validate(
        {
            "name": 'quote " backslash \\ line\nand é',
            "max_batch_size": 4,
            "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [3, -1], "reshape": {}}],
            "version_policy": {"all": {}},
            "dynamic_batching": {"priority_queue_policy": {2: {"timeout_action": "DELAY"}}},
            "instance_group": [
                {
                    "kind": "KIND_CPU",
                    "rate_limiter": {"resources": [{"name": "r", "global": True, "count": 1}]},
                }
            ],
            "model_warmup": [{"inputs": {"x": {"dims": [3, 4], "zero_data": False}}}],
            "model_metrics": {
                "metric_control": [{"histogram_options": {"buckets": [0.1, 1e-9, 2.0]}}]
            },
            "parameters": {"b": {"string_value": "2"}, "a": {"string_value": ""}},
        }
    )
    text = render.text(config)
    assert render.parse(text) == render.message(config)
    assert "timeout_action: DELAY" in text
    assert text.index('"a"') < text.index('"b"')


def test_what_the_protocol_does_not_have_is_refused() -> None:
    with pytest.raises(ValidationError, match="only one of"):
        ModelConfig.model_validate({"dynamic_batching": {}, "sequence_batching": {}})
    with pytest.raises(ValidationError, match="Extra inputs"):
        ModelConfig.model_validate({"dynamic_batch": {}})
