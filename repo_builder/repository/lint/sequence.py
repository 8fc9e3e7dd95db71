"""What a sequence's controls are, as config.pbtxt says it."""

from __future__ import annotations

from typing import Any

_CORRID = 3
_TYPE_OF = {"int32_false_true": "INT32", "fp32_false_true": "FP32", "bool_false_true": "BOOL"}


def control_type(part: Any) -> str:
    """The type that a control's values say, or its data_type for CORRID; "" where none does."""
    if part.kind == _CORRID:
        return type_name(part)
    return next((dtype for field, dtype in _TYPE_OF.items() if len(getattr(part, field))), "")


def type_name(message: Any) -> str:
    """The data_type of a config's message without its prefix: "FP32"."""
    numbers = type(message).DESCRIPTOR.fields_by_name["data_type"].enum_type
    return str(numbers.values_by_number[message.data_type].name).removeprefix("TYPE_")
