"""The matrix of pairs as a map: one cell per pair, deeper the greater its figure.

A weak link shows as a pale cell, a weak device as a pale row or column, a host with two halves as
four blocks.
"""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from roofprobe.reporting import numbers
from roofprobe.reporting.drawing import SMALL, WIDTH, Drawing, add_axes, empty_figure
from roofprobe.reporting.heatmap import level_of
from roofprobe.reporting.pair_tables import PairGrid
from roofprobe.reporting.plain_text import shorten
from roofprobe.reporting.svg import GRID, HEAT, HEAT_INK, INK, MUTED, see_through, tip

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEFT, _TOP, _BOTTOM = 52.0, 36.0, 34.0
_LEAST_WIDTH = 24.0  # points that a number in a cell needs
_ALIKE = 0.9


def pair_map(grid: PairGrid) -> Drawing | None:
    """Draw one matrix; None where no pair has a figure."""
    if not grid.values:
        return None
    words = "; ".join(
        f"{grid.names[row]} to {grid.names[column]} {numbers.digits(value)}"
        for (row, column), value in sorted(grid.values.items())
    )
    return Drawing(
        figure=_figure(grid),
        title=grid.title,
        label=f"Heat map, {grid.unit}. {words}.",
        sentence=_sentence(grid),
    )


def _sentence(grid: PairGrid) -> str:
    low, high = min(grid.values.values()), max(grid.values.values())
    middle = median(grid.values.values())
    if low >= _ALIKE * high:
        return (
            f"All {len(grid.values)} pairs are alike, within a tenth: "
            f"{numbers.digits(low)} to {numbers.digits(high)} {grid.unit}."
        )
    worst = low if grid.more_is_better else high
    (row, column) = next(place for place, value in grid.values.items() if value == worst)
    word = "weakest" if grid.more_is_better else "slowest"
    return (
        f"{grid.names[row]} to {grid.names[column]} is the {word} with {numbers.digits(worst)} "
        f"{grid.unit}; the median of {len(grid.values)} pairs is {numbers.digits(middle)}."
    )


def _figure(grid: PairGrid) -> Figure:
    count = len(grid.names)
    cell = min(40.0, (WIDTH - _LEFT - 8) / count)
    height = _TOP + cell * count * 0.8 + _BOTTOM
    figure = empty_figure(height)
    right = WIDTH - _LEFT - cell * count
    axes = add_axes(figure, left=_LEFT, right=right, top=_TOP, bottom=_BOTTOM)
    axes.set_xlim(0, count)
    axes.set_ylim(count, 0)
    greatest = max(grid.values.values())
    for row in range(count):
        for column in range(count):
            _cell(axes, grid, (row, column), greatest, told=cell >= _LEAST_WIDTH)
    names = [shorten(name, 8) for name in grid.names]
    turned = 0 if cell >= 38 else 90
    axes.set_xticks([column + 0.5 for column in range(count)], names, rotation=turned)
    axes.set_yticks([row + 0.5 for row in range(count)], names)
    axes.xaxis.tick_top()
    axes.tick_params(length=0, labelcolor=MUTED, labelsize=SMALL)
    axes.spines[:].set_visible(False)
    _scale(figure, grid, greatest)
    return figure


def _cell(
    axes: Axes, grid: PairGrid, place: tuple[int, int], greatest: float, *, told: bool
) -> None:
    from matplotlib.patches import Rectangle

    row, column = place
    value = grid.values.get(place)
    corner, inner = (column + 0.02, row + 0.03), (0.96, 0.94)
    if value is None:
        twice = any(row > column for row, column in grid.values)  # else each pair is there once
        if row < column or (row > column and twice):
            axes.add_patch(
                Rectangle(corner, *inner, fill=False, edgecolor=GRID, linewidth=0.6, clip_on=False)
            )
        return
    level = level_of(value / greatest) if greatest else 0
    patch = Rectangle(corner, *inner, color=HEAT[level], linewidth=0, clip_on=False)
    axes.add_patch(patch)
    tip(
        patch,
        f"{grid.names[row]} to {grid.names[column]}: {numbers.digits(value)} {grid.unit}",
    )
    if told:
        number = axes.text(
            column + 0.5, row + 0.5, numbers.digits(value), ha="center", va="center",
            color=HEAT_INK[level], fontsize=SMALL,
        )  # fmt: skip
        see_through(number)


def _scale(figure: Figure, grid: PairGrid, greatest: float) -> None:
    from matplotlib.patches import Rectangle

    height, width = figure.get_figheight() * 72, 12.0
    for level, color in enumerate(HEAT):
        corner = ((_LEFT + level * width) / WIDTH, 8 / height)
        figure.add_artist(
            Rectangle(
                corner, width / WIDTH, 10 / height, color=color, linewidth=0,
                transform=figure.transFigure,
            )
        )  # fmt: skip
    figure.text(
        (_LEFT + (len(HEAT) + 0.5) * width) / WIDTH, 8 / height,
        f"0 to {numbers.digits(greatest)} {grid.unit}; rows send", color=INK, fontsize=SMALL,
        va="bottom", parse_math=False,
    )  # fmt: skip
