"""Figures over time: how clock and power went while a case ran, and how a search went.

Both explain a figure by its history: a settled rate that falls is a clock that falls, and a search
that ended on a shape looked at others first, again and again with one anchor shape between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roofprobe.records.schema import Device, Measurement, Run, Search, TracePoint
from roofprobe.records.titles import label_of
from roofprobe.reporting import numbers
from roofprobe.reporting.drawing import SMALL, Drawing, add_axes, empty_figure, quiet
from roofprobe.reporting.naming import triple_text
from roofprobe.reporting.plain_text import clean, shorten
from roofprobe.reporting.search_tables import gain_over_anchor, unit_of
from roofprobe.reporting.svg import GRID, INK, MUTED, SERIES, tip
from roofprobe.reporting.tables import measurements_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MOST_TRACES = 4
_MOST_POINTS = 150
_LEAST_POINTS = 3
_SENSORS = (("sm_clock_mhz", "MHz"), ("power_w", "W"), ("temperature_c", "°C"))
_NAMES = {"sm_clock_mhz": "clock", "power_w": "power", "temperature_c": "temperature"}


@dataclass(frozen=True, slots=True)
class Trace:
    """The sensors' readings during one case; ``at_s`` of points counts from its begin."""

    label: str
    regime: str
    points: tuple[TracePoint, ...]

    @property
    def seconds(self) -> float:
        """How long it was watched."""
        return self.points[-1].at_s - self.points[0].at_s

    @property
    def moves(self) -> bool:
        """Whether anything changed; a clock that a system merely states never does."""
        return len({(p.sm_clock_mhz, p.power_w) for p in self.points}) > 1

    def ends(self, field: str) -> tuple[float, float] | None:
        """The mean of the first and of the last tenth of a sensor's readings."""
        values = [getattr(p, field) for p in self.points if getattr(p, field) is not None]
        if len(values) < _LEAST_POINTS:
            return None
        part = max(1, len(values) // 10)
        return sum(values[:part]) / part, sum(values[-part:]) / part


@dataclass(frozen=True, slots=True)
class TraceRow:
    """One trace in words: where clock and power began and where they ended."""

    label: str
    regime: str
    seconds: str
    clock: str
    power: str
    temperature: str
    throttle: str


def traces_of(run: Run, device_id: str) -> tuple[Trace, ...]:
    """Return the longest trace of each row, settled cases first; at most four, longest first."""
    best: dict[str, tuple[bool, Trace]] = {}
    for m in measurements_of(run, device_id):
        points = m.telemetry.trace if m.telemetry else ()
        if m.status != "ok" or len(points) < _LEAST_POINTS:
            continue
        trace = Trace(clean(label_of(m.case)), m.case.regime, points)
        if not trace.moves:
            continue
        found = (m.case.regime == "settled", trace)
        known = best.get(trace.label)
        if known is None or (found[0], trace.seconds) > (known[0], known[1].seconds):
            best[trace.label] = found
    ranked = sorted(best.values(), key=lambda pair: (not pair[0], -pair[1].seconds))
    return tuple(trace for _, trace in ranked[:_MOST_TRACES])


def trace_rows(run: Run, device_id: str) -> tuple[TraceRow, ...]:
    """Return the traces that are drawn, in words."""
    return tuple(
        TraceRow(
            label=trace.label,
            regime=trace.regime,
            seconds=numbers.seconds(trace.seconds),
            clock=_from_to(trace.ends("sm_clock_mhz"), "MHz"),
            power=_from_to(trace.ends("power_w"), "W"),
            temperature=_from_to(trace.ends("temperature_c"), "°C"),
            throttle=clean(
                ", ".join(dict.fromkeys(r for p in trace.points for r in p.throttle_reasons))
            )
            or "none",
        )
        for trace in traces_of(run, device_id)
    )


def _from_to(ends: tuple[float, float] | None, unit: str) -> str:
    return numbers.UNKNOWN if ends is None else f"{ends[0]:.0f} → {ends[1]:.0f} {unit}"


def trace_figure(run: Run, device_id: str) -> Drawing | None:
    """Draw what is known of clock, power and temperature over the time of the longest cases.

    Bars above the first panel mark when a case was throttled.
    """
    traces = traces_of(run, device_id)
    panels = [
        (field, unit) for field, unit in _SENSORS if any(trace.ends(field) for trace in traces)
    ]
    if not panels:
        return None
    device = next((d for d in run.devices if d.device_id == device_id), None)
    words = [
        f"{row.label} {row.regime} over {row.seconds}: clock {row.clock}, power {row.power}, "
        f"temperature {row.temperature}, throttling {row.throttle}"
        for row in trace_rows(run, device_id)
    ]
    names = [_NAMES[field] for field, _ in panels]
    return Drawing(
        figure=_trace_plot(traces, panels, device),
        title=f"{_all_of(names).capitalize()} while it ran",
        label=f"Line chart. {'; '.join(words)}.",
        sentence=_trace_sentence(traces, device),
    )


def _all_of(names: Sequence[str]) -> str:
    *before, last = names
    return f"{', '.join(before)} and {last}" if before else last


def _trace_sentence(traces: Sequence[Trace], device: Device | None) -> str:
    told = []
    ends = [(trace, found) for trace in traces if (found := trace.ends("sm_clock_mhz"))]
    if ends:
        trace, (first, last) = min(ends, key=lambda pair: pair[1][1] / max(pair[1][0], 1.0))
        kept = f"{trace.label} goes from {first:.0f} to {last:.0f} MHz in {trace.seconds:.1f} s"
        steady = abs(last / first - 1) < 0.01 if first else False
        told.append(
            "The clock stays where it began in every case." if steady else f"The clock of {kept}."
        )
    limit = device.limits.power_limit_w if device else None
    highest = max((p.power_w for t in traces for p in t.points if p.power_w), default=None)
    if highest is not None and limit:
        word = "reaches" if highest >= 0.97 * limit else "stays below"
        told.append(f"Power {word} the limit of {limit:.0f} W (greatest reading {highest:.0f} W).")
    if any(throttled(trace.points) for trace in traces):
        told.append("Bars above the first panel: a case was throttled then.")
    return " ".join(told) or "What the sensors said while the longest cases ran."


def _trace_plot(
    traces: Sequence[Trace], panels: Sequence[tuple[str, str]], device: Device | None
) -> Figure:
    panel, gap, bottom, legend = 105.0, 14.0, 36.0, 15.0 * ((len(traces) + 1) // 2) + 24
    height = legend + len(panels) * (panel + gap) - gap + bottom
    figure = empty_figure(height)
    for number, (field, unit) in enumerate(panels):
        top = legend + number * (panel + gap)
        axes = add_axes(figure, left=46, right=10, top=top, bottom=height - top - panel)
        quiet(axes)
        for index, trace in enumerate(traces):
            _trace_line(axes, trace, field, SERIES[index])
            if number == 0:
                _throttle_marks(axes, trace, SERIES[index], 1.03 + 0.035 * index)
        limit = device.limits.power_limit_w if device and field == "power_w" else None
        if limit:
            axes.axhline(limit, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        axes.set_ylabel(unit, color=MUTED, fontsize=SMALL)
        if number == len(panels) - 1:
            axes.set_xlabel("seconds", color=MUTED, fontsize=SMALL)
        else:
            axes.tick_params(labelbottom=False)
    _legend(figure, [f"{trace.label}, {trace.regime}" for trace in traces])
    return figure


def throttled(points: Sequence[TracePoint]) -> tuple[tuple[float, float, str], ...]:
    """Return from when to when, in seconds, which reasons held the clock back."""
    found: list[tuple[float, float, str]] = []
    for before, point in zip((None, *points), points, strict=False):
        if point.throttle_reasons:
            reasons = clean(", ".join(point.throttle_reasons))
            goes_on = found and before and before.throttle_reasons == point.throttle_reasons
            start = found.pop()[0] if goes_on else point.at_s
            found.append((start, point.at_s, reasons))
    return tuple(found)


def _throttle_marks(axes: Axes, trace: Trace, color: str, height: float) -> None:
    begin = trace.points[0].at_s
    for start, end, reasons in throttled(trace.points):
        (mark,) = axes.plot(
            [start - begin, end - begin], [height] * 2, transform=axes.get_xaxis_transform(),
            color=color, linewidth=3, clip_on=False, solid_capstyle="projecting",
        )  # fmt: skip
        tip(mark, f"{trace.label}: {reasons}, {start - begin:.1f} to {end - begin:.1f} s")


def _trace_line(axes: Axes, trace: Trace, field: str, color: str) -> None:
    known = [(p.at_s, getattr(p, field)) for p in trace.points if getattr(p, field) is not None]
    step = max(1, -(-len(known) // _MOST_POINTS))
    thinned = [*known[::step], *known[-1:]]
    start = trace.points[0].at_s
    axes.plot(
        [at - start for at, _ in thinned], [value for _, value in thinned], color=color,
        linewidth=1.6,
    )  # fmt: skip


def _legend(figure: Figure, names: Sequence[str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=SERIES[index], linewidth=2, label=shorten(name, 24))
        for index, name in enumerate(names)
    ]
    figure.legend(
        handles=handles, loc="upper left", ncols=2, frameon=False, labelcolor=INK, fontsize=SMALL,
        handlelength=1.2, borderpad=0, borderaxespad=0.5, columnspacing=1.5,
    )  # fmt: skip


def search_figure(label: str, measurement: Measurement, search: Search) -> Drawing | None:
    """Draw what a search saw over its time: anchors, candidates, and the best shape's rate."""
    seen = [step for step in search.steps if step.tflops]
    if len(seen) < _LEAST_POINTS:
        return None
    unit = unit_of(measurement)
    anchors = [step for step in seen if step.shape == search.anchor]
    others = [step for step in seen if step.shape != search.anchor]
    best = numbers.rate(search.best_tflops, unit)
    name = clean(label)
    return Drawing(
        figure=_search_plot(search, unit),
        title=f"Search for the best shape of {name}",
        label=(
            f"Scatter chart: {len(others)} looks at candidates and {len(anchors)} at the anchor "
            f"over {search.elapsed_s:.1f} s; best {triple_text(search.best)} with {best}."
        ),
        sentence=_search_sentence(search, best),
    )


def _search_sentence(search: Search, best: str) -> str:
    over = gain_over_anchor(search)
    told = f"{clean(search.sentence)} " if search.sentence else ""
    if search.best is None:
        return f"{told}No shape could be measured."
    told += f"The best shape is {triple_text(search.best)} with {best}"
    if over is None:
        return f"{told}."
    rates = [step.tflops for step in search.steps if step.shape == search.anchor and step.tflops]
    drift = min(rates) / max(rates)
    told += f", {numbers.gain(over)} against the anchor {triple_text(search.anchor)}"
    return f"{told}, whose own rate moved by {numbers.share(1 - drift)} meanwhile."


def _search_plot(search: Search, unit: str) -> Figure:
    figure = empty_figure(190.0)
    axes = add_axes(figure, left=46, right=10, top=26, bottom=36)
    quiet(axes)
    seen = [step for step in search.steps if step.tflops]
    greatest = max(step.tflops or 0.0 for step in seen)
    scale = numbers.scale_for(greatest, unit)
    kinds = (
        ("candidates", "o", SERIES[0], [s for s in seen if s.shape != search.anchor]),
        ("anchor", "D", SERIES[1], [s for s in seen if s.shape == search.anchor]),
    )
    for name, marker, color, steps in kinds:
        axes.plot(
            [s.at_s for s in steps], [(s.tflops or 0.0) * scale.factor for s in steps],
            linestyle="", marker=marker, markersize=4, color=color, label=name,
        )  # fmt: skip
    if search.best_tflops:
        axes.axhline(
            search.best_tflops * scale.factor, color=INK, linewidth=1, linestyle=(0, (3, 2)),
            label="best, confirmed",
        )  # fmt: skip
    axes.set_xlabel("seconds", color=MUTED, fontsize=SMALL)
    axes.set_ylabel(clean(scale.unit), color=MUTED, fontsize=SMALL, parse_math=False)
    axes.grid(color=GRID, linewidth=0.6)
    figure.legend(
        loc="upper left", ncols=3, frameon=False, labelcolor=INK, fontsize=SMALL,
        handlelength=1.2, borderpad=0, borderaxespad=0.5, columnspacing=1.5,
    )  # fmt: skip
    return figure
