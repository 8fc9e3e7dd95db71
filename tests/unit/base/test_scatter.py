"""Scatter plots: the line of the best, ticks, labels."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from repo_builder.base.scatter import Dot, best, scatter


def parsed(text: str) -> ElementTree.Element:
    return ElementTree.fromstring(text)  # noqa: S314 - our own


def dots(*places: tuple[float, float]) -> list[Dot]:
    return [Dot(x, y, str(i), f"about {i}") for i, (x, y) in enumerate(places)]


def test_the_best_are_those_that_no_other_beats() -> None:
    some = dots((1, 0.5), (2, 0.9), (3, 0.8), (2, 0.7), (4, 0.95))
    assert [dot.label for dot in best(some, y_up=True)] == ["0", "1", "4"]
    assert [dot.label for dot in best(some, y_up=False)] == ["0"]


def test_all_is_inside_the_plot_and_escaped() -> None:
    text = scatter(
        "<t>", "a & b", "y", [*dots((1, 1), (100, 0)), Dot(5, 0.5, "<b>", "<i>")], y_up=True
    )
    root = parsed(text)
    _, _, width, height = map(float, root.attrib["viewBox"].split())
    circles = root.findall("circle")
    assert len(circles) == 3
    assert all(0 < float(c.attrib["cx"]) < width for c in circles)
    assert all(0 < float(c.attrib["cy"]) < height for c in circles)
    assert "<b>" not in text


@pytest.mark.parametrize("places", [[], [(2.0, 0.99)], [(3.0, 1.0), (3.0, 1.0)], [(0.0, 0.0)]])
def test_points_that_span_nothing(places: list[tuple[float, float]]) -> None:
    text = scatter("t", "x", "y", dots(*places), y_up=True)
    assert parsed(text).findall("text")
    assert "nan" not in text


def test_what_is_not_finite_is_left_out() -> None:
    text = scatter("t", "x", "y", dots((1, 1), (float("nan"), 1), (2, float("inf"))), y_up=True)
    assert len(re.findall("<circle", text)) == 1


def test_labels_cover_neither_dots_nor_each_other() -> None:
    """Of two pairs side by side the first has its label to its left: the second is in the way."""
    some = [
        Dot(11, 0.965, "1", ""), Dot(15, 0.965, "fp32", ""), Dot(26, 0.965, "8", ""),
        Dot(27, 0.965, "fp32", ""), Dot(30, 0.9637, "2", ""), Dot(66, 0.9675, "9", "", radius=12),
    ]  # fmt: skip
    root = parsed(scatter("t", "x", "y", some, y_up=True))
    boxes = []
    for label in root.iterfind("text[@class='label']"):
        width = 7 * len(label.text or "")
        x, y = float(label.attrib["x"]), float(label.attrib["y"])
        left = x if label.attrib["text-anchor"] == "start" else x - width
        boxes.append((left, left + width, y - 12, y))
    assert len(boxes) == 4
    for circle in root.iterfind("circle"):
        x, y, r = (float(circle.attrib[name]) for name in ("cx", "cy", "r"))
        boxes.append((x - r, x + r, y - r, y + r))
    for number, one in enumerate(boxes[:4]):
        for other in boxes[number + 1 :]:
            apart = one[0] >= other[1] or other[0] >= one[1]
            assert apart or one[2] >= other[3] or other[2] >= one[3]


def test_points_that_touch_share_a_label() -> None:
    text = scatter("t", "x", "y", dots((1, 1), (1.01, 1), (9, 0)), y_up=True)
    labels = [e.text for e in parsed(text).iterfind("text[@class='label']")]
    assert labels == ["0, 1", "2"]
