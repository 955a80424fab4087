"""Figures of several devices: each row's figures beside each other, and all rooflines in one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from roofprobe.records.schema import Device, Family, Headline, Run
from roofprobe.reporting import numbers
from roofprobe.reporting.drawing import SMALL, Drawing, add_axes, empty_figure, quiet, tick
from roofprobe.reporting.plain_text import clean, shorten
from roofprobe.reporting.roofline import compute_roofs, memory_roof
from roofprobe.reporting.svg import GRID, INK, MUTED, SERIES, SERIES_COUNT, tip
from roofprobe.reporting.tables import headlines_of

if TYPE_CHECKING:
    from typing import Protocol

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    class Column(Protocol):
        """What is drawn of one device."""

        @property
        def name(self) -> str: ...  # noqa: D102
        @property
        def run(self) -> Run: ...  # noqa: D102
        @property
        def device(self) -> Device: ...  # noqa: D102


_BAR, _GAP, _TOP, _BOTTOM = 10.0, 26.0, 30.0, 36.0
_DOTS_ROW: Final = 38.0
_MOST_ROWS: Final = 14
_ALIKE: Final = 0.8
_MARKERS: Final = ("o", "s", "^", "D", "v", "P", "X", "p")
_PREFERRED: Final = ("bf16", "fp16", "tf32", "fp32", "fp64")


def bars_side_by_side(columns: Sequence[Column], family: Family) -> Drawing | None:
    """Draw the rows of a family that at least two columns have, each as shares of its greatest.

    Bars begin at zero. Devices that are alike would be bars of one length, so where all are within
    a fifth of each other, and where there are more than eight, they are dots on one line per row,
    whose axis begins just below the least.
    """
    rows = [(label, rates) for label, rates in _rows(columns, family).items() if len(rates) > 1]
    if not rows:
        return None
    shown = rows[:_MOST_ROWS]
    widest = max(shown, key=lambda row: max(row[1].values()) / min(row[1].values()))
    low, high = min(widest[1].values()), max(widest[1].values())
    kind = "Compute rows" if family == "compute" else "Memory kernels"
    n_more = len(rows) - len(shown)
    left_out = f" {n_more} more {'is' if n_more == 1 else 'are'} in the table." if n_more else ""
    return Drawing(
        draw=lambda: _figure(columns, shown),
        title=f"{kind} side by side",
        label="; ".join(
            f"{label}: " + ", ".join(f"{name} {100 * rate / max(rates.values()):.0f}%"
                                     for name, rate in rates.items())
            for label, rates in shown
        ),
        sentence=(
            f"Each figure as a share of the greatest of its row. They are furthest apart in "
            f"{widest[0]}, where the least is {numbers.share(low / high)} of the greatest."
            f"{left_out}"
        ),
    )  # fmt: skip


def _rows(columns: Sequence[Column], family: Family) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = {}
    for column in columns:
        for headline in headlines_of(column.run, column.device.device_id, family):
            if headline.rate.median > 0:
                found.setdefault(clean(headline.label), {})[column.name] = headline.rate.median
    return found


def _figure(columns: Sequence[Column], rows: Sequence[tuple[str, dict[str, float]]]) -> Figure:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    least = min(min(rates.values()) / max(rates.values()) for _, rates in rows)
    as_bars = len(columns) <= SERIES_COUNT and least < _ALIKE
    each = _GAP + _BAR * len(columns) if as_bars else _DOTS_ROW
    figure = empty_figure(_TOP + each * len(rows) + _BOTTOM)
    axes = add_axes(figure, left=6, right=12, top=_TOP, bottom=_BOTTOM)
    start = 0.0 if as_bars else max(0.0, least - 0.1 * (1 - least) - 0.001)
    axes.set_xlim(start, 1)
    axes.set_ylim(each * len(rows), 0)
    numbered = {column.name: number for number, column in enumerate(columns)}
    for row, (label, rates) in enumerate(rows):
        top, greatest = row * each, max(rates.values())
        axes.text(
            start, top + 18, shorten(label, 30), va="bottom", color=INK, weight="bold",
            parse_math=False,
        )  # fmt: skip
        for name, rate in rates.items():
            number, share = numbered[name], rate / greatest
            told = f"{label}, {name}: {share * 100:.1f}% of the greatest"
            if as_bars:
                place = top + 22 + _BAR * (number + 0.5)
                (bar,) = axes.barh(place, share, _BAR * 0.8, color=SERIES[number], linewidth=0)
                tip(bar, told)
            else:
                (dot,) = axes.plot(
                    [share], [top + 27], marker=_MARKERS[number % len(_MARKERS)], markersize=6,
                    markeredgecolor=SERIES[number % SERIES_COUNT], markerfacecolor="none",
                    linestyle="", clip_on=False,
                )  # fmt: skip
                tip(dot, told)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(5))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{round(x * 100, 2):g}%"))
    axes.tick_params(axis="x", color=GRID, labelcolor=MUTED, length=3, labelsize=SMALL)
    axes.grid(axis="x", color=GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.set_xlabel("share of the row’s greatest figure", color=MUTED, fontsize=SMALL)
    if len(columns) <= SERIES_COUNT:
        _legend(figure, [column.name for column in columns], as_bars=as_bars)
    return figure


def _legend(figure: Figure, names: Sequence[str], *, as_bars: bool) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    figure.legend(
        handles=[
            Patch(color=SERIES[n], label=name)
            if as_bars
            else Line2D(
                [], [], color=SERIES[n], marker=_MARKERS[n % len(_MARKERS)], linestyle="",
                markerfacecolor="none", markersize=6, label=name,
            )
            for n, name in enumerate(names)
        ],
        loc="upper left", ncols=len(names), frameon=False, labelcolor=INK, fontsize=SMALL,
        handlelength=1.0, borderpad=0, borderaxespad=0.5, columnspacing=1.2,
    )  # fmt: skip


def rooflines(columns: Sequence[Column]) -> Drawing | None:
    """Draw the roofs of all columns for one row of compute, that which most of them have."""
    if len(columns) > SERIES_COUNT:
        return None
    roofs = [
        (number, column, memory, {roof.precision: roof for roof in compute})
        for number, column in enumerate(columns)
        if (memory := memory_roof(column.run, column.device.device_id))
        and (compute := compute_roofs(column.run, column.device.device_id))
    ]
    if len(roofs) < 2:
        return None
    counts = [
        (sum(precision in own for *_, own in roofs), -order, precision)
        for order, precision in enumerate(
            dict.fromkeys((*_PREFERRED, *(name for *_, own in roofs for name in own)))
        )
    ]
    count, _, precision = max(counts)
    shown = [
        (number, column, memory, own[precision])
        for number, column, memory, own in roofs
        if precision in own and own[precision].rate.median > 0
    ]
    if count < 2 or len(shown) < 2:
        return None
    told = [
        f"{column.name}: memory {_rate(memory)}, {clean(roof.label)} {_rate(roof)}"
        for _, column, memory, roof in shown
    ]
    return Drawing(
        draw=lambda: _roofline_figure(shown),
        title=f"Rooflines of {clean(precision)}, as measured",
        label="; ".join(told),
        sentence=(
            f"{_told(shown)} Work with fewer operations per byte than at a bend is bound by the "
            "memory of that device."
        ),
    )


def _told(shown: Sequence[tuple[int, Column, Headline, Headline]]) -> str:
    """Say what the roofs span."""
    words = []
    for name, found in (
        ("memory", [m for _, _, m, _ in shown]),
        ("compute", [r for *_, r in shown]),
    ):
        low = min(found, key=lambda headline: headline.rate.median)
        high = max(found, key=lambda headline: headline.rate.median)
        words.append(f"{name} from {_rate(low)} to {_rate(high)}")
    return f"The roofs of {words[0]}, of {words[1]}."


def _rate(headline: Headline) -> str:
    return clean(numbers.rate(headline.rate.median, headline.rate.unit))


def _roofline_figure(shown: Sequence[tuple[int, Column, Headline, Headline]]) -> Figure:
    figure = empty_figure(240.0)
    axes = add_axes(figure, left=50, right=14, top=26, bottom=38)
    slopes = [memory.rate.median / 1000 for _, _, memory, _ in shown]
    corners = [roof.rate.median / s for (*_, roof), s in zip(shown, slopes, strict=True)]
    low, high = min(corners) / 16, max(corners) * 8
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(low, high)
    for (number, column, _, roof), slope, corner in zip(shown, slopes, corners, strict=True):
        flat = roof.rate.median
        (line,) = axes.plot(
            [low, corner, high], [low * slope, flat, flat], color=SERIES[number], linewidth=2
        )
        tip(line, f"{column.name}: {_rate(roof)} from {corner:.3g} operations per byte on")
    _ticks(axes, shown[0][3])
    _legend_lines(figure, [(number, column.name) for number, column, _, _ in shown])
    return figure


def _ticks(axes: Axes, roof: Headline) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    scale = numbers.scale_for(roof.rate.median, roof.rate.unit)
    quiet(axes)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: tick(x)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: tick(y * scale.factor)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("operations per byte", color=MUTED, fontsize=SMALL)
    axes.set_ylabel(clean(scale.unit), color=MUTED, fontsize=SMALL, parse_math=False)


def _legend_lines(figure: Figure, names: Sequence[tuple[int, str]]) -> None:
    from matplotlib.lines import Line2D

    figure.legend(
        handles=[
            Line2D([], [], color=SERIES[number], linewidth=2, label=name) for number, name in names
        ],
        loc="upper left", ncols=len(names), frameon=False, labelcolor=INK, fontsize=SMALL,
        handlelength=1.2, borderpad=0, borderaxespad=0.5, columnspacing=1.2,
    )  # fmt: skip
