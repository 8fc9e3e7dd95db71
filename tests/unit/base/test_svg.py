from __future__ import annotations

from xml.etree import ElementTree

from repo_builder.base.svg import line_chart


def test_a_chart_is_sound_xml_with_every_series_and_tick():
    text = line_chart(
        "a < b",
        "x",
        "y",
        {"one": [(0, 1), (1, 3)], "two": [(0, float("nan")), (1, 2)], "none": []},
        x_ticks=[(0.0, "start"), (1.0, "end")],
    )
    root = ElementTree.fromstring(text)  # noqa: S314 - our own text
    texts = [element.text for element in root.iter() if element.tag.endswith("text")]
    assert {"a < b", "one", "two", "none", "start", "end"} <= set(texts)
    lines = [e.get("d") for e in root.iter() if e.get("fill") == "none"]
    assert len(lines) == 2
    assert "nan" not in text


def test_a_mark_lies_on_its_line():
    text = line_chart("t", "x", "y", {"line": [(0, 0), (1, 5)]}, marks=[(0, 0), (1, 5)])
    root = ElementTree.fromstring(text)  # noqa: S314 - our own text
    line = next(e.get("d") for e in root.iter() if e.get("stroke-width") == "2")
    rings = [f"{e.get('cx')},{e.get('cy')}" for e in root.iter() if e.tag.endswith("circle")]
    assert "M" + "L".join(rings) == line
