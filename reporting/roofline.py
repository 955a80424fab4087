"""The roofline as it was measured: what memory delivers, what each precision reaches, and between.

A matrix product with few operations per byte cannot be faster than memory delivers its operands.
The roofs here are measured, not printed: they tell what this device gives, and a point's distance
to them what its shape or kernel loses. Sparse products and the vector pipe have other roofs and are
left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import atan2, degrees, log10
from typing import TYPE_CHECKING

from roofprobe.records.headlines import competitors
from roofprobe.records.schema import Headline, Measurement, Run
from roofprobe.reporting import numbers
from roofprobe.reporting.drawing import WIDTH, Drawing, tick, units
from roofprobe.reporting.marks import with_legend
from roofprobe.reporting.naming import shape_text
from roofprobe.reporting.plain_text import clean, shorten
from roofprobe.reporting.svg import GRID, INK, MUTED, SERIES, tips
from roofprobe.reporting.tables import doubts_marked, headlines_of, measurements_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_PLACES = 60  # that can be told apart along an axis of some 200 points with markers of 5
_READERS = ("read", "copy")


@dataclass(frozen=True, slots=True)
class Point:
    """One measured matrix product in the roofline: FLOP per byte, rate, and how it was made."""

    precision: str
    intensity: float
    rate: float
    unit: str
    how: str

    def words(self) -> str:
        """Tell the point to those who point at it."""
        rate = clean(numbers.rate(self.rate, self.unit))
        return f"{self.how}: {rate} at {numbers.digits(self.intensity)} per byte"


def roofline(run: Run, device_id: str) -> Drawing | None:
    """Draw measured roofs and matrix products over their arithmetic intensity.

    The memory roof is the best read or copy kernel, the compute roofs are the best products per
    precision. Without both there is no roofline.
    """
    memory = memory_roof(run, device_id)
    compute = doubts_marked(run, device_id, compute_roofs(run, device_id))
    if memory is None or not compute:
        return None
    points = gemm_points(run, device_id)
    highest = max(compute, key=lambda h: h.rate.median)
    corner = highest.rate.median * 1000 / memory.rate.median
    roofs = ", ".join(_rate_words(h) for h in compute)
    kernel = clean(memory.label)
    return Drawing(
        draw=lambda: _roofline_figure(memory, compute, points, _precisions(run, device_id)),
        title="Roofline, as measured",
        label=(
            f"Roofline chart. Memory roof {_rate_words(memory)}. Compute roofs {roofs}. "
            f"{len(points)} measured matrix products."
        ),
        sentence=with_legend(
            f"The slope is what memory delivers ({kernel}), the flats are what each precision "
            f"reached. Work in {clean(highest.label)} with fewer than {numbers.digits(corner)} "
            "operations per byte is bound by memory here; a point's distance to its roof is what "
            "its shape or kernel loses.",
            (roof.label for roof in compute),
        ),
    )


def _rate_words(headline: Headline) -> str:
    return f"{clean(headline.label)} {numbers.rate(headline.rate.median, headline.rate.unit)}"


def compute_roofs(run: Run, device_id: str) -> tuple[Headline, ...]:
    """Return the best dense matrix product of each precision, in the order of the run."""
    sources = {m.case.case_id: m for m in measurements_of(run, device_id)}
    best: dict[str, Headline] = {}
    for headline in headlines_of(run, device_id, "compute"):
        source = sources.get(headline.case_id)
        if headline.sparsity or (source is not None and not _is_product(source)):
            continue
        known = best.get(headline.precision)
        if known is None or headline.rate.median > known.rate.median:
            best[headline.precision] = headline
    return tuple(best.values())


def _is_product(m: Measurement) -> bool:
    return m.case.role != "pipe" and m.case.sparsity is None


def memory_roof(run: Run, device_id: str) -> Headline | None:
    """Return the fastest read or copy kernel; without one, the fastest memory kernel."""
    found = [h for h in headlines_of(run, device_id, "memory") if h.rate.median > 0]
    ops = {m.case.case_id: m.case.op for m in measurements_of(run, device_id)}
    preferred = [h for h in found if ops.get(h.case_id, h.label) in _READERS]
    return max(preferred or found, key=lambda h: h.rate.median, default=None)


def gemm_points(run: Run, device_id: str) -> tuple[Point, ...]:
    """Return the valid dense products of uniform data whose operations and bytes are known."""
    points = []
    products = [m for m in measurements_of(run, device_id) if m.case.family == "compute"]
    surface = [m for m in products if m.status == "ok" and m.case.role == "surface"]
    for m in (*competitors(products), *surface):
        moved = (m.bytes_read or 0) + (m.bytes_written or 0)
        if _is_product(m) and m.rate and m.rate.median > 0 and m.flops and moved:
            how = f"{clean(m.case.precision)} {clean(m.case.route)} {shape_text(m.case)}"
            points.append(
                Point(clean(m.case.precision), m.flops / moved, m.rate.median, m.rate.unit, how)
            )
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
    figure = Figure(figsize=(WIDTH / 72, height / 72))
    figure.patch.set_visible(False)
    box = (
        left / WIDTH,
        bottom / height,
        1 - (left + right) / WIDTH,
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
        own = seen_apart([p for p in points if p.precision == name], axes)
        (dots,) = axes.plot(
            [p.intensity for p in own], [p.rate for p in own], linestyle="",
            marker=_marker(order, name), markersize=5,
            color=_color(order, name),
        )  # fmt: skip
        tips(dots, [p.words() for p in own])
    span = (height - top - bottom, WIDTH - left - right)
    _roof_labels(axes, roofs, [_color(order, name) for name in names], span[0])
    _memory_label(axes, memory, slope, span)
    return figure


def seen_apart(points: Sequence[Point], axes: Axes, places: int = _PLACES) -> list[Point]:
    """Keep the fastest of points that lie on each other, since a thousand markers say no more."""
    (x_low, x_high), (y_low, y_high) = axes.get_xlim(), axes.get_ylim()
    kept: dict[tuple[int, int], Point] = {}
    for point in sorted(points, key=lambda p: p.rate):
        across = log10(point.intensity / x_low) / log10(x_high / x_low)
        up = log10(point.rate / y_low) / log10(y_high / y_low)
        kept[int(across * places), int(up * places)] = point
    return list(kept.values())


def _color(order: Sequence[str], name: str) -> str:
    return SERIES[order.index(name) % len(SERIES)]


def _marker(order: Sequence[str], name: str) -> str:
    number = order.index(name)  # shifted each time the colours start again
    return _MARKERS[(number + number // len(SERIES)) % len(_MARKERS)]


def _log_axes(axes: Axes, roofs: Sequence[Headline]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    highest = roofs[-1].rate
    scale = numbers.scale_for(highest.median, highest.unit)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: tick(x)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: tick(y * scale.factor)))
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.tick_params(which="both", color=GRID, labelcolor=MUTED, labelsize=9.5)
    axes.grid(color=GRID, linewidth=0.6)
    axes.spines[:].set_color(GRID)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("operations per byte", color=MUTED, fontsize=9)
    axes.set_ylabel(units(roofs, highest.median), color=MUTED, fontsize=9.5, parse_math=False)


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
