"""A typed config as text protobuf, through `templates/config.pbtxt.j2`, checked by Triton's own.

Every text is parsed back with Triton's protobuf and must equal the typed config.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Literal, get_origin

from repo_builder.base import templates
from repo_builder.spec.protocol import Message
from repo_builder.spec.serving import ModelConfig

if TYPE_CHECKING:
    from jinja2 import Template

ORDER = ("name", "platform", "backend", "runtime", "max_batch_size")
"""What a reader wants to see first; the other fields follow as they are declared."""
ALWAYS = ("max_batch_size",)
"""Written even at the protocol's default: with 0 left out Triton would complete it by itself."""


@dataclass(frozen=True)
class Field:
    """A field as the template sees it: texts of its values, or the fields of its messages."""

    name: str
    values: tuple[str, ...] = ()
    messages: tuple[tuple[Field, ...], ...] = ()
    repeated: bool = False


def text(config: ModelConfig) -> str:
    """The content of config.pbtxt, with a newline at the end.

    AssertionError where the text does not say what the config says: that is a bug of this room.
    """
    fields = sorted(_fields(config), key=lambda f: _place(f.name))
    rendered: str = _template().render(fields=fields).rstrip() + "\n"
    parsed, meant = parse(rendered), message(config)
    if parsed != meant:
        raise AssertionError(f"config.pbtxt of '{config.name}' says\n{parsed}\ninstead of\n{meant}")
    return rendered


def parse(content: str) -> Any:
    """The content of a config.pbtxt as Triton's protobuf message; ParseError where it is none."""
    from google.protobuf import text_format
    from tritonclient.grpc import model_config_pb2

    return text_format.Parse(content, model_config_pb2.ModelConfig())


def message(config: ModelConfig) -> Any:
    """The same config as Triton's protobuf message."""
    from google.protobuf import json_format
    from tritonclient.grpc import model_config_pb2

    as_json = config.model_dump(mode="json", by_alias=True, exclude_none=True)
    return json_format.ParseDict(as_json, model_config_pb2.ModelConfig())


def _place(name: str) -> int:
    return ORDER.index(name) if name in ORDER else len(ORDER)


@cache
def _template() -> Template:
    # Strings are escaped in `_quoted`, as text protobuf has it.
    return templates.load("config.pbtxt.j2", last_newline=False)


def _fields(config: Message) -> Iterator[Field]:
    """The fields that differ from the protocol's defaults, in the order of their declaration."""
    for attribute, info in type(config).model_fields.items():
        value = getattr(config, attribute)
        name = info.alias or attribute
        if value is None or (value == info.default and name not in ALWAYS):
            continue
        enum = get_origin(info.annotation) is Literal
        if isinstance(value, Message):
            yield Field(name, messages=(tuple(_fields(value)),))
        elif isinstance(value, dict):
            yield Field(name, messages=tuple(_entry(k, v) for k, v in sorted(value.items())))
        elif not isinstance(value, list):
            yield Field(name, (str(value) if enum else _scalar(value),))
        elif value and isinstance(value[0], Message):
            yield Field(name, messages=tuple(tuple(_fields(v)) for v in value))
        else:
            yield Field(name, tuple(_scalar(v) for v in value), repeated=True)


def _entry(key: str | int, value: Any) -> tuple[Field, ...]:
    """An entry of a map."""
    if isinstance(value, Message):
        return (Field("key", (_scalar(key),)), Field("value", messages=(tuple(_fields(value)),)))
    return (Field("key", (_scalar(key),)), Field("value", (_scalar(value),)))


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    return repr(value)


def _quoted(value: str) -> str:
    from google.protobuf import text_encoding

    return f'"{text_encoding.CEscape(value.encode(), as_utf8=True)}"'
