"""The operations of language models on the roofline: which are bound by memory, and what they lose.

The roofs are what this device reached by itself in the run: its fastest read or copy, its best
product of each precision; where the run did not measure those, the calibration's ceilings. What
works on data that was just written may lie above the slope: it comes out of a cache.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from roofprobe.records.schema import Measurement, Run
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.beside import Beside
from roofprobe.reporting.drawing import SMALL, Drawing, add_axes, empty_figure, quiet, tick
from roofprobe.reporting.exhibit import Exhibit
from roofprobe.reporting.naming import shape_text
from roofprobe.reporting.plain_text import clean, shorten
from roofprobe.reporting.roofline import compute_roofs, memory_roof, spaced
from roofprobe.reporting.small_table import SmallTable, done
from roofprobe.reporting.svg import INK, MUTED, SERIES, tips

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from roofprobe.costmodel.calibration_file import DeviceCalibration

# What a point is called and coloured by.
CLASSES: Final = {
    "gemm": "layers",
    "grouped_gemm": "experts",
    "attention_prefill": "attention, prompts",
    "mla_prefill": "attention, prompts",
    "attention_decode": "attention, one token",
    "mla_decode": "attention, one token",
}
_ROWS: Final = "row by row"  # moves bytes and counts no arithmetic
_ORDER: Final = (*dict.fromkeys(CLASSES.values()), _ROWS)
_MARKERS: Final = ("o", "D", "s", "^")
_MOST: Final = 100  # marks in the figure; with their words they are most of its bytes
_REPLAYED: Final = "anchor"
_HEIGHT, _LEFT, _RIGHT, _TOP, _BOTTOM = 300.0, 48.0, 84.0, 38.0, 36.0


@dataclass(frozen=True, slots=True)
class Roofs:
    """Bytes per second in GB/s, and TFLOPS (or TOPS) by precision, with where they come from."""

    memory: float
    compute: dict[str, float]
    words: str


@dataclass(frozen=True, slots=True)
class Op:
    """One measured operation: TFLOPS, operations per byte, GB/s, and its share of the roof.

    Without arithmetic ``rate`` and ``intensity`` are 0 and the roof is the memory's.
    """

    kind: str
    precision: str
    intensity: float
    rate: float
    gbps: float
    share: float
    words: str


def llm_roofline(run: Run, device_id: str, beside: Beside) -> Exhibit | None:
    """Return the exhibit of a device with operations of language models and known roofs."""
    roofs = roofs_of(run, device_id, beside)
    if roofs is None:
        return None
    ops = ops_of(run, device_id, roofs)
    counted = [op for op in ops if op.rate > 0]
    if not counted:
        return None
    return Exhibit(
        title="Language-model operations on the roofline",
        sentence=_sentence(ops, roofs),
        drawings=(_drawing(counted, roofs),),
        tables=(op_table(ops),),
    )


def op_tables(run: Run, device_id: str, beside: Beside) -> tuple[SmallTable, ...]:
    """Return the exhibit's table alone, or none."""
    roofs = roofs_of(run, device_id, beside)
    ops = ops_of(run, device_id, roofs) if roofs else ()
    return (op_table(ops),) if any(op.rate > 0 for op in ops) else ()


def roofs_of(run: Run, device_id: str, beside: Beside) -> Roofs | None:
    """Return the roofs of a device, None where one of both kinds is not known."""
    memory, products = memory_roof(run, device_id), compute_roofs(run, device_id)
    compute = {h.precision: h.rate.median for h in products if h.rate.median > 0}
    words = [
        f"{clean(h.label)} {numbers.rate(h.rate.median, h.rate.unit)}"
        for h in ([memory] if memory else [])
    ]
    slope = memory.rate.median if memory else 0.0
    known = _calibrated(device_id, beside)
    if known is not None:
        if not slope and known.ceilings.memory is not None:
            slope = known.ceilings.memory.value
            words = [f"{known.ceilings.memory.kind} memory {numbers.rate(slope, 'GB/s')}"]
        for precision, peak in known.ceilings.compute.items():
            compute.setdefault(precision, peak.value)
    return Roofs(slope, compute, ", ".join(words)) if slope and compute else None


def _calibrated(device_id: str, beside: Beside) -> DeviceCalibration | None:
    devices = beside.calibration.devices if beside.calibration else ()
    return next((device for device in devices if device.device_id == device_id), None)


def ops_of(run: Run, device_id: str, roofs: Roofs) -> tuple[Op, ...]:
    """Return the measured operations with a known roof, in the order they were measured."""
    found = (_op(m, roofs) for m in done(run, device_id, "llm") if m.case.role == _REPLAYED)
    return tuple(op for op in found if op is not None)


def _op(m: Measurement, roofs: Roofs) -> Op | None:
    moved = (m.bytes_read or 0) + (m.bytes_written or 0)
    if m.latency is None or m.latency.median <= 0 or not moved:
        return None
    case, seconds = m.case, m.latency.median * 1e-6
    gbps = moved / seconds / 1e9
    name = f"{clean(case.op)} {clean(case.precision)} {shape_text(case)}"
    kind = CLASSES.get(case.op, _ROWS)
    if kind == _ROWS or not m.flops:
        return Op(_ROWS, clean(case.precision), 0.0, 0.0, gbps, gbps / roofs.memory, name)
    peak = roofs.compute.get(case.precision)
    if peak is None:
        return None
    intensity, rate = m.flops / moved, m.flops / seconds / 1e12
    share = rate / min(peak, intensity * roofs.memory / 1e3)
    words = (
        f"{name}: {numbers.rate(rate, 'TFLOPS')} at {numbers.digits(intensity)} per byte, "
        f"{numbers.share(share)} of its roof"
    )
    return Op(kind, clean(case.precision), intensity, rate, gbps, share, words)


def _sentence(ops: Sequence[Op], roofs: Roofs) -> str:
    counted = [op for op in ops if op.rate > 0]
    bound = [op for op in counted if op.intensity * roofs.memory / 1e3 < _peak(op, roofs)]
    kinds = {name: _median_share(own) for name, own in _classes(ops)}
    best, worst = max(kinds, key=kinds.__getitem__), min(kinds, key=kinds.__getitem__)
    of_all = plural(len(counted), "operation")
    told = f"{len(bound)} of {of_all} lie under the slope: memory bounds them"
    told += f". Nearest to their roof are {best} ({numbers.share(kinds[best])} in the median)"
    if worst != best:
        told += f", furthest below {worst} ({numbers.share(kinds[worst])})"
    above = sum(op.share > 1.05 for op in counted)
    if above:
        told += f". {above} lie above their roof: caches serve them faster than memory could"
    return f"{told}."


def _classes(ops: Sequence[Op]) -> Iterator[tuple[str, list[Op]]]:
    """Yield the lines of the table: the operations of a class in one precision, named."""
    for kind in _ORDER:
        for precision in dict.fromkeys(op.precision for op in ops if op.kind == kind):
            own = [op for op in ops if op.kind == kind and op.precision == precision]
            yield f"{kind}, {precision}", own


def _median_share(ops: Sequence[Op]) -> float:
    return statistics.median(op.share for op in ops)


def _peak(op: Op, roofs: Roofs) -> float:
    return roofs.compute[op.precision]


def op_table(ops: Sequence[Op]) -> SmallTable:
    """Return one line per class and precision: how far from the roof, and what was reached."""
    rows = []
    for name, own in _classes(ops):
        best = max(op.rate for op in own)
        most = max(op.share for op in own)
        rows.append(
            (
                name,
                _range([op.intensity for op in own if op.rate > 0]),
                numbers.rate(best, "TFLOPS") if best else numbers.UNKNOWN,
                numbers.rate(max(op.gbps for op in own), "GB/s"),
                f"{numbers.share(_median_share(own))}, {numbers.share(most)}",
            )
        )
    return SmallTable(
        "Language-model operations and their roofs",
        "The share of the roof (the smaller of the compute roof and of what memory delivers) in "
        "the median and at best. What moves bytes only is held against memory.",
        ("operations", "per byte", "best rate", "best bytes", "of roof, best"),
        tuple(rows),
    )


def _range(values: Sequence[float]) -> str:
    if not values:
        return numbers.UNKNOWN
    return f"{numbers.digits(min(values))}–{numbers.digits(max(values))}"


def _drawing(ops: Sequence[Op], roofs: Roofs) -> Drawing:
    shown = _thinned(ops)
    roof_words = [
        f"{precision} {numbers.rate(roofs.compute[precision], 'TFLOPS')}"
        for precision in _precisions(ops)
    ]
    kinds = [
        f"{name} {plural(len(own), 'case')}, {numbers.share(_median_share(own))} of the roof"
        for name, own in _classes(ops)
    ]
    slowest_first = sorted(_precisions(ops), key=lambda precision: roofs.compute[precision])
    hollow = f" Hollow marks are {slowest_first[0]}." if len(slowest_first) > 1 else ""
    some = (
        ""
        if len(shown) == len(ops)
        else (
            f" {len(shown)} of {len(ops)} are drawn, evenly spread; all are in the table of "
            "measurements."
        )
    )
    return Drawing(
        draw=lambda: _figure(shown, roofs),
        title="Operations under the roofs",
        label=(
            f"Roofline chart. Memory roof {roofs.words}. Compute roofs {', '.join(roof_words)}. "
            f"{'; '.join(kinds)}."
        ),
        sentence=(
            f"The slope is what memory delivers ({roofs.words}), the flats are the best products. "
            f"Attention of one token has few operations per byte, prompts and many tokens at a "
            f"time move right.{hollow}{some}"
        ),
    )


def _precisions(ops: Sequence[Op]) -> list[str]:
    return list(dict.fromkeys(op.precision for op in ops))


def _kinds(ops: Sequence[Op]) -> list[str]:
    return [kind for kind in _ORDER if any(op.kind == kind for op in ops)]


def _thinned(ops: Sequence[Op]) -> list[Op]:
    """Return at most `_MOST` points: of each class its share, evenly spread over intensities."""
    ranked = sorted(ops, key=lambda op: (_ORDER.index(op.kind), op.precision, op.intensity))
    if len(ranked) <= _MOST:
        return ranked
    step = (len(ranked) - 1) / (_MOST - 1)
    return [ranked[round(index * step)] for index in range(_MOST)]


def _figure(ops: Sequence[Op], roofs: Roofs) -> Figure:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    figure = empty_figure(_HEIGHT)
    axes = add_axes(figure, left=_LEFT, right=_RIGHT, top=_TOP, bottom=_BOTTOM)
    axes.set_xscale("log")
    axes.set_yscale("log")
    quiet(axes)
    slope = roofs.memory / 1e3
    shown = sorted(_precisions(ops), key=lambda precision: roofs.compute[precision])
    peaks = [roofs.compute[precision] for precision in shown]
    x_low = min(op.intensity for op in ops) / 2
    x_high = max([peaks[-1] / slope, *(op.intensity for op in ops)]) * 3
    axes.set_xlim(x_low, x_high)
    y_low = min([x_low * slope, *(op.rate for op in ops)]) / 1.5
    y_high = max([*peaks, *(op.rate for op in ops)]) * 1.6
    axes.set_ylim(y_low, y_high)
    axes.plot([x_low, peaks[-1] / slope], [x_low * slope, peaks[-1]], color=INK, linewidth=2)
    for peak in peaks:
        axes.plot([peak / slope, x_high], [peak] * 2, color=INK, linewidth=2)
    for number, kind in enumerate(_kinds(ops)):
        for precision in shown:
            own = [op for op in ops if op.kind == kind and op.precision == precision]
            if own:
                (dots,) = axes.plot(
                    [op.intensity for op in own], [op.rate for op in own], linestyle="",
                    markersize=4.5, marker=_MARKERS[number % len(_MARKERS)],
                    markerfacecolor=SERIES[number] if _filled(precision, shown) else "none",
                    markeredgecolor=SERIES[number],
                )  # fmt: skip
                tips(dots, [op.words for op in own])
    scale = numbers.scale_for(peaks[-1], "TFLOPS")
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: tick(x)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: tick(y * scale.factor)))
    axes.minorticks_off()
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("operations per byte", color=MUTED, fontsize=SMALL)
    axes.set_ylabel(scale.unit, color=MUTED, fontsize=SMALL)
    _name_roofs(axes, shown, roofs)
    _legend(figure, _kinds(ops))
    return figure


def _filled(precision: str, slowest_first: Sequence[str]) -> bool:
    """Return whether marks of a precision are filled: those of the slowest are hollow."""
    return precision != slowest_first[0] or len(slowest_first) == 1


def _legend(figure: Figure, kinds: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker=_MARKERS[number % len(_MARKERS)], markersize=5,
               color=SERIES[number], label=kind)
        for number, kind in enumerate(kinds)
    ]  # fmt: skip
    figure.legend(
        handles=handles, loc="upper left", ncols=2, frameon=False, labelcolor=INK, fontsize=SMALL,
        handlelength=1.2, borderpad=0, borderaxespad=0.5, columnspacing=1.5,
    )  # fmt: skip


def _name_roofs(axes: Axes, precisions: Sequence[str], roofs: Roofs) -> None:
    """Name each flat at its right end, pushed apart where names would lie on each other."""
    from math import log10

    height = _HEIGHT - _TOP - _BOTTOM
    low, high = axes.get_ylim()
    peaks = [roofs.compute[precision] for precision in precisions]
    places = spaced(
        [height * log10(peak / low) / log10(high / low) for peak in peaks], 12.0, height
    )
    for precision, peak, place in zip(precisions, peaks, places, strict=True):
        number = numbers.rate(peak, "TFLOPS").split()[0]
        axes.text(
            1.02, place / height, f"{shorten(precision, 8)} {number}",
            transform=axes.transAxes, va="center", color=INK, fontsize=SMALL, parse_math=False,
        )  # fmt: skip
