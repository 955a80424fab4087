"""The small figures of a fleet's page."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from datetime import date

from roofprobe.records.fleet.pictures import Day, Mark, Spread
from roofprobe.reporting.fleet import fleet_svg

SPREAD = Spread(
    "example-sxm", "compute bf16 burst", "TFLOPS", "higher", 100,
    (560.0, 690.0, 695.0, 700.0, 702.0, 710.0, 715.0), 600.0, 720.0, (1, 0, 0, 49, 50), 1,
    (Mark("<b>&", 3, 560.0, -0.2),),
)  # fmt: skip


def parsed(svg: object) -> ET.Element:
    return ET.fromstring(str(svg))


def circles(root: ET.Element, kind: str) -> list[tuple[float, float]]:
    return [
        (float(each.attrib["cx"]), float(each.attrib["cy"]))
        for each in root.iter("circle")
        if kind in each.attrib["class"]
    ]


def test_a_histogram_has_a_bar_per_bin_that_holds_something_scaled_to_the_greatest() -> None:
    root = parsed(fleet_svg.histogram(SPREAD, (679.0, 500.0), (690.0, 705.0)))
    bars = next(e for e in root.iter("path") if e.attrib["class"] == "bars").attrib["d"]
    assert bars.count("M") == 3
    assert "v-50.0" in bars  # the greatest fills the height
    assert sum(e.attrib["class"] == "mode" for e in root.iter("path")) == 2
    (bound,) = [e for e in root.iter("path") if e.attrib["class"] == "bound"]
    assert bound.attrib["d"].startswith("M208.8 ")  # 6 + 79/120 of 308


def test_what_lies_beyond_the_picture_is_marked_at_its_edge_and_named() -> None:
    root = parsed(fleet_svg.histogram(SPREAD, (), ()))
    assert circles(root, "beyond") == [(6.0, 73.0)]
    assert next(root.iter("title")).text == "<b>&:3 560, −20.0%"
    assert "≤ 600" in [text.text for text in root.iter("text")]


def test_a_figure_says_in_words_what_it_shows() -> None:
    assert parsed(fleet_svg.strip(SPREAD)).attrib["aria-label"] == (
        "compute bf16 burst: 100 devices, 560 to 715 TFLOPS, median 700, half of them 695 to 702; "
        "1 beyond the bound"
    )


def test_equal_devices_are_drawn_without_a_division_by_zero() -> None:
    flat = Spread("s", "m", "u", "higher", 3, (5.0,) * 7, 5.0, 5.0, (0, 3, 0), 0, ())
    assert parsed(fleet_svg.histogram(flat, (5.0,), ())) is not None
    assert parsed(fleet_svg.strip(flat)) is not None


def day(number: int, value: float, driver: str = "580.1", method: int = 1) -> Day:
    return Day(date(2026, 1, number), value, 4, driver, method)


def test_a_trend_is_a_line_a_new_driver_a_rule_and_a_new_method_a_break() -> None:
    line = [day(1, 700), day(11, 690, "581.0"), day(21, 500, "581.0", 2)]
    root = parsed(fleet_svg.trend("t", [("node-1:0", line)], "TFLOPS"))
    (path,) = [e.attrib["d"] for e in root.iter("path") if "line-0" in e.attrib["class"]]
    assert [sign for sign in path if sign in "ML"] == ["M", "L", "M"]
    assert "driver 581.0" in [text.text for text in root.iter("text")]
    xs = [x for x, _ in circles(root, "dot-0")]
    assert xs[1] - xs[0] == xs[2] - xs[1]
    assert root.attrib["aria-label"] == (
        "t, 2026-01-01 to 2026-01-21: node-1:0 from 700 to 500 TFLOPS"
    )


def test_noise_of_a_percent_does_not_fill_a_trend() -> None:
    root = parsed(fleet_svg.trend("t", [("a", [day(1, 1000), day(2, 1005)])], "GB/s"))
    (_, first), (_, second) = circles(root, "dot-0")
    assert 0 < first - second < 8
