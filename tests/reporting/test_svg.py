import re
import xml.etree.ElementTree as ET

import pytest
from matplotlib.figure import Figure

from roofprobe.reporting.drawing import add_axes, empty_figure
from roofprobe.reporting.svg import (
    SERIES,
    StyleSheet,
    figure_style,
    inline_svg,
    see_through,
    tip,
    tips,
)

HOSTILE = "<script>alert(1)</script> & \"'"


def drawn(figure: Figure) -> ET.Element:
    return ET.fromstring(inline_svg(figure, "k", "label", StyleSheet()))


def test_a_tip_is_the_title_of_what_it_hangs_on() -> None:
    with figure_style():
        figure = empty_figure(100)
        axes = add_axes(figure, left=5, right=5, top=5, bottom=5)
        (bar,) = axes.barh([0], [1])
        tip(bar, HOSTILE)
        root = drawn(figure)
    (title,) = root.iter("title")
    assert title.text == HOSTILE
    (parent,) = [group for group in root.iter() if title in group]
    assert [child.tag for child in parent] == ["title", "path"]  # first, as the standard wants it
    assert not parent.attrib  # no id is left of it


def test_each_marker_tells_its_own_words() -> None:
    with figure_style():
        figure = empty_figure(100)
        axes = add_axes(figure, left=5, right=5, top=5, bottom=5)
        (dots,) = axes.plot([1, 2, 3], [1, 2, 1], linestyle="", marker="o", color=SERIES[0])
        tips(dots, ["one", "two", "three"])
        root = drawn(figure)
    marks = [use for use in root.iter("use") if use.find("title") is not None]
    assert [use.findtext("title") for use in marks] == ["one", "two", "three"]
    places = [float(use.attrib["x"]) for use in marks]
    assert places == sorted(places)


def test_a_tip_for_a_marker_that_is_not_drawn_is_an_error_of_ours() -> None:
    with figure_style():
        figure = empty_figure(100)
        axes = add_axes(figure, left=5, right=5, top=5, bottom=5)
        (dots,) = axes.plot([1, 2], [1, 2], linestyle="", marker="o")
        tips(dots, ["one"])
        with pytest.raises(ValueError, match="zip"):
            drawn(figure)


def test_what_is_seen_through_lets_the_cell_below_be_pointed_at() -> None:
    with figure_style():
        figure = empty_figure(100)
        see_through(figure.text(0.5, 0.5, "42"))
        root = drawn(figure)
    (group,) = [g for g in root.iter("g") if g.attrib.get("pointer-events") == "none"]
    assert "".join(group.itertext()).strip() == "42"


def test_coordinates_have_at_most_two_decimals_and_no_group_says_nothing() -> None:
    with figure_style():
        figure = empty_figure(100)
        axes = add_axes(figure, left=5, right=5, top=5, bottom=5)
        axes.plot([0.1234567, 0.7654321], [1 / 3, 2 / 3], marker="o")
        text = inline_svg(figure, "k", "label", StyleSheet())
    assert not re.findall(r"\d\.\d{3,}", text)
    assert "<g>" not in text
