"""Rows of dots around a line of 100%: what else reached, relative to one plain figure per row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roofprobe.reporting.drawing import SMALL, add_axes, empty_figure
from roofprobe.reporting.plain_text import shorten
from roofprobe.reporting.svg import GRID, INK, MUTED, SERIES, TRACK, tip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_ROW, _BOTTOM, _MIDDLE = 33.0, 34.0, 0.72
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")


@dataclass(frozen=True, slots=True)
class Dot:
    """One mark: its ratio to the plain figure, and what it tells when it is pointed at."""

    ratio: float
    tip: str


@dataclass(frozen=True, slots=True)
class DotRow:
    """One row: its label, what stands at its right end, and its marks by name."""

    label: str
    told: str
    dots: Mapping[str, Dot]


def dot_figure(rows: Sequence[DotRow], names: Sequence[str], words: str) -> Figure:
    """Draw ``rows``; ``names`` are all marks in the order of the legend, ``words`` the axis."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    legend = 15.0 * -(-len(names) // 3) + 10
    height = legend + _ROW * len(rows) + _BOTTOM
    figure = empty_figure(height)
    axes = add_axes(figure, left=8, right=8, top=legend, bottom=_BOTTOM)
    ratios = [1.0, *(dot.ratio for row in rows for dot in row.dots.values())]
    room = max(0.02, (max(ratios) - min(ratios)) * 0.04)
    axes.set_xlim(min(ratios) - room, max(ratios) + room)
    axes.set_ylim(len(rows), 0)
    middles = [number + _MIDDLE for number in range(len(rows))]
    _lines(axes, [([*axes.get_xlim()], [at, at]) for at in middles], TRACK, 1)
    _lines(axes, [([1, 1], [at - 0.18, at + 0.18]) for at in middles], INK, 1.2)
    for number, row in enumerate(rows):
        _row(axes, number, row, names)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x * 100:.0f}%"))
    axes.tick_params(axis="x", color=GRID, labelcolor=MUTED, length=3, labelsize=SMALL)
    figure.text(
        0.5, 3 / height, words, ha="center", va="bottom", color=MUTED, fontsize=SMALL,
        parse_math=False,
    )  # fmt: skip
    _legend(figure, names)
    return figure


def _lines(
    axes: Axes, lines: Sequence[tuple[Sequence[float], Sequence[float]]], color: str, width: float
) -> None:
    """Draw lines that do not touch as one path."""
    gap = float("nan")
    xs = [x for across, _ in lines for x in (*across, gap)]
    ys = [y for _, up in lines for y in (*up, gap)]
    axes.plot(xs, ys, color=color, linewidth=width, clip_on=False)


def _row(axes: Axes, number: int, row: DotRow, names: Sequence[str]) -> None:
    middle = number + _MIDDLE
    low, high = axes.get_xlim()
    ends = [1.0, *(dot.ratio for dot in row.dots.values())]
    axes.plot([min(ends), max(ends)], [middle] * 2, color=GRID, linewidth=3, clip_on=False)
    axes.text(
        low, number + 0.46, shorten(row.label, 24), va="bottom", color=INK, weight="bold",
        parse_math=False,
    )  # fmt: skip
    axes.text(high, number + 0.46, row.told, ha="right", va="bottom", color=INK, parse_math=False)
    for place, name in enumerate(names):
        if name in row.dots:
            dot = row.dots[name]
            (mark,) = axes.plot(
                [dot.ratio], [middle], linestyle="", marker=_MARKERS[place % len(_MARKERS)],
                markersize=6, color=SERIES[place % len(SERIES)], clip_on=False,
            )  # fmt: skip
            tip(mark, dot.tip)


def _legend(figure: Figure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D(
            [], [], linestyle="", marker=_MARKERS[place % len(_MARKERS)], markersize=6,
            color=SERIES[place % len(SERIES)], label=shorten(name, 20),
        )
        for place, name in enumerate(names)
    ]  # fmt: skip
    figure.legend(
        handles=handles, loc="upper left", ncols=3, frameon=False, labelcolor=INK, fontsize=SMALL,
        handlelength=1.2, borderpad=0, borderaxespad=0.5, columnspacing=1.5,
    )  # fmt: skip
