"""Texts as the C++ backends read them: std::stoi, and ParseBoolValue (backend_common.cc)."""

from __future__ import annotations

import re

INT = range(-(2**31), 2**31)
UINT64 = range(2**64)
_LEADING = re.compile(r"[ \t\n\v\f\r]*([+-]?[0-9]+)")
_SWITCHES = ("true", "on", "1", "false", "off", "0")


def leading(text: str) -> int | None:
    """The number that a text starts with, whatever follows; None where std::stoi throws."""
    found = _LEADING.match(text)
    return int(found[1]) if found else None


def is_switch(text: str) -> bool:
    """Whether ParseBoolValue takes a text: in any case, but with nothing around it."""
    return text.lower() in _SWITCHES


def why_no_number(text: str, fits: range = INT) -> str:
    """What is wrong with a text that the backend reads as a number; "" where it takes it.

    A number that does not fit its type makes std::stoi throw what the backends do not catch.
    """
    number = leading(text)
    if number is None:
        return f"'{text}' is no whole number"
    if number not in fits:
        bits = (len(fits) - 1).bit_length()
        return f"'{text}' does not fit {bits} bits, which the backend does not survive"
    return ""
