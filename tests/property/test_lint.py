"""Whatever a config holds, lint finds its fields, and says something instead of failing."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

from google.protobuf import text_format
from google.protobuf.descriptor import FieldDescriptor
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from repo_builder.repository import render
from repo_builder.repository.lint import lint_config
from repo_builder.repository.lint.positions import Positions
from tests.agreement.mutate import _fields, _fill
from tests.agreement.seeds import DIRECT, DYNAMIC, ENSEMBLE, OLDEST, RESHAPED, VERSIONS, WARMED

CONFIGS = [DIRECT, DYNAMIC, ENSEMBLE, OLDEST, RESHAPED, VERSIONS, WARMED]


def _random_config(seed: int) -> Any:
    chance = random.Random(seed)  # noqa: S311
    config = model_config_pb2.ModelConfig()
    for field in chance.sample(_fields(config), 8):
        _fill(config, field, chance)
    return config


def _leaves(message: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Path and value of every field that holds one value, less the entries of maps."""
    for field, value in message.ListFields():
        path = prefix + field.name
        if field.message_type is None:
            if not field.is_repeated and field.type != FieldDescriptor.TYPE_ENUM:
                yield path, value
        elif field.message_type.GetOptions().map_entry:
            continue
        elif field.is_repeated:
            for i, each in enumerate(value):
                yield from _leaves(each, f"{path}[{i}].")
        else:
            yield from _leaves(value, f"{path}.")


def _value(text: str) -> Any:
    if text.startswith(('"', "'")):
        return render.parse(f"name: {text}").name
    return {"true": True, "false": False}.get(text) if text in ("true", "false") else float(text)


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_every_field_is_found_where_it_stands(seed: int) -> None:
    config = _random_config(seed)
    text = text_format.MessageToString(config)
    positions = Positions(text)
    for path, value in _leaves(config, ""):
        span = positions.span(path)
        assert span is not None, path
        assert _value(text[span.start : span.end]) == value
        assert text.count("\n", 0, span.name) + 1 == positions.line(path)


@given(st.integers(0, 2**32))
@settings(max_examples=60, deadline=None)
def test_any_config_is_judged(seed: int) -> None:
    for finding in lint_config(text_format.MessageToString(_random_config(seed)), "m"):
        assert finding.line >= 1
        assert "\n" not in finding.what


@given(st.sampled_from(CONFIGS), st.data())
@settings(max_examples=100, deadline=None)
def test_any_damage_to_a_config_is_judged(config: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(config)))
    end = data.draw(st.integers(start, min(len(config), start + 20)))
    damaged = config[:start] + data.draw(st.text(max_size=4)) + config[end:]
    for finding in lint_config(damaged, "m"):
        assert finding.line >= 1
