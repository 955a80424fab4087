"""The memory as seen from the units: GB/s over the bytes that are gone through, ns per load.

Both figures climb the same levels. A kernel that goes through few bytes again and again is fed by
the first cache; each level down is larger and slower, and where a curve steps lies a level's size,
seen. What is stated of it is marked: for all cores together under the bandwidth, for one core under
the latency (`cache_marks` says why). Bandwidth is what many loads in flight get; latency is what a
single one waits for when each address is known only after the load before. Their product is how
many bytes must be in flight to keep a level busy (Little's law).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from roofprobe.records.schema import Ceiling, Device, Measurement, Run
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.beside import Beside
from roofprobe.reporting.cache_marks import (
    ROW,
    Mark,
    cache_table,
    chased,
    draw_marks,
    placed,
    stated,
    streamed,
    within,
)
from roofprobe.reporting.drawing import SMALL, Drawing, add_axes, empty_figure, quiet, tick
from roofprobe.reporting.exhibit import Exhibit
from roofprobe.reporting.numbers import capacity
from roofprobe.reporting.plain_text import clean, shorten
from roofprobe.reporting.small_table import SmallTable, done
from roofprobe.reporting.svg import INK, MUTED, SERIES, tips
from roofprobe.reporting.wire_tables import curve_table, latency_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LEAST_STEPS = 3
_MARKERS = ("o", "s", "^", "D")
_LEFT, _RIGHT = 44.0, 12.0  # margins of the axes, points


@dataclass(frozen=True, slots=True)
class Curve:
    """One line over the bytes that are gone through, ascending; ``tips`` tell each point."""

    name: str
    sizes: tuple[int, ...]
    values: tuple[float, ...]
    tips: tuple[str, ...]

    def steepest(self) -> tuple[int, float]:
        """Return the place before the greatest change from point to point, and its factor."""
        factors = [max(b / a, a / b) for a, b in pairwise(self.values)]
        place = max(range(len(factors)), key=factors.__getitem__)
        return place, factors[place]


def touched_bytes(m: Measurement) -> int:
    """Return the bytes of all arrays that one pass of a stream goes through."""
    passes = (m.kernel_config or {}).get("passes") or 1
    assert isinstance(passes, int), passes
    moved = (m.bytes_read or 0) + (m.bytes_written or 0)
    return moved // passes or m.array_bytes or 0


def bandwidth_curves(run: Run, device_id: str) -> tuple[Curve, ...]:
    """Return GB/s over the bytes gone through, per kernel."""
    found = [
        m
        for m in done(run, device_id, "memory")
        if m.case.role == "curve" and m.rate is not None and m.rate.median > 0
    ]
    return _curves(found, lambda m: clean(m.case.op), touched_bytes, _rate)


def latency_curves(run: Run, device_id: str) -> tuple[Curve, ...]:
    """Return ns per dependent load over the footprint, per size of pages.

    Loads of large footprints skip a GPU's first cache, which would not hold them: one ladder.
    """
    found = [
        m
        for m in done(run, device_id, "latency")
        if m.access_ns is not None and m.access_ns.median > 0
    ]
    return _curves(
        found,
        lambda m: clean((m.case.config or "loads").split(", ")[-1]),
        lambda m: m.case.shape.get("footprint_bytes", 0),
        lambda m: (m.access_ns.median if m.access_ns else 0.0, f"{_access(m)} ns per load"),
    )


def _rate(m: Measurement) -> tuple[float, str]:
    assert m.rate is not None, m.case.case_id
    return m.rate.median, clean(numbers.rate(m.rate.median, m.rate.unit))


def _access(m: Measurement) -> str:
    return f"{m.access_ns.median:.3g}" if m.access_ns else numbers.UNKNOWN


def _curves(
    found: Sequence[Measurement],
    name_of: Callable[[Measurement], str],
    size_of: Callable[[Measurement], int],
    value_of: Callable[[Measurement], tuple[float, str]],
) -> tuple[Curve, ...]:
    made = []
    for name in dict.fromkeys(map(name_of, found)):
        own = {size_of(m): value_of(m) for m in found if name_of(m) == name and size_of(m)}
        sizes = tuple(sorted(own))
        made.append(
            Curve(
                name, sizes, tuple(own[size][0] for size in sizes),
                tuple(f"{name}, {capacity(size)}: {own[size][1]}" for size in sizes),
            )
        )  # fmt: skip
    return tuple(curve for curve in made if curve.sizes)


def memory_curve(run: Run, device_id: str, beside: Beside) -> Exhibit | None:
    """Return the curve of sizes through the caches; None with fewer than three sizes."""
    curves = bandwidth_curves(run, device_id)
    if max((len(curve.sizes) for curve in curves), default=0) < _LEAST_STEPS:
        return None
    device, sheet = _device(run, device_id), _sheet(run, device_id)
    marks = streamed(device) if device else ()
    drawing = Drawing(
        draw=lambda: _figure(curves, marks, "GB/s", sheet),
        title="Bandwidth over size",
        label=f"Line chart. {_words(curves, 'GB/s')}.",
        sentence=_curve_sentence(curves, _stated(device, marks, one_core=False), sheet),
    )
    return Exhibit(
        "Sizes through the caches",
        "How fast the same arrays come when they are gone through again and again: each step down "
        "is the end of a cache.",
        (drawing,),
        _tables(curve_table(run, device_id), device),
    )


def latency_ladder(run: Run, device_id: str, beside: Beside) -> Exhibit | None:
    """Return the ladder of latencies; None with fewer than three footprints."""
    curves = latency_curves(run, device_id)
    if max((len(curve.sizes) for curve in curves), default=0) < _LEAST_STEPS:
        return None
    device = _device(run, device_id)
    marks = chased(device) if device else ()
    told = memory_curve(run, device_id, beside) is not None  # the caches stand there
    drawings = [
        Drawing(
            draw=lambda: _figure(curves, marks, "ns per load", None),
            title="Latency over footprint",
            label=f"Line chart. {_words(curves, 'ns')}.",
            sentence=_latency_sentence(curves, _stated(device, marks, one_core=True)),
        )
    ]
    groups = _group_drawing(run, device_id)
    return Exhibit(
        "Latency, one load after another",
        "A chain of loads, each of which tells where the next is: what a single load waits for.",
        (*drawings, *([groups] if groups else [])),
        _tables(latency_table(run, device_id), None if told else device),
    )


def _device(run: Run, device_id: str) -> Device | None:
    return next((d for d in run.devices if d.device_id == device_id), None)


def _tables(of_figure: SmallTable, device: Device | None) -> tuple[SmallTable, ...]:
    caches = cache_table(device)
    return (of_figure, caches) if caches.rows else (of_figure,)


def _stated(device: Device | None, marks: Sequence[Mark], *, one_core: bool) -> str:
    if device is None:
        return ""
    if device.backend != "cpu":
        return stated(device, marks, "the device")
    cores = plural(device.unit_count, "core") if device.unit_count else "the cores"
    return stated(device, marks, "one core" if one_core else f"{cores} together")


def _sheet(run: Run, device_id: str) -> Ceiling | None:
    return next(
        (
            ceiling
            for ceiling in run.ceilings
            if ceiling.device_id == device_id
            and (ceiling.family, ceiling.kind, ceiling.unit) == ("memory", "datasheet", "GB/s")
        ),
        None,
    )


def _words(curves: Sequence[Curve], unit: str) -> str:
    return "; ".join(
        f"{curve.name}: "
        + ", ".join(
            f"{value:.3g} {unit} at {capacity(size)}"
            for size, value in zip(curve.sizes, curve.values, strict=True)
        )
        for curve in curves
    )


def _curve_sentence(curves: Sequence[Curve], caches: str, sheet: Ceiling | None) -> str:
    curve = max(curves, key=lambda c: len(c.sizes))
    top = max(range(len(curve.values)), key=curve.values.__getitem__)
    told = (
        f"{curve.name} comes with {numbers.rate(curve.values[top], 'GB/s')} from "
        f"{capacity(curve.sizes[top])} and with {numbers.rate(curve.values[-1], 'GB/s')} from "
        f"{capacity(curve.sizes[-1])}, {numbers.share(curve.values[-1] / curve.values[top])} of it"
    )
    told += f"{_step(curve)}{caches}"
    if sheet and max(curve.values) > sheet.value:
        told += " What lies above the dashed line came from a cache: memory cannot be that fast."
    return told


def _latency_sentence(curves: Sequence[Curve], caches: str) -> str:
    curve = max(curves, key=lambda c: len(c.sizes))
    told = (
        f"A load waits {curve.values[0]:.3g} ns in {capacity(curve.sizes[0])} and "
        f"{curve.values[-1]:.3g} ns in {capacity(curve.sizes[-1])}"
    )
    return f"{told}{_step(curve)}{caches}"


def _step(curve: Curve) -> str:
    if len(curve.values) < 2:
        return "."
    place, factor = curve.steepest()
    return (
        f"; the greatest step is a factor of {factor:.1f}, between {capacity(curve.sizes[place])} "
        f"and {capacity(curve.sizes[place + 1])}."
    )


def _figure(
    curves: Sequence[Curve], marks: Sequence[Mark], unit: str, sheet: Ceiling | None
) -> Figure:
    legend = 15.0 * ((len(curves) + 1) // 2) + 8 if len(curves) > 1 else 4.0
    scratch = add_axes(empty_figure(100), left=_LEFT, right=_RIGHT, top=0, bottom=0)
    _lines(scratch, curves)
    inside = within(marks, *scratch.get_xlim())
    places = placed(scratch, inside, left=_LEFT, right=_RIGHT)
    top = legend + 4 + ROW * max(1, 1 + max((place.row for place in places), default=0))
    figure = empty_figure(top + 170 + 36)
    axes = add_axes(figure, left=_LEFT, right=_RIGHT, top=top, bottom=36)
    _lines(axes, curves)
    _dress(axes, curves, unit)
    if sheet:
        axes.axhline(sheet.value, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        axes.text(
            0.99, sheet.value, f"datasheet {clean(numbers.rate(sheet.value, sheet.unit))}",
            transform=axes.get_yaxis_transform(), ha="right", va="bottom", color=INK,
            fontsize=SMALL, parse_math=False,
        )  # fmt: skip
    draw_marks(axes, places, left=_LEFT, right=_RIGHT)
    if len(curves) > 1:
        figure.legend(
            loc="upper left", ncols=2, frameon=False, labelcolor=INK, fontsize=SMALL,
            handlelength=1.6, borderpad=0, borderaxespad=0.5, columnspacing=1.5,
        )  # fmt: skip
    return figure


def _lines(axes: Axes, curves: Sequence[Curve]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    for number, curve in enumerate(curves):
        color = SERIES[number % len(SERIES)]
        (line,) = axes.plot(
            curve.sizes, curve.values, color=color, linewidth=1.8, markersize=5,
            marker=_MARKERS[number % len(_MARKERS)], clip_on=False, label=shorten(curve.name, 24),
        )  # fmt: skip
        tips(line, curve.tips)


def _dress(axes: Axes, curves: Sequence[Curve], unit: str) -> None:
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullFormatter

    quiet(axes)
    sizes = sorted({size for curve in curves for size in curve.sizes})
    powers = range((sizes[0] - 1).bit_length(), (sizes[-1]).bit_length() + 1)
    step = max(1, -(-len(powers) // 7))
    axes.xaxis.set_major_locator(FixedLocator([2.0**power for power in powers][::step]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: _short_size(x)))
    axes.yaxis.set_major_locator(LogLocator(numticks=6))
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5), numticks=12))
    values = [value for curve in curves for value in curve.values]
    few = max(values) / min(values) < 100
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: tick(y)))
    minor = FuncFormatter(lambda y, _: tick(y)) if few else NullFormatter()
    axes.yaxis.set_minor_formatter(minor)
    axes.set_xlabel("bytes gone through", color=MUTED, fontsize=SMALL)
    axes.set_ylabel(unit, color=MUTED, fontsize=SMALL)


def _short_size(size_bytes: float) -> str:
    for unit in ("", "K", "M"):
        if size_bytes < 1024:
            return f"{size_bytes:.0f}{unit}"
        size_bytes /= 1024
    return f"{size_bytes:.0f}G"


def _group_drawing(run: Run, device_id: str) -> Drawing | None:
    """Draw the groups that single loads fall into, where some footprint has more than one."""
    found = {
        m.case.shape.get("footprint_bytes", 0): m.access_populations
        for m in done(run, device_id, "latency")
        if m.access_populations
    }
    if not any(len(groups) > 1 for groups in found.values()):
        return None
    sizes = sorted(found)
    figure = empty_figure(180.0)
    axes = add_axes(figure, left=44, right=12, top=10, bottom=36)
    quiet(axes)
    told: list[str] = []
    for row, size in enumerate(sizes):
        for number, group in enumerate(found[size]):
            axes.plot(
                [row] * 2, [group.cycles_p10, group.cycles_p90], color=SERIES[number], linewidth=2
            )
            (dot,) = axes.plot(
                [row], [group.cycles_median], linestyle="", marker=_MARKERS[number % 4],
                markersize=4 + 6 * group.share, color=SERIES[number],
            )  # fmt: skip
            text = f"{capacity(size)}: {group.cycles_median:.0f} cycles ({group.share:.0%})"
            tips(dot, [text])
            told.append(text)
    axes.set_xticks(range(len(sizes)), [_short_size(size) for size in sizes])
    axes.set_xlim(-0.5, len(sizes) - 0.5)
    axes.set_ylim(0, None)
    axes.set_xlabel("footprint, bytes", color=MUTED, fontsize=SMALL)
    axes.set_ylabel("cycles", color=MUTED, fontsize=SMALL)
    split = next(size for size in sizes if len(found[size]) > 1)
    near, far = found[split][0], found[split][-1]
    return Drawing(
        draw=lambda: figure,
        title="Single loads",
        label=f"Chart of groups of single loads. {'; '.join(told)}.",
        sentence=(
            f"In {capacity(split)}, {near.share:.0%} of single loads take "
            f"{near.cycles_median:.0f} cycles and {far.share:.0%} take {far.cycles_median:.0f}: "
            "the near and the far part of a cache. Reading the counter is in the figure; the line "
            "spans 10% to 90% of a group."
        ),
    )
