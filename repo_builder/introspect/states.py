"""Which outputs of a recurrent or streaming model are its state, to be given to its next call."""

from __future__ import annotations

import re
from collections.abc import Sequence

from repo_builder.base.artifact import Tensor

_WORDS = re.compile(r"[a-z]+|[0-9]+")
_CAPITAL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_DIRECTIONS = frozenset(
    {"in", "input", "out", "output", "prev", "previous", "past", "next", "new", "present", "n"}
)
"""Words that tell the two ends of a state apart, as `h_in` and `h_out`, `state` and `stateN`."""


def pairs(inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> dict[str, str]:
    """Input -> the output that is its value for the next call.

    The two have one type and shape, as far as shapes are fixed, and names that differ by direction
    alone; `input` and `output`, which say nothing else, are no state. Where several would do, none
    is said.
    """
    found = {}
    for tensor in inputs:
        name = _stem(tensor.name)
        ends = [end for end in outputs if name and _stem(end.name) == name and _alike(tensor, end)]
        rivals = [other for other in inputs if _stem(other.name) == name and _alike(other, tensor)]
        if len(ends) == len(rivals) == 1:
            found[tensor.name] = ends[0].name
    return found


def _stem(name: str) -> str:
    """What a name says besides its direction: `past_key_values.0.key` and `present.0.key` agree."""
    words = _WORDS.findall(_CAPITAL.sub(" ", name).lower())
    words = [word for word in words if word not in _DIRECTIONS and word != "values"]
    if words and words[0] == "key" and words[-1] in ("key", "value"):
        words = words[1:]
    if len(words) > 1 and words[-1] == "0" and len(words[0]) == 1:
        words = words[:-1]  # h0 and hn
    return " ".join(word[:-1] if len(word) == 2 and word.endswith("n") else word for word in words)


def _alike(a: Tensor, b: Tensor) -> bool:
    """Whether one may be the other's value."""
    return (
        a.dtype == b.dtype
        and len(a.shape) == len(b.shape) > 0
        and all(
            x == y or isinstance(x, str) or isinstance(y, str)
            for x, y in zip(a.shape, b.shape, strict=True)
        )
    )
