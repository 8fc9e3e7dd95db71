"""Where an image's bytes are, and what of it a device has to pull when it has another one."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from repo_builder.images.archive import SavedImage
from repo_builder.images.layers import pull_size

# The first pattern that fits a path says what the file is part of.
_PARTS = (
    (re.compile(r"models/([^/]+)/"), r"model \1"),
    (re.compile(r"opt/tritonserver/lib/"), "server libraries"),
    (re.compile(r"opt/tritonserver/backends/([^/]+)/"), r"backend \1"),
    (re.compile(r"opt/tritonserver/"), "server"),
    (re.compile(r".*/(?:site|dist)-packages/([A-Za-z0-9_]+)"), r"package \1"),
    (re.compile(r".*/libpython3|.*/python3(?:\.\d+)?(?:/|$)"), "Python"),
    (re.compile(r"(?:usr/)?(?:local/)?lib(?:64)?/"), "system libraries"),
    (re.compile(r"usr/share/doc/"), "licences"),
)
_SELF = "checks and settings"
_COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#e15759", "#76b7b2", "#edc948", "#b07aa1", "#9c755f")


@dataclass(frozen=True)
class LayerSize:
    """One layer: its digest, its bytes on disk, and compressed as a registry keeps it."""

    title: str
    diff_id: str
    disk: int
    pull: int


@dataclass(frozen=True)
class Difference:
    """What of an image is new to who has another one.

    `by_digest` are the bytes that containerd, Podman and Kubernetes pull: the layers whose digest
    they lack. `by_chain` are those that Docker's classic store pulls: it knows a layer only
    together with all below it, so everything from the first new layer up.
    """

    layers: tuple[tuple[LayerSize, bool], ...]
    by_digest: int
    by_chain: int


def part(path: str) -> str:
    """What a file of an image is part of, in words of a size table."""
    for pattern, name in _PARTS:
        if match := pattern.match(path):
            return match.expand(name)
    return _SELF


def parts(image: SavedImage) -> dict[str, int]:
    """Bytes on disk per part, largest first."""
    found: dict[str, int] = {}
    for sizes in image.sizes():
        for path, size in sizes.items():
            found[part(path)] = found.get(part(path), 0) + size
    return dict(sorted(found.items(), key=lambda item: (-item[1], item[0])))


def layer_sizes(image: SavedImage, cache: Path) -> list[LayerSize]:
    """The layers with their sizes; `cache` remembers compressed sizes."""
    return [
        LayerSize(
            title,
            diff_id,
            sum(sizes.values()),
            pull_size(diff_id, partial(image.chunks, number), cache),
        )
        for number, (title, diff_id, sizes) in enumerate(
            zip(image.titles, image.diff_ids, image.sizes(), strict=True)
        )
    ]


def difference(has: Sequence[LayerSize], wants: Sequence[LayerSize]) -> Difference:
    """What who has the layers `has` must pull to have `wants`."""
    here = {layer.diff_id for layer in has}
    marked = tuple((layer, layer.diff_id not in here) for layer in wants)
    same = 0
    while same < min(len(has), len(wants)) and has[same].diff_id == wants[same].diff_id:
        same += 1
    return Difference(
        marked,
        sum(layer.pull for layer, new in marked if new),
        sum(layer.pull for layer in wants[same:]),
    )


def plot(title: str, values: Mapping[str, int]) -> str:
    """The parts as an SVG bar chart, in MB of 1e6 bytes; small parts are one bar, `other`."""
    total = sum(values.values()) or 1
    shown = {name: size for name, size in values.items() if size >= total / 100}
    if rest := total - sum(shown.values()):
        shown["other"] = shown.get("other", 0) + rest
    width, left, row = 720, 190, 24
    longest = max(shown.values(), default=1)
    bars = []
    for i, (name, size) in enumerate(shown.items()):
        y, length = 44 + i * row, (width - left - 110) * size / longest
        bars.append(
            f'<text x="{left - 8}" y="{y + 14}" text-anchor="end">{html.escape(name)}</text>'
            f'<rect x="{left}" y="{y}" width="{length:.1f}" height="{row - 6}" '
            f'fill="{_COLOURS[i % len(_COLOURS)]}"/>'
            f'<text x="{left + length + 6:.1f}" y="{y + 14}">{size / 1e6:.1f} MB '
            f"({100 * size / total:.0f}%)</text>"
        )
    height = 56 + row * len(shown)
    heading = html.escape(f"{title}: {total / 1e6:.1f} MB on disk")
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="sans-serif" font-size="13">'
        f'<rect width="{width}" height="{height}" fill="white"/>'
        f'<text x="12" y="26" font-size="16">{heading}</text>{"".join(bars)}</svg>\n'
    )
