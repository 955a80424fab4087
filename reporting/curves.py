"""Lines with a band around them, sizes across, both axes logarithmic: what is predicted over sizes.

Where a point is not sure its mark is hollow and the line to it dashed, so that nothing is hidden
and nothing looks surer than it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from typing import TYPE_CHECKING, Final, Literal

from roofprobe.reporting.drawing import SMALL, WIDTH, add_axes, empty_figure, quiet, tick
from roofprobe.reporting.plain_text import shorten
from roofprobe.reporting.svg import INK, MUTED, SERIES, tips

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MARKERS: Final = ("o", "s", "^", "D")
_PANEL, _BOTTOM, _LEGEND_ROW = 200.0, 36.0, 15.0
_DASHED = (0, (3, 2))
_WIDEST = 4.0  # how far beyond all marks a band is followed


@dataclass(frozen=True, slots=True)
class Mark:
    """One point of a line with the ends of its band, and what it says when it is pointed at."""

    x: float
    y: float
    low: float
    high: float
    sure: bool
    words: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Line:
    """A named line; the band spans y, or x where it is ``sideways``."""

    name: str
    marks: tuple[Mark, ...]
    sideways: bool = False


@dataclass(frozen=True, slots=True)
class Bound:
    """A line across the figure: what it is called, and where it stands."""

    name: str
    at: float


def curve_figure(
    lines: Sequence[Line],
    *,
    x_words: str,
    y_words: str,
    y_text: Callable[[float], str] = tick,
    x_ticks: Sequence[float] = (),
    across: Sequence[Bound] = (),
    upright: Sequence[Bound] = (),
) -> Figure:
    """Draw ``lines``; ``across`` are bounds of y, ``upright`` of x. Draw under ``figure_style``.

    Bounds far away from all lines are left out, so that they do not squeeze what is drawn.
    """
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    doubtful = any(not mark.sure for line in lines for mark in line.marks)
    entries = len(lines) + doubtful if len(lines) > 1 or doubtful else 0
    top = _LEGEND_ROW * -(-entries // _columns(entries)) + 8
    height = top + _PANEL + _BOTTOM
    figure = empty_figure(height)
    axes = add_axes(figure, left=52, right=10, top=top, bottom=_BOTTOM)
    axes.set_xscale("log")
    axes.set_yscale("log")
    quiet(axes)
    marks = [mark for line in lines for mark in line.marks]
    upright_lines = [line for line in lines if not line.sideways]
    sideways = [mark for line in lines if line.sideways for mark in line.marks]
    y_ends = [(m.low, m.high) for line in upright_lines for m in line.marks]
    y_low, y_high = _limits([m.y for m in marks], y_ends, across)
    x_low, x_high = _limits([m.x for m in marks], [(m.low, m.high) for m in sideways], upright)
    axes.set_xlim(x_low, x_high)
    axes.set_ylim(y_low, y_high)
    for number, line in enumerate(lines):
        _draw(axes, line, SERIES[number], MARKERS[number % len(MARKERS)])
    for bound in across:
        if y_low <= bound.at <= y_high:
            axes.axhline(bound.at, color=INK, linewidth=1, linestyle=(0, (1, 2)))
            side = _emptier_side(lines, bound.at)
            axes.text(
                0.01 if side == "left" else 0.99, bound.at, bound.name, va="bottom", ha=side,
                transform=axes.get_yaxis_transform(), color=MUTED, fontsize=SMALL,
            )  # fmt: skip
    for bound in upright:
        if x_low <= bound.at <= x_high:
            axes.axvline(bound.at, color=INK, linewidth=1, linestyle=(0, (1, 2)))
            at_top = _lower_half(marks, bound.at, (y_low, y_high))
            axes.text(
                bound.at, 0.98 if at_top else 0.02, f" {bound.name}",
                transform=axes.get_xaxis_transform(),
                va="bottom", ha="right" if at_top else "left", color=MUTED, fontsize=SMALL,
                rotation=90, rotation_mode="anchor",
            )  # fmt: skip
    if x_ticks:
        axes.xaxis.set_major_locator(FixedLocator(list(x_ticks)))
    else:
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    if y_high / y_low < 100:
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axes.minorticks_off()
    for axis, text in ((axes.xaxis, tick), (axes.yaxis, y_text)):
        axis.set_major_formatter(FuncFormatter(lambda value, _, text=text: text(value)))
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(x_words, color=MUTED, fontsize=SMALL)
    axes.set_ylabel(y_words, color=MUTED, fontsize=SMALL)
    if entries:
        _legend(figure, lines, doubtful)
    return figure


def _limits(
    values: Sequence[float], bands: Sequence[tuple[float, float]], bounds: Sequence[Bound]
) -> tuple[float, float]:
    """Return an axis' ends: all of ``values``, their bands, and bounds that are not far away.

    A band that is far wider than what it surrounds leaves the figure rather than flattening it.
    """
    low, high = min(values), max(values)
    near = [bound.at for bound in bounds if low / 3 <= bound.at <= high * 3]
    lows = [max(end, low / _WIDEST) for end, _ in bands]
    highs = [min(end, high * _WIDEST) for _, end in bands]
    return min([low, *near, *lows]) / 1.25, max([high, *near, *highs]) * 1.25


def _emptier_side(lines: Sequence[Line], at: float) -> Literal["left", "right"]:
    """Return the side of the figure where the lines end farther from ``at``."""
    near = [
        min(abs(log(line.marks[end].y / at)) for line in lines if line.marks) for end in (0, -1)
    ]
    return "left" if near[0] > near[1] else "right"


def _lower_half(marks: Sequence[Mark], at: float, ends: tuple[float, float]) -> bool:
    """Return whether the mark that is nearest to the upright ``at`` is in the lower half."""
    nearest = min(marks, key=lambda mark: abs(log(mark.x / at)))
    return nearest.y**2 < ends[0] * ends[1]


def _band(axes: Axes, line: Line, color: str) -> None:
    """Fill the band step by step, so that a line that turns back stays within its own."""
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    steps = []
    for pair in pairwise(line.marks):
        # one direction for all: what two steps cover is then covered, not left out
        one, other = sorted(pair, key=lambda mark: mark.y if line.sideways else mark.x)
        corners = [
            (one.low, one.y), (one.high, one.y), (other.high, other.y), (other.low, other.y),
        ] if line.sideways else [
            (one.x, one.low), (one.x, one.high), (other.x, other.high), (other.x, other.low),
        ]  # fmt: skip
        steps.append(Path([*corners, corners[0]], closed=True))
    if steps:
        whole = Path.make_compound_path(*steps)
        axes.add_patch(PathPatch(whole, facecolor=color, alpha=0.18, linewidth=0))


def _draw(axes: Axes, line: Line, color: str, marker: str) -> None:
    _band(axes, line, color)
    for stretch, sure in _stretches(line.marks):
        axes.plot(
            [mark.x for mark in stretch], [mark.y for mark in stretch], color=color, linewidth=1.6,
            linestyle="-" if sure else _DASHED,
        )  # fmt: skip
    for sure in (True, False):
        own = [mark for mark in line.marks if mark.sure is sure]
        if own:
            (dots,) = axes.plot(
                [mark.x for mark in own], [mark.y for mark in own], linestyle="", marker=marker,
                markersize=5, markeredgecolor=color, markeredgewidth=1.2,
                markerfacecolor=color if sure else "none",
            )  # fmt: skip
            tips(dots, [mark.words for mark in own])
    for mark in line.marks:
        if mark.label:
            axes.annotate(
                mark.label, (mark.x, mark.y), xytext=(5, 4), textcoords="offset points",
                fontsize=SMALL, color=INK,
            )  # fmt: skip


def _stretches(marks: Sequence[Mark]) -> list[tuple[list[Mark], bool]]:
    """Return the line in stretches that are sure at both ends of each step, and that are not."""
    found: list[tuple[list[Mark], bool]] = []
    for one, next_one in pairwise(marks):
        sure = one.sure and next_one.sure
        if found and found[-1][1] is sure:
            found[-1][0].append(next_one)
        else:
            found.append(([one, next_one], sure))
    return found


def _columns(entries: int) -> int:
    return 2 if entries == 4 else 3


def _legend(figure: Figure, lines: Sequence[Line], doubtful: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=SERIES[number], marker=MARKERS[number % len(MARKERS)], markersize=5,
               linewidth=1.6, label=shorten(line.name, 24))
        for number, line in enumerate(lines)
        if len(lines) > 1
    ]  # fmt: skip
    if doubtful:
        handles.append(
            Line2D([], [], color=MUTED, marker="o", markersize=5, markerfacecolor="none",
                   linewidth=1.6, linestyle=_DASHED, label="less sure")
        )  # fmt: skip
    figure.legend(
        handles=handles, loc="upper left", ncols=_columns(len(handles)), frameon=False,
        labelcolor=INK, fontsize=SMALL,
        handlelength=2.2, borderpad=0, borderaxespad=0.5, columnspacing=WIDTH / 300,
    )  # fmt: skip
