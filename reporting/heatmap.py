"""The efficiency surface of one compute row as a map: M downwards, (N, K) across, share as depth.

The scale is the same in every map, from nothing to the whole peak, so that maps can be compared
with each other. Where cells are wide enough the share stands in them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from roofprobe.reporting import numbers
from roofprobe.reporting.drawing import SMALL, WIDTH, Drawing, add_axes, empty_figure
from roofprobe.reporting.surface import Surface
from roofprobe.reporting.svg import (
    GRID,
    HEAT,
    HEAT_INK,
    HEAT_LEVELS,
    INK,
    MUTED,
    see_through,
    tip,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

_CELL, _LEFT, _TOP, _BOTTOM = 19.0, 46.0, 76.0, 40.0
_LEAST_WIDTH = 19.0  # points that a number in a cell needs


def heatmap(surface: Surface) -> Drawing:
    """Draw one surface; the label tells the median share for each M."""
    profile = ", ".join(f"M {m}: {shares}" for m, shares in surface.profile())
    return Drawing(
        draw=lambda: _figure(surface),
        title=f"{surface.title}: share of the peak by shape",
        label=f"Heat map of {surface.label}, median (range) over N x K. {profile}.",
        sentence=surface.sentence(),
    )


def level_of(share: float) -> int:
    """Return the level of a share: equal steps from 0 to 1, everything above 1 in the last."""
    return max(0, min(HEAT_LEVELS - 1, int(share * HEAT_LEVELS)))


def _figure(surface: Surface) -> Figure:
    rows, columns = len(surface.ms), len(surface.columns)
    figure = empty_figure(_TOP + _CELL * rows + _BOTTOM)
    axes = add_axes(figure, left=_LEFT, right=6, top=_TOP, bottom=_BOTTOM)
    axes.set_xlim(0, columns)
    axes.set_ylim(rows, 0)
    told = (WIDTH - _LEFT - 6) / columns >= _LEAST_WIDTH
    for row, m in enumerate(surface.ms):
        for column, place in enumerate(surface.columns):
            share = surface.shares.get((m, place))
            cell = _cell(axes, row, column, share, told=told)
            tip(cell, f"{m}x{place[0]}x{place[1]}: {numbers.share(share)}")
    axes.set_xticks(
        [column + 0.5 for column in range(columns)],
        [f"{n}×{k}" for n, k in surface.columns],
        rotation=90,
    )
    axes.set_yticks([row + 0.5 for row in range(rows)], [str(m) for m in surface.ms])
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=MUTED, labelsize=SMALL)
    axes.spines[:].set_visible(False)
    axes.set_ylabel("M", color=MUTED, fontsize=SMALL, rotation=0, loc="top", labelpad=-10)
    _scale(figure, surface)
    return figure


def _cell(axes: Axes, row: int, column: int, share: float | None, *, told: bool) -> Rectangle:
    from matplotlib.patches import Rectangle

    corner, inner = (column + 0.02, row + 0.03), (0.96, 0.94)
    if share is None:
        empty = Rectangle(corner, *inner, fill=False, edgecolor=GRID, linewidth=0.6, clip_on=False)
        axes.add_patch(empty)
        return empty
    level = level_of(share)
    cell = Rectangle(corner, *inner, color=HEAT[level], linewidth=0, clip_on=False)
    axes.add_patch(cell)
    if told:
        text = numbers.share(share).removesuffix("%")
        number = axes.text(
            column + 0.5, row + 0.5, text, ha="center", va="center",
            color=HEAT_INK[level], fontsize=SMALL,
        )  # fmt: skip
        see_through(number)
    return cell


def _scale(figure: Figure, surface: Surface) -> None:
    from matplotlib.patches import Rectangle

    height = figure.get_figheight() * 72
    width = 12.0
    for level, color in enumerate(HEAT):
        corner = ((_LEFT + level * width) / WIDTH, 18 / height)
        patch = Rectangle(
            corner, width / WIDTH, 10 / height, color=color, linewidth=0,
            transform=figure.transFigure,
        )  # fmt: skip
        figure.add_artist(patch)
    figure.text(
        (_LEFT + (HEAT_LEVELS + 0.5) * width) / WIDTH, 18 / height, "0 to 100%", color=INK,
        fontsize=SMALL, va="bottom",
    )  # fmt: skip
    words = f"% of {surface.peak_words()}, {surface.regime}; top: N×K"
    figure.text(
        _LEFT / WIDTH, 3 / height, words, color=MUTED, fontsize=SMALL, va="bottom",
        parse_math=False,
    )  # fmt: skip
    assert numbers.UNKNOWN not in words, words
