"""Lines with bands: what is not sure is hollow and dashed, bounds never squeeze the lines."""

from __future__ import annotations

from itertools import pairwise
from math import log

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.reporting.curves import (
    Bound,
    Line,
    Mark,
    _limits,
    _lower_half,
    _stretches,
    curve_figure,
)
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg


def marks(*sure: bool) -> tuple[Mark, ...]:
    return tuple(
        Mark(2.0**n, 10.0 * (n + 1), 9.0 * (n + 1), 12.0 * (n + 1), good, f"mark {n}")
        for n, good in enumerate(sure)
    )


def drawn(*lines: Line, across: tuple[Bound, ...] = (), upright: tuple[Bound, ...] = ()) -> str:
    with figure_style():
        figure = curve_figure(
            lines, x_words="x", y_words="y", across=across, upright=upright, x_ticks=(1, 2, 4)
        )
        return inline_svg(figure, "k", "label", StyleSheet())


def test_doubt_is_drawn_and_named_only_where_there_is_some() -> None:
    assert "less sure" not in drawn(Line("a", marks(True, True, True)))
    doubtful = drawn(Line("a", marks(True, True, False)))
    assert "less sure" in doubtful
    assert all(f"mark {n}" in doubtful for n in range(3))


def test_several_lines_are_named_and_one_is_not() -> None:
    assert ">only<" not in drawn(Line("only", marks(True, True)))
    both = drawn(Line("first", marks(True, True)), Line("second", marks(True, True)))
    assert ">first<" in both
    assert ">second<" in both


def test_bounds_that_are_near_are_drawn_and_far_ones_left_out() -> None:
    shown = drawn(
        Line("a", marks(True, True, True)),
        across=(Bound("near", 60.0), Bound("far", 6000.0)),
        upright=(Bound("left", 1.0), Bound("away", 100.0)),
    )
    assert "near" in shown
    assert "left" in shown
    assert "far" not in shown
    assert "away" not in shown


def test_a_point_alone_and_bands_along_x_are_drawn() -> None:
    assert "mark 0" in drawn(Line("a", marks(False)))
    assert "mark 1" in drawn(Line("a", marks(True, True), sideways=True))


@given(st.lists(st.booleans(), min_size=2, max_size=12))
def test_a_line_is_whole_whatever_of_it_is_sure(sure: list[bool]) -> None:
    line = marks(*sure)
    stretches = _stretches(line)
    steps = [(a, b, solid) for part, solid in stretches for a, b in pairwise(part)]
    assert [(a, b) for a, b, _ in steps] == list(pairwise(line))
    assert all(solid == (a.sure and b.sure) for a, b, solid in steps)
    assert all(one[1] != two[1] for one, two in pairwise(stretches))


@given(st.lists(st.floats(1e-3, 1e6), min_size=1), st.floats(1e-3, 1e9))
def test_all_marks_lie_within_the_axis(values: list[float], bound: float) -> None:
    low, high = _limits(values, [(v / 2, v * 1e6) for v in values], [Bound("b", bound)])
    assert low < min(values)
    assert max(values) < high
    assert high <= max(values) * 4 * 1.25 + 1e-6


def test_a_band_of_a_line_that_turns_back_still_covers_the_line() -> None:
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    turning = tuple(
        Mark(x, y, x / 50, x * 1.3, False, "")
        for x, y in ((7.0, 6.0), (1.4, 21.0), (0.7, 22.4), (0.5, 21.5))
    )
    with figure_style():
        figure = curve_figure(
            [Line("a", turning, sideways=True)], x_words="x", y_words="y", upright=()
        )
        (band,) = [each for each in figure.axes[0].patches if isinstance(each, PathPatch)]
        steps = [np.log(step) for step in band.get_path().to_polygons()]
    first, second = zip(*(np.diff(step, axis=0)[:2] for step in steps), strict=True)
    turns = {a[0] * b[1] > a[1] * b[0] for a, b in zip(first, second, strict=True)}
    assert len(turns) == 1, "steps that lie on each other would leave a hole"
    for one, other in pairwise(turning):
        middle = (log(one.x * other.x) / 2, log(one.y * other.y) / 2)
        assert any(Path(step).contains_point(middle) for step in steps)


def test_the_name_of_an_upright_bound_stands_where_the_nearest_mark_does_not() -> None:
    low, high = (Mark(5.0, y, 4.0, 6.0, True, "") for y in (7.0, 90.0))
    far = Mark(0.1, 50.0, 0.1, 0.2, True, "")
    assert _lower_half([far, low], 4.5, (5.0, 100.0))
    assert not _lower_half([far, high], 4.5, (5.0, 100.0))
