"""Bars: lengths by value, names whole in the tooltip, a legend of what occurs."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from repo_builder.base.bars import Bar, bars

SVG = "{http://www.w3.org/2000/svg}"
COLOURS = {"good": "#00f", "bad": "#f00", "absent": "#0f0"}


def drawn(*rows: Bar) -> ElementTree.Element:
    text = bars("<title>", "said & done", rows, COLOURS)
    return ElementTree.fromstring(text)  # noqa: S314 - our own


def test_bars_are_as_long_as_their_values() -> None:
    root = drawn(Bar("a", 2.0, "2", "bad"), Bar("b", 0.5, "0.5", "good"), Bar("c", 0, "0", "good"))
    one, half, none = (group.find(f"{SVG}rect") for group in root.iter(f"{SVG}g"))
    assert one is not None and half is not None and none is not None  # noqa: PT018 - for mypy
    assert float(half.attrib["width"]) == pytest.approx(float(one.attrib["width"]) / 4, abs=0.1)
    assert float(none.attrib["width"]) == 1  # it can be seen
    assert (one.attrib["fill"], half.attrib["fill"]) == ("#f00", "#00f")


def test_texts_are_escaped_and_long_names_keep_their_end() -> None:
    name = "/model/" + "very/" * 12 + "last<1>"
    root = drawn(Bar(name, 1.0, "1", "bad"))
    (group,) = root.iter(f"{SVG}g")
    title, shown = group.find(f"{SVG}title"), group.find(f"{SVG}text")
    assert title is not None and title.text == name  # noqa: PT018 - for mypy
    assert shown is not None and shown.text is not None  # noqa: PT018 - for mypy
    assert shown.text.startswith("…") and shown.text.endswith("last<1>")  # noqa: PT018
    assert len(shown.text) <= 34
    texts = [text.text for text in root.iter(f"{SVG}text")]
    assert "bad" in texts
    assert "absent" not in texts and "good" not in texts  # noqa: PT018


def test_what_is_not_finite_is_as_long_as_the_longest() -> None:
    root = drawn(Bar("a", float("inf"), "inf", "bad"), Bar("b", 1.0, "1", "good"))
    widths = [
        rect.attrib["width"] for group in root.iter(f"{SVG}g") for rect in group.iter(f"{SVG}rect")
    ]
    assert widths[0] == widths[1]
    assert drawn(Bar("a", float("nan"), "nan", "bad")) is not None
