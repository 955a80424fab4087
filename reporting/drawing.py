"""What all figures of the HTML report share: their size, their words, their empty canvas.

Each figure comes with the words it needs: a label that tells its data to those who cannot see it,
and a sentence that says what to see. They are drawn small (a phone's width), so that they can be
enlarged and need not be shrunk. Draw under ``svg.figure_style``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roofprobe.records.schema import Headline
from roofprobe.reporting import numbers
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.svg import GRID, MUTED

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 360.0  # points; the page shows a point as a pixel or more
SMALL = 9.5  # points; the least size of text in a figure


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure with its title, its data in words, and the sentence that says what to see.

    It is drawn when it is asked for: a page may have no room for it.
    """

    draw: Callable[[], Figure]
    title: str
    label: str
    sentence: str

    @property
    def figure(self) -> Figure:
        """Draw the figure anew."""
        return self.draw()


def empty_figure(height: float) -> Figure:
    """Return a figure of the common width without a background; ``height`` in points."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH / 72, height / 72))
    figure.patch.set_visible(False)
    return figure


def add_axes(figure: Figure, *, left: float, right: float, top: float, bottom: float) -> Axes:
    """Add axes that leave these margins, in points, and have no background of their own."""
    height = figure.get_figheight() * 72
    box = (
        left / WIDTH,
        bottom / height,
        1 - (left + right) / WIDTH,
        1 - (top + bottom) / height,
    )
    axes = figure.add_axes(box)
    axes.patch.set_visible(False)
    return axes


def quiet(axes: Axes) -> None:
    """Give axes thin muted lines and ticks."""
    axes.tick_params(which="both", color=GRID, labelcolor=MUTED, labelsize=SMALL)
    axes.grid(color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_color(GRID)
    axes.spines[["top", "right"]].set_visible(False)


def units(headlines: Iterable[Headline], greatest: float) -> str:
    """Name the units of an axis that holds all ``headlines``: ``TFLOPS or TOPS``."""
    found = dict.fromkeys(numbers.scale_for(greatest, h.rate.unit).unit for h in headlines)
    return clean(" or ".join(found))


def tick(value: float) -> str:
    """Write the number at a tick in few characters."""
    return f"{value:g}" if abs(value) < 1e4 else f"{value / 1000:g}k"
