"""The figures of the HTML report: bars beside their peaks, and the roofline.

Each figure comes with the words it needs: a label that tells its data to those who cannot see it,
and a sentence that says what to see. They are drawn small (a phone's width), so that they can be
enlarged and need not be shrunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import atan2, degrees, log10
from typing import TYPE_CHECKING, Literal

from roofprobe.records.schema import Family, Headline, Run
from roofprobe.reporting import numbers
from roofprobe.reporting.plain_text import clean, shorten
from roofprobe.reporting.svg import BAR, GRID, INK, MUTED, SERIES, TRACK
from roofprobe.reporting.tables import headlines_of, measurements_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_WIDTH = 360.0  # points; the page shows a point as a pixel or more
_ROW = 35.0
_TOP, _BOTTOM = 26.0, 34.0
_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_READERS = ("read", "copy")


@dataclass(frozen=True, slots=True)
class Drawing:
    """A figure with its title, its data in words, and the sentence that says what to see."""

    figure: Figure
    title: str
    label: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Point:
    """One measured matrix product in the roofline: FLOP per byte and rate."""

    precision: str
    intensity: float
    rate: float


def bars(run: Run, device_id: str, family: Family) -> Drawing | None:
    """Draw the achieved rates of one family beside datasheet and derived peaks."""
    headlines = headlines_of(run, device_id, family)
    if not headlines:
        return None
    rows = [_words(headline) for headline in headlines]
    title = "Rate per precision" if family == "compute" else "Bandwidth per memory kernel"
    return Drawing(
        figure=_bar_figure(headlines),
        title=title,
        label=f"Bar chart. {'; '.join(rows)}.",
        sentence=_bar_sentence(headlines),
    )


def _words(headline: Headline) -> str:
    return f"{clean(headline.label)}: {_value(headline)}"


def _value(headline: Headline) -> str:
    text = clean(numbers.rate(headline.rate.median, headline.rate.unit))
    peak = _peak(headline)
    return f"{text}, {numbers.share(peak[1])} of {peak[0]}" if peak else text


def _peak(headline: Headline) -> tuple[Literal["datasheet", "derived"], float] | None:
    if headline.share_datasheet is not None:
        return "datasheet", headline.share_datasheet
    if headline.share_derived is not None:
        return "derived", headline.share_derived
    return None


def _bar_sentence(headlines: Sequence[Headline]) -> str:
    shared = [(h, peak) for h in headlines if (peak := _peak(h))]
    if not shared:
        best = max(headlines, key=lambda h: h.rate.median)
        return (
            "No peak is known here, so the bars stand alone; the longest is "
            f"{clean(best.label)} with {numbers.rate(best.rate.median, best.rate.unit)}."
        )
    near = max(shared, key=lambda pair: pair[1][1])
    far = min(shared, key=lambda pair: pair[1][1])
    told = f"{clean(near[0].label)} comes nearest to its {near[1][0]} peak"
    told += f" ({numbers.share(near[1][1])})"
    if far[0] is not near[0]:
        told += f", {clean(far[0].label)} stays furthest below ({numbers.share(far[1][1])})"
    return f"{told}. The thin line at a bar's end spans p10 to p90."


def _bar_figure(headlines: Sequence[Headline]) -> Figure:
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    height = _TOP + _ROW * len(headlines) + _BOTTOM
    figure = Figure(figsize=(_WIDTH / 72, height / 72))
    figure.patch.set_visible(False)
    side = 6 / _WIDTH
    box = (side, _BOTTOM / height, 1 - 2 * side, 1 - (_TOP + _BOTTOM) / height)
    axes = figure.add_axes(box)
    axes.patch.set_visible(False)
    longest = max(_longest(headline) for headline in headlines) or 1.0
    scale = numbers.scale_for(longest, headlines[0].rate.unit)
    axes.set_xlim(0, longest * 1.02)
    axes.set_ylim(len(headlines), 0)
    for row, headline in enumerate(headlines):
        _bar(axes, row, headline)
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _tick(x * scale.factor)))
    axes.tick_params(axis="x", color=GRID, labelcolor=MUTED, length=3, labelsize=9.5)
    figure.text(
        0.5, 3 / height, _units(headlines, longest), ha="center", va="bottom", color=MUTED,
        fontsize=9.5, parse_math=False,
    )  # fmt: skip
    _bar_legend(figure, headlines)
    return figure


def _units(headlines: Sequence[Headline], greatest: float) -> str:
    units = dict.fromkeys(numbers.scale_for(greatest, h.rate.unit).unit for h in headlines)
    return clean(" or ".join(units))


def _longest(headline: Headline) -> float:
    known = (headline.rate.median, headline.rate.p90, headline.datasheet, headline.derived)
    return max(value for value in known if value is not None)


def _bar(axes: Axes, row: int, headline: Headline) -> None:
    middle, half = row + 0.72, 0.14
    right = axes.get_xlim()[1]
    peaks = [p for p in (headline.datasheet, headline.derived) if p is not None]
    if peaks:
        axes.barh(middle, max(peaks), 2 * half, color=TRACK, linewidth=0)
    axes.barh(middle, headline.rate.median, 2 * half, color=BAR, linewidth=0)
    axes.plot([headline.rate.p10, headline.rate.p90], [middle] * 2, color=INK, linewidth=1.2)
    if headline.datasheet is not None:
        upright = [middle - 1.5 * half, middle + 1.5 * half]
        axes.plot([headline.datasheet] * 2, upright, color=INK, linewidth=2, clip_on=False)
    if headline.derived is not None:
        axes.plot(
            [headline.derived], [middle], linestyle="", marker="D", markersize=6, clip_on=False,
            markerfacecolor="none", markeredgecolor=INK, markeredgewidth=1.2,
        )  # fmt: skip
    label = shorten(clean(headline.label), 20)
    axes.text(
        0, row + 0.44, label, ha="left", va="bottom", color=INK, weight="bold", parse_math=False
    )
    axes.text(
        right, row + 0.44, _value(headline), ha="right", va="bottom", color=INK, parse_math=False
    )


def _bar_legend(figure: Figure, headlines: Sequence[Headline]) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Line2D | Patch] = [Patch(color=BAR, label="achieved")]
    if any(h.datasheet is not None for h in headlines):
        handles.append(
            Line2D([], [], color=INK, marker="|", linestyle="", markersize=9, markeredgewidth=2,
                   label="datasheet")
        )  # fmt: skip
    if any(h.derived is not None for h in headlines):
        handles.append(
            Line2D([], [], color=INK, marker="D", linestyle="", markersize=5,
                   markerfacecolor="none", label="derived peak")
        )  # fmt: skip
    figure.legend(
        handles=handles, loc="upper left", ncols=3, frameon=False, labelcolor=INK, fontsize=9.5,
        handlelength=1.2, borderpad=0, borderaxespad=0.5, columnspacing=1.5,
    )  # fmt: skip


def roofline(run: Run, device_id: str) -> Drawing | None:
    """Draw measured roofs and matrix products over their arithmetic intensity.

    The memory roof is the best read or copy kernel, the compute roofs are the best products per
    precision. Without both there is no roofline.
    """
    memory = memory_roof(run, device_id)
    compute = headlines_of(run, device_id, "compute")
    if memory is None or not compute:
        return None
    points = gemm_points(run, device_id)
    highest = max(compute, key=lambda h: h.rate.median)
    corner = highest.rate.median * 1000 / memory.rate.median
    roofs = ", ".join(_rate_words(h) for h in compute)
    kernel = clean(memory.label)
    return Drawing(
        figure=_roofline_figure(memory, compute, points, _precisions(run, device_id)),
        title="Roofline, as measured",
        label=(
            f"Roofline chart. Memory roof {_rate_words(memory)}. Compute roofs {roofs}. "
            f"{len(points)} measured matrix products."
        ),
        sentence=(
            f"The slope is what memory delivers ({kernel}), the flats are what each precision "
            f"reached. Work in {clean(highest.label)} with fewer than {numbers.digits(corner)} "
            "operations per byte is bound by memory here; a point's distance to its roof is what "
            "its shape or kernel loses."
        ),
    )


def _rate_words(headline: Headline) -> str:
    return f"{clean(headline.label)} {numbers.rate(headline.rate.median, headline.rate.unit)}"


def memory_roof(run: Run, device_id: str) -> Headline | None:
    """Return the fastest read or copy kernel; without one, the fastest memory kernel."""
    found = [h for h in headlines_of(run, device_id, "memory") if h.rate.median > 0]
    ops = {m.case.case_id: m.case.op for m in measurements_of(run, device_id)}
    preferred = [h for h in found if ops.get(h.case_id, h.label) in _READERS]
    return max(preferred or found, key=lambda h: h.rate.median, default=None)


def gemm_points(run: Run, device_id: str) -> tuple[Point, ...]:
    """Return the valid matrix products for which operations and bytes are known."""
    points = []
    for m in measurements_of(run, device_id):
        moved = (m.bytes_read or 0) + (m.bytes_written or 0)
        wanted = m.status == "ok" and m.case.family == "compute"
        if wanted and m.rate and m.rate.median > 0 and m.flops and moved:
            points.append(Point(clean(m.case.precision), m.flops / moved, m.rate.median))
    return tuple(points)


def _precisions(run: Run, device_id: str) -> dict[str, str]:
    return {m.case.case_id: clean(m.case.precision) for m in measurements_of(run, device_id)}


def _roofline_figure(
    memory: Headline,
    compute: Sequence[Headline],
    points: Sequence[Point],
    precisions: dict[str, str],
) -> Figure:
    from matplotlib.figure import Figure

    height, left, right, top, bottom = 290.0, 42.0, 112.0, 10.0, 38.0
    figure = Figure(figsize=(_WIDTH / 72, height / 72))
    figure.patch.set_visible(False)
    box = (
        left / _WIDTH,
        bottom / height,
        1 - (left + right) / _WIDTH,
        1 - (top + bottom) / height,
    )
    axes = figure.add_axes(box)
    axes.patch.set_visible(False)
    slope = memory.rate.median / 1000  # TFLOPS per FLOP/byte
    roofs = sorted((h for h in compute if h.rate.median > 0), key=lambda h: h.rate.median)
    corners = [roof.rate.median / slope for roof in roofs]
    x_low = min([*corners, *(p.intensity for p in points)]) / 8
    x_high = max([*corners, *(p.intensity for p in points)]) * 4
    y_low = min([x_low * slope, *(p.rate / 2 for p in points)])
    y_high = max([roofs[-1].rate.median, *(p.rate for p in points)]) * 1.8
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(x_low, x_high)
    axes.set_ylim(y_low, y_high)
    _log_axes(axes, roofs)

    names = [precisions.get(roof.case_id, clean(roof.label)) for roof in roofs]
    order = list(dict.fromkeys([*names, *(p.precision for p in points)]))
    axes.plot([x_low, corners[-1]], [x_low * slope, roofs[-1].rate.median], color=INK, linewidth=2)
    for name, roof, corner in zip(names, roofs, corners, strict=True):
        color = _color(order, name)
        axes.plot([corner, x_high], [roof.rate.median] * 2, color=color, linewidth=2)
    for name in order:
        own = [p for p in points if p.precision == name]
        axes.plot(
            [p.intensity for p in own], [p.rate for p in own], linestyle="",
            marker=_marker(order, name), markersize=5,
            color=_color(order, name),
        )  # fmt: skip
    span = (height - top - bottom, _WIDTH - left - right)
    _roof_labels(axes, roofs, [_color(order, name) for name in names], span[0])
    _memory_label(axes, memory, slope, span)
    return figure


def _color(order: Sequence[str], name: str) -> str:
    return SERIES[order.index(name) % len(SERIES)]


def _marker(order: Sequence[str], name: str) -> str:
    number = order.index(name)  # shifted each time the colours start again
    return _MARKERS[(number + number // len(SERIES)) % len(_MARKERS)]


def _log_axes(axes: Axes, roofs: Sequence[Headline]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    highest = roofs[-1].rate
    scale = numbers.scale_for(highest.median, highest.unit)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _tick(x)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: _tick(y * scale.factor)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="both", color=GRID, labelcolor=MUTED, labelsize=9.5)
    axes.grid(color=GRID, linewidth=0.6)
    axes.spines[:].set_color(GRID)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("operations per byte", color=MUTED, fontsize=9)
    axes.set_ylabel(_units(roofs, highest.median), color=MUTED, fontsize=9.5, parse_math=False)


def _tick(value: float) -> str:
    return f"{value:g}" if value < 1e4 else f"{value / 1000:g}k"


def _roof_labels(
    axes: Axes, roofs: Sequence[Headline], colors: Sequence[str], height: float
) -> None:
    """Name each roof at its right end, pushed apart where names would lie on each other."""
    from matplotlib.transforms import blended_transform_factory

    low, high = axes.get_ylim()
    at = [height * log10(roof.rate.median / low) / log10(high / low) for roof in roofs]
    places = spaced(at, least=12.0, highest=height)
    where = blended_transform_factory(axes.transAxes, axes.transAxes)
    for roof, color, place in zip(roofs, colors, places, strict=True):
        number = numbers.rate(roof.rate.median, roof.rate.unit).split()[0]
        axes.text(
            1.02, place / height, f"{shorten(clean(roof.label), 15)} {number}", color=color,
            transform=where, va="center", fontsize=9.5, weight="bold", parse_math=False,
        )  # fmt: skip


def spaced(places: Sequence[float], least: float, highest: float) -> list[float]:
    """Move ascending places so that neighbours are ``least`` apart and none is above ``highest``.

    They go up from the lowest, then down from ``highest``, no further than needed.
    """
    moved = list(places)
    for below, above in pairwise(range(len(moved))):
        moved[above] = max(moved[above], moved[below] + least)
    if moved:
        moved[-1] = min(moved[-1], highest)
    for below, above in reversed(list(pairwise(range(len(moved))))):
        moved[below] = min(moved[below], moved[above] - least)
    return moved


def _memory_label(axes: Axes, memory: Headline, slope: float, span: tuple[float, float]) -> None:
    (x_low, x_high), (y_low, y_high) = axes.get_xlim(), axes.get_ylim()
    height, width = span
    angle = degrees(atan2(height / log10(y_high / y_low), width / log10(x_high / x_low)))
    start = max(x_low, y_low / slope) * 1.5
    axes.text(
        start, start * slope * 1.25, shorten(_rate_words(memory), 30), rotation=angle,
        rotation_mode="anchor", color=INK, fontsize=9.5, va="bottom", parse_math=False,
    )  # fmt: skip
