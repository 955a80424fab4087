"""One small roofline per precision: its roof, the roof that the datasheet prints, its products.

All panels have the same axes, so that precisions can be compared at a glance: the slope is memory,
the same in each; where it meets a precision's flat lies the knee, the operations per byte from
which on that precision is worth its pipe. A point left of the knee is held against the slope, a
point right of it against the flat: what is missing there is the shape's or the kernel's to gain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from roofprobe.records.schema import Headline, Run
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.beside import Beside
from roofprobe.reporting.drawing import SMALL, WIDTH, Drawing, empty_figure, quiet, tick, units
from roofprobe.reporting.exhibit import Exhibit
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.roofline import Point, compute_roofs, gemm_points, memory_roof, seen_apart
from roofprobe.reporting.small_table import SmallTable
from roofprobe.reporting.svg import BAR, INK, MUTED, SERIES, tip, tips

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TITLE = "Roofline of each precision"
_COLUMNS, _PLACES = 2, 30  # places that can be told apart along an axis
_PANEL, _HEAD, _BETWEEN, _LEFT, _BOTTOM = 92.0, 18.0, 20.0, 38.0, 34.0


@dataclass(frozen=True, slots=True)
class Panel:
    """One precision: its measured roof and products; rates in ``roof.rate.unit``, per-byte knee."""

    precision: str
    roof: Headline
    knee: float
    points: tuple[Point, ...]

    def bound(self, point: Point) -> float:
        """Return the rate that slope and flat allow at the operations per byte of ``point``."""
        return self.roof.rate.median * min(1.0, point.intensity / self.knee)

    def share_left(self) -> float | None:
        """Return the median share of the slope that products left of the knee reach."""
        return _median([p.rate / self.bound(p) for p in self.points if p.intensity < self.knee])

    def share_right(self) -> float | None:
        """Return the median share of the flat that products right of the knee reach."""
        return _median([p.rate / self.bound(p) for p in self.points if p.intensity >= self.knee])


def _median(shares: Sequence[float]) -> float | None:
    return median(shares) if shares else None


def panels_of(run: Run, device_id: str) -> tuple[Panel, ...]:
    """Return a panel per precision that has a roof and at least one product, the slowest first."""
    memory = memory_roof(run, device_id)
    if memory is None:
        return ()
    points = gemm_points(run, device_id)
    made = []
    for roof in compute_roofs(run, device_id):
        own = tuple(p for p in points if p.precision == clean(roof.precision))
        if own and roof.rate.median > 0:
            # T per second over G per second: thousands of operations per byte
            knee = roof.rate.median * 1000 / memory.rate.median
            made.append(Panel(clean(roof.precision), roof, knee, own))
    return tuple(sorted(made, key=lambda panel: panel.roof.rate.median))


def precision_rooflines(run: Run, device_id: str, beside: Beside) -> Exhibit | None:
    """Return the rooflines of a device's precisions; None where there are fewer than two."""
    panels, memory = panels_of(run, device_id), memory_roof(run, device_id)
    if len(panels) < 2 or memory is None:
        return None
    words = "; ".join(
        f"{panel.precision}: roof {_roof_text(panel)}, knee at {numbers.digits(panel.knee)} "
        f"operations per byte, {plural(len(panel.points), 'product')}"
        for panel in panels
    )
    drawing = Drawing(
        draw=lambda: _figure(panels, memory),
        title="Products below their roofs",
        label=f"{plural(len(panels), 'small roofline')} with the same axes. {words}.",
        sentence=_sentence(panels, memory),
    )
    return Exhibit(
        _TITLE,
        "The same slope in each (memory), each precision's own flat, and every product measured in "
        "it.",
        (drawing,),
        (_table(panels),),
    )


def _roof_text(panel: Panel) -> str:
    return clean(numbers.rate(panel.roof.rate.median, panel.roof.rate.unit))


def _sentence(panels: Sequence[Panel], memory: Headline) -> str:
    first, last = panels[0], panels[-1]
    told = (
        f"The faster the pipe, the more a byte must be used: the knee moves from "
        f"{numbers.digits(first.knee)} operations per byte in {first.precision} to "
        f"{numbers.digits(last.knee)} in {last.precision} (memory: {clean(memory.label)}, "
        f"{numbers.rate(memory.rate.median, memory.rate.unit)})."
    )
    if any(panel.roof.datasheet for panel in panels):
        told += " Dashed: the datasheet's roof."
    return told


def _table(panels: Sequence[Panel]) -> SmallTable:
    return SmallTable(
        "Knees and what lies below the roofs",
        "Below the knee (operations per byte) products are held against what memory feeds, above "
        "it against the flat; medians over the products.",
        ("precision", "roof", "knee", "products", "of slope", "of flat"),
        tuple(
            (
                panel.precision,
                _roof_text(panel),
                numbers.digits(panel.knee),
                str(len(panel.points)),
                numbers.share(panel.share_left()),
                numbers.share(panel.share_right()),
            )
            for panel in panels
        ),
    )


def _figure(panels: Sequence[Panel], memory: Headline) -> Figure:
    rows = -(-len(panels) // _COLUMNS)
    height = rows * (_HEAD + _PANEL) + (rows - 1) * _BETWEEN + _BOTTOM
    figure = empty_figure(height)
    x_low = min(min(p.knee, *(q.intensity for q in p.points)) for p in panels) / 4
    x_high = max(max(p.knee, *(q.intensity for q in p.points)) for p in panels) * 4
    rates = [q.rate for p in panels for q in p.points]
    peaks = [p.roof.datasheet or 0.0 for p in panels]
    y_high = max(*rates, *peaks, panels[-1].roof.rate.median) * 1.6
    y_low = min(*rates, panels[0].roof.rate.median) / 2
    wide = (WIDTH - _LEFT - 6 - _BETWEEN) / _COLUMNS
    for number, panel in enumerate(panels):
        row, column = divmod(number, _COLUMNS)
        top = height - row * (_HEAD + _PANEL + _BETWEEN) - _HEAD - _PANEL
        left = _LEFT + column * (wide + _BETWEEN)
        axes = figure.add_axes((left / WIDTH, top / height, wide / WIDTH, _PANEL / height))
        axes.patch.set_visible(False)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xlim(x_low, x_high)
        axes.set_ylim(y_low, y_high)
        _ticks(axes, panels, named=(column == 0, number + _COLUMNS >= len(panels)))
        _panel(axes, panel, memory, (x_low, x_high))
    figure.text(
        0.5, 3 / height, "operations per byte", ha="center", va="bottom", color=MUTED,
        fontsize=SMALL,
    )  # fmt: skip
    figure.text(
        3 / WIDTH, 3 / height, units([p.roof for p in panels], panels[-1].roof.rate.median),
        color=MUTED, fontsize=SMALL, va="bottom", parse_math=False,
    )  # fmt: skip
    return figure


def _ticks(axes: Axes, panels: Sequence[Panel], named: tuple[bool, bool]) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

    highest = panels[-1].roof.rate
    scale = numbers.scale_for(highest.median, highest.unit)
    quiet(axes)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: tick(x)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: tick(y * scale.factor)))
    first, lowest = named
    axes.tick_params(left=first, labelleft=first, bottom=lowest, labelbottom=lowest)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(numticks=5))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())


def _panel(axes: Axes, panel: Panel, memory: Headline, span: tuple[float, float]) -> None:
    low, high = span
    flat = panel.roof.rate.median
    axes.plot([low, panel.knee], [flat * low / panel.knee, flat], color=INK, linewidth=1.4)
    (roof,) = axes.plot([panel.knee, high], [flat] * 2, color=BAR, linewidth=2.2)
    tip(roof, f"{panel.precision}: {_roof_text(panel)} measured")
    sheet = panel.roof.datasheet
    if sheet:
        knee = sheet * 1000 / memory.rate.median
        (printed,) = axes.plot(
            [min(knee, high), high], [sheet] * 2, color=INK, linewidth=1, linestyle=(0, (3, 2))
        )
        tip(printed, f"datasheet: {clean(numbers.rate(sheet, panel.roof.rate.unit))}")
    points = seen_apart(panel.points, axes, _PLACES)
    (dots,) = axes.plot(
        [p.intensity for p in points], [p.rate for p in points], linestyle="",
        marker="o", markersize=4, color=SERIES[1],
    )  # fmt: skip
    shares = [numbers.share(point.rate / panel.bound(point)) for point in points]
    tips(
        dots,
        [
            f"{point.words()}, {share} of its roof"
            for point, share in zip(points, shares, strict=True)
        ],
    )
    axes.text(
        0, 1.05, panel.precision, transform=axes.transAxes, color=INK, weight="bold", fontsize=10,
        va="bottom", parse_math=False,
    )  # fmt: skip
    axes.text(
        1, 1.05, _roof_text(panel), transform=axes.transAxes, color=INK, fontsize=SMALL, ha="right",
        va="bottom", parse_math=False,
    )  # fmt: skip
