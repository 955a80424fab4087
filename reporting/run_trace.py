"""Clock, power and temperature over the whole run, with what was measured and when it throttled.

Every case says when it began and what the sensors read meanwhile; laid end to end they are the
device's diary. A clock that sinks over the run is heat, one that sinks with each heavy family is
power. Where the device counts its own cycles, a case's counted clock stands in for a driver that
merely states one. Readings are gathered in at most 120 steps: the line is the median of each step,
the band behind it spans all readings, so that no dip is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from statistics import median
from typing import TYPE_CHECKING

from roofprobe.records.ceilings import clock_mhz_of
from roofprobe.records.schema import Device, Measurement, Run
from roofprobe.reporting import numbers
from roofprobe.reporting.beside import Beside
from roofprobe.reporting.drawing import SMALL, Drawing, add_axes, empty_figure, quiet
from roofprobe.reporting.exhibit import Exhibit
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.small_table import SmallTable
from roofprobe.reporting.svg import BAR, INK, MUTED, SERIES, TRACK, tip
from roofprobe.reporting.tables import measurements_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SENSORS = (("clock", "MHz"), ("power", "W"), ("temperature", "°C"))
_STEPS = 120
_LEAST_READINGS = 8


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a sensor, seconds after the run began, and the family that ran."""

    at_s: float
    value: float
    family: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which one thing held: a family ran, or the clock was held back."""

    start_s: float
    end_s: float
    what: str


@dataclass(frozen=True, slots=True)
class Diary:
    """What a device's sensors said over a run, and what went on meanwhile."""

    readings: dict[str, tuple[Reading, ...]]
    families: tuple[Stretch, ...]
    throttled: tuple[Stretch, ...]
    throttling_told: bool

    @property
    def end_s(self) -> float:
        """When the last case ended."""
        return self.families[-1].end_s


def diary_of(run: Run, device_id: str) -> Diary | None:
    """Return the diary of a device; None where nothing was read or nothing ever moved."""
    begun = _seconds(run.started_at)
    timed = [
        (at - begun, m)
        for m in measurements_of(run, device_id)
        if begun is not None and (at := _seconds(m.started_at)) is not None and at >= begun
    ]
    timed.sort(key=lambda pair: pair[0])
    readings = {name: tuple(_readings(timed, name)) for name, _ in _SENSORS}
    known = {
        name: found
        for name, found in readings.items()
        if len(found) >= _LEAST_READINGS and len({r.value for r in found}) > 1
    }
    if not known:
        return None
    return Diary(
        known,
        _joined(Stretch(at, at + (m.wall_s or 0.0), m.case.family) for at, m in timed),
        _joined(_throttled(timed)),
        any("throttle_reasons" not in m.telemetry.missing for _, m in timed if m.telemetry),
    )


def _seconds(text: str | None) -> float | None:
    try:
        return datetime.fromisoformat(text).timestamp() if text else None
    except ValueError:
        return None


def _readings(timed: Sequence[tuple[float, Measurement]], name: str) -> Iterable[Reading]:
    field = {"clock": "sm_clock_mhz", "power": "power_w", "temperature": "temperature_c"}[name]
    told = [m.telemetry for _, m in timed if m.telemetry]
    stated = len({getattr(point, field) for t in told for point in t.trace} - {None}) < 2
    for at, m in timed:
        if name == "clock" and m.clock_mhz is not None:
            clock, _ = clock_mhz_of(m)
            if clock:
                yield Reading(at + (m.wall_s or 0.0) / 2, clock, m.case.family)
            continue
        for point in m.telemetry.trace if m.telemetry and not stated else ():
            value = getattr(point, field)
            if value is not None:
                yield Reading(at + point.at_s, value, m.case.family)


def _throttled(timed: Sequence[tuple[float, Measurement]]) -> Iterable[Stretch]:
    for at, m in timed:
        points = m.telemetry.trace if m.telemetry else ()
        for number, point in enumerate(points):
            if point.throttle_reasons:
                end = points[min(number + 1, len(points) - 1)].at_s
                yield Stretch(at + point.at_s, at + end, clean(", ".join(point.throttle_reasons)))
        if not points and m.telemetry and m.telemetry.throttle_reasons:
            words = clean(", ".join(m.telemetry.throttle_reasons))
            yield Stretch(at, at + (m.wall_s or 0.0), words)


def _joined(stretches: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """Join neighbours that say the same."""
    found: list[Stretch] = []
    for stretch in stretches:
        if found and found[-1].what == stretch.what:
            last = found.pop()
            stretch = Stretch(last.start_s, max(last.end_s, stretch.end_s), last.what)
        found.append(stretch)
    return tuple(found)


def run_trace(run: Run, device_id: str, beside: Beside) -> Exhibit | None:
    """Return the run's diary; None where no sensor told anything that moved."""
    diary = diary_of(run, device_id)
    if diary is None:
        return None
    device = next((d for d in run.devices if d.device_id == device_id), None)
    rows = _rows(diary)
    heads = ("measured", "time", *diary.readings)
    if diary.throttling_told:
        heads = (*heads, "throttled")
    words = "; ".join(
        ", ".join(f"{head} {cell}" for head, cell in zip(heads, row, strict=True)) for row in rows
    )
    drawing = Drawing(
        figure=_figure(diary, device),
        title=f"{', '.join(diary.readings).capitalize()} over the run",
        label=f"Line chart over {numbers.seconds(diary.end_s)}. {words}.",
        sentence=_sentence(diary, device),
    )
    return Exhibit(
        "The run as the sensors saw it",
        "What was measured when, and how the device fared meanwhile.",
        (drawing,),
        (
            SmallTable(
                "By family",
                "Median (least to greatest) of all readings while a family was measured.",
                heads,
                rows,
            ),
        ),
    )


def _rows(diary: Diary) -> tuple[tuple[str, ...], ...]:
    rows = []
    for family in dict.fromkeys(stretch.what for stretch in diary.families):
        own = [stretch for stretch in diary.families if stretch.what == family]
        spent = sum(stretch.end_s - stretch.start_s for stretch in own)
        held = sum(
            max(0.0, min(t.end_s, s.end_s) - max(t.start_s, s.start_s))
            for t in diary.throttled
            for s in own
        )
        cells = (
            _span([r.value for r in found if r.family == family], unit)
            for name, unit in _SENSORS
            if (found := diary.readings.get(name)) is not None
        )
        told = (numbers.seconds(held) if held else "no",) if diary.throttling_told else ()
        rows.append((family, numbers.seconds(spent), *cells, *told))
    return tuple(rows)


def _span(values: Sequence[float], unit: str) -> str:
    if not values:
        return numbers.UNKNOWN
    return f"{median(values):.0f} ({min(values):.0f}–{max(values):.0f}) {unit}"


def _sentence(diary: Diary, device: Device | None) -> str:
    told = []
    if clocks := diary.readings.get("clock"):
        low = min(clocks, key=lambda reading: reading.value)
        high = max(reading.value for reading in clocks)
        told.append(
            f"The clock stays between {low.value:.0f} and {high:.0f} MHz and is lowest at "
            f"{numbers.seconds(low.at_s)}, in {low.family}."
        )
    limit = device.limits.power_limit_w if device else None
    if (powers := diary.readings.get("power")) and limit:
        most = max(powers, key=lambda reading: reading.value)
        told.append(
            f"Power reads at most {most.value:.0f} W of its limit of {limit:.0f} W, in "
            f"{most.family}."
        )
    if warm := diary.readings.get("temperature"):
        told.append(
            f"It goes from {warm[0].value:.0f} °C at the begin to {warm[-1].value:.0f} °C at the "
            f"end, {max(reading.value for reading in warm):.0f} °C at most."
        )
    if diary.throttled:
        reasons = ", ".join(dict.fromkeys(stretch.what for stretch in diary.throttled))
        held = sum(stretch.end_s - stretch.start_s for stretch in diary.throttled)
        told.append(f"It was held back for {numbers.seconds(held)} ({reasons}).")
    elif diary.throttling_told:
        told.append("It was never held back.")
    return " ".join(told)


def _figure(diary: Diary, device: Device | None) -> Figure:
    panel, gap, top, bottom = 84.0, 12.0, 62.0, 36.0
    count = len(diary.readings)
    height = top + count * panel + (count - 1) * gap + bottom
    figure = empty_figure(height)
    units = dict(_SENSORS)
    scale = 60.0 if diary.end_s >= 120 else 1.0
    colors = {
        family: SERIES[number % len(SERIES)]
        for number, family in enumerate(dict.fromkeys(s.what for s in diary.families))
    }
    for number, (name, readings) in enumerate(diary.readings.items()):
        above = top + number * (panel + gap)
        axes = add_axes(figure, left=46, right=10, top=above, bottom=height - above - panel)
        quiet(axes)
        axes.set_xlim(0, diary.end_s / scale)
        _line(axes, readings, diary.end_s, scale)
        axes.set_ylabel(f"{name}, {units[name]}", color=MUTED, fontsize=SMALL)
        limit = device.limits.power_limit_w if device and name == "power" else None
        if limit:
            axes.axhline(limit, color=INK, linewidth=1, linestyle=(0, (3, 2)))
        if number == 0:
            _bands(axes, diary, colors, scale)
        if number < count - 1:
            axes.tick_params(labelbottom=False)
        else:
            words = "minutes" if scale > 1 else "seconds"
            axes.set_xlabel(f"{words} since the run began", color=MUTED, fontsize=SMALL)
    _legend(figure, diary, colors)
    return figure


def _line(axes: Axes, readings: Sequence[Reading], end_s: float, scale: float) -> None:
    """Draw the median of each step and the span of all its readings."""
    steps: dict[int, list[float]] = {}
    for reading in readings:
        step = min(_STEPS - 1, int(reading.at_s / end_s * _STEPS)) if end_s else 0
        steps.setdefault(step, []).append(reading.value)
    at = [(step + 0.5) * end_s / _STEPS / scale for step in sorted(steps)]
    found = [steps[step] for step in sorted(steps)]
    axes.fill_between(at, [*map(min, found)], [*map(max, found)], color=TRACK, linewidth=0)
    axes.plot(at, [*map(median, found)], color=BAR, linewidth=1.4)


def _bands(axes: Axes, diary: Diary, colors: dict[str, str], scale: float) -> None:
    """Draw above a panel which family ran, and above that when the clock was held back."""
    where = axes.get_xaxis_transform()
    for stretch in diary.families:
        (band,) = axes.plot(
            [stretch.start_s / scale, stretch.end_s / scale], [1.07, 1.07], transform=where,
            color=colors[stretch.what], linewidth=5, clip_on=False, solid_capstyle="butt",
        )  # fmt: skip
        tip(band, _told(stretch))
    for stretch in diary.throttled:
        (mark,) = axes.plot(
            [stretch.start_s / scale, stretch.end_s / scale], [1.16, 1.16], transform=where,
            color=INK, linewidth=3, clip_on=False, solid_capstyle="projecting",
        )  # fmt: skip
        tip(mark, f"throttled, {_told(stretch)}")


def _told(stretch: Stretch) -> str:
    return (
        f"{clean(stretch.what)}: {numbers.seconds(stretch.start_s)} to "
        f"{numbers.seconds(stretch.end_s)}"
    )


def _legend(figure: Figure, diary: Diary, colors: dict[str, str]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=color, linewidth=5, label=clean(family))
        for family, color in colors.items()
    ]
    if diary.throttled:
        handles.append(Line2D([], [], color=INK, linewidth=3, label="throttled"))
    figure.legend(
        handles=handles, loc="upper left", ncols=4, frameon=False, labelcolor=INK, fontsize=SMALL,
        handlelength=1.0, borderpad=0, borderaxespad=0.5, columnspacing=1.2,
    )  # fmt: skip
