"""What `sensitivity` tells the steps that quantize: which layers stay in floating point."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "keep.json"
_WHY = "alone puts the answer off by {:.2g} of its norm in int8"


@dataclass(frozen=True)
class Keep:
    """Nodes to leave, each with why: in the graph as it is quantized, and in the source's.

    They differ where nodes were joined or renamed on the way. Of the nodes `narrow`, and of
    `narrow_source` in the source, the weights are stored in 8 bits all the same.
    """

    nodes: Mapping[str, str]
    source: Mapping[str, str]
    narrow: Sequence[str] = ()
    narrow_source: Sequence[str] = ()


def why(error: float) -> str:
    """Why a layer stays that alone has this relative error."""
    return _WHY.format(error)


def is_ranked(reason: str) -> bool:
    """Whether a reason is one of `why`, among those for which a node stays."""
    return reason.startswith(_WHY.partition("{")[0])


def write(folder: Path, keep: Keep) -> None:
    """Write `keep` into the folder of an artifact."""
    text = json.dumps(asdict(keep), indent=1, sort_keys=True)
    (folder / FILE).write_text(text + "\n", encoding="utf-8")


def read(folder: Path | None) -> Keep:
    """What `write` wrote into `folder`; of none, nothing."""
    if folder is None:
        return Keep({}, {})
    return Keep(**json.loads((folder / FILE).read_text(encoding="utf-8")))


def fewest(
    order: Sequence[int], error: Callable[[Collection[int]], float], most: float
) -> list[int]:
    """Layers of `order`, the worst first, to leave in floating point for an error up to `most`.

    `error` is asked with those that stay; with all of `order` it is small enough. The shortest
    beginning of `order` that is enough is found by halving, then each of it is tried without, the
    mildest first.
    """
    if error(()) <= most:
        return []
    short, enough = 0, len(order)
    while enough - short > 1:
        middle = (short + enough) // 2
        if error(order[:middle]) <= most:
            enough = middle
        else:
            short = middle
    kept = list(order[:enough])
    for layer in reversed(order[: enough - 1]):
        without = [other for other in kept if other != layer]
        if error(without) <= most:
            kept = without
    return kept
