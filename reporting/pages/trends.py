"""One figure over all runs of a kind of device, as a line small enough to stand beside its name.

A point is a run: the median over its devices of that kind. The line spans the figures that were
seen, not from zero, so that drifts of a few percent can be seen; least and greatest stand beside.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from roofprobe.records.summaries import RunSummary
from roofprobe.reporting import numbers
from roofprobe.reporting.plain_text import clean

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_POINTS: Final = 100  # more cannot be told apart in a small line; the newest are kept
MOST_TRENDS: Final = 12  # of one kind of device
_WIDTH, _HEIGHT, _MARGIN = 240.0, 44.0, 5.0


@dataclass(frozen=True, slots=True)
class Trend:
    """One headline number of one kind of device, oldest run first."""

    kind: str
    label: str
    n: int
    latest: str
    change: str
    span: str
    svg: Markup


def trends_of(runs: Iterable[RunSummary]) -> tuple[Trend, ...]:
    """Return the trends of what at least two runs have; ``runs`` are given oldest first."""
    found: dict[tuple[str, str, str], list[tuple[str, float]]] = {}
    for run in runs:
        kinds = {device.device_id: device.kind for device in run.devices}
        here: dict[tuple[str, str, str], list[float]] = {}
        for each in run.headlines:
            if each.family in ("compute", "memory") and each.device_id in kinds:
                key = (kinds[each.device_id], each.label, each.rate.unit)
                here.setdefault(key, []).append(each.rate.median)
        for key, values in here.items():
            found.setdefault(key, []).append((run.started_at, median(values)))
    shown: dict[str, int] = {}
    trends = []
    for (kind, label, unit), points in sorted(found.items(), key=lambda each: each[0][0]):
        if len(points) > 1 and shown.get(kind, 0) < MOST_TRENDS:
            shown[kind] = shown.get(kind, 0) + 1
            trends.append(_trend(kind, label, unit, points))
    return tuple(trends)


def _trend(kind: str, label: str, unit: str, points: Sequence[tuple[str, float]]) -> Trend:
    values = [value for _, value in points]
    low, high = min(values), max(values)
    scale = numbers.scale_for(high, unit)
    latest = f"{scale.number(values[-1])} {scale.unit}"
    change = numbers.gain(values[-1] / values[0]) if values[0] else numbers.UNKNOWN
    name, what = clean(kind), clean(label)
    told = f"{what} on {name} over {len(points)} runs: latest {latest}, {change} since the first"
    return Trend(
        kind=name,
        label=what,
        n=len(points),
        latest=latest,
        change=change,
        span=f"{scale.number(low)}–{scale.number(high)} {scale.unit}",
        svg=_line(points[-MOST_POINTS:], scale, told),
    )


def _line(points: Sequence[tuple[str, float]], scale: numbers.Scale, told: str) -> Markup:
    """Draw the points one after the other; each tells its run's time and figure when pointed at."""
    from markupsafe import Markup

    values = [value for _, value in points]
    low, high = min(values), max(values)
    step = (_WIDTH - 2 * _MARGIN) / max(1, len(points) - 1)
    places = []
    for number, value in enumerate(values):
        up = (value - low) / (high - low) if high > low else 0.5
        across = _MARGIN + number * step
        places.append((f"{across:.1f}", f"{_HEIGHT - _MARGIN - up * (_HEIGHT - 2 * _MARGIN):.1f}"))
    dots = Markup("").join(
        Markup('<circle cx="{}" cy="{}" r="2.5"><title>{}</title></circle>').format(
            x, y, f"{clean(at)}: {scale.number(value)} {scale.unit}"
        )
        for (x, y), (at, value) in zip(places, points, strict=True)
    )
    line = " ".join(f"{x},{y}" for x, y in places)
    return Markup(
        '<svg class="trend" viewBox="0 0 240 44" role="img" aria-label="{}">'
        '<polyline points="{}"/>{}</svg>'
    ).format(told, line, dots)
