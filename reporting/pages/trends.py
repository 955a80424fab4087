"""One figure over all runs of the same devices, as a line small enough to stand beside its name.

A point is a run: the median over its devices of a kind. Only like is joined with like: runs of one
host, of the same devices by id and name, asked for the same tier, by the same method. A run beside
which others were at work is marked, and what changed is told between runs that were left alone. The
line spans the figures that were seen, not from zero, so that drifts of a few percent can be seen;
least and greatest stand beside.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING, Final

from roofprobe.records.summaries import RunSummary
from roofprobe.reporting import numbers
from roofprobe.reporting.plain_text import clean

if TYPE_CHECKING:
    from markupsafe import Markup

MOST_POINTS: Final = 100  # more cannot be told apart in a small line; the newest are kept
MOST_TRENDS: Final = 12  # of the same devices
MOST_GROUPS: Final = 40  # of devices; those whose latest run is the newest are kept
_WIDTH, _HEIGHT, _MARGIN = 240.0, 44.0, 5.0


@dataclass(frozen=True, slots=True)
class Trend:
    """One headline number of the same devices, oldest run first.

    ``kind`` says which devices of which host, and in which tier; ``change`` is between the first
    and the latest run that nobody disturbed, of which there must be two.
    """

    kind: str
    label: str
    n: int
    latest: str
    change: str
    span: str
    svg: Markup


@dataclass(frozen=True, slots=True)
class _Point:
    """A run's figure."""

    at: str
    value: float
    disturbed: bool


@dataclass(frozen=True, slots=True)
class _Group:
    """What runs must have in common to be one line."""

    kind: str
    host: str
    tier: str
    method: int
    simulated: bool
    devices: tuple[tuple[str, str], ...]  # ids and names

    def title(self) -> str:
        """Return the devices, their host and the tier in words."""
        many = f"{len(self.devices)} × " if len(self.devices) > 1 else ""
        made_up = ", simulated" if self.simulated else ""
        return f"{many}{clean(self.kind)} on {clean(self.host)}, {clean(self.tier)}{made_up}"


def trends_of(runs: Iterable[RunSummary]) -> tuple[Trend, ...]:
    """Return the trends of what at least two like runs have; ``runs`` are given oldest first."""
    found: dict[_Group, dict[tuple[str, str], list[_Point]]] = {}
    for run in runs:
        for group in _groups(run):
            lines = found.pop(group, {})
            found[group] = lines  # the newest last
            for key, point in _points(run, group):
                lines.setdefault(key, []).append(point)
    groups = [
        (group, lines)
        for group, lines in found.items()
        if any(len(points) > 1 for points in lines.values())
    ][-MOST_GROUPS:]
    titles: Counter[str] = Counter()
    trends: list[Trend] = []
    for group, lines in sorted(groups, key=lambda each: (each[0].kind, each[0].host)):
        title = group.title()
        titles[title] += 1
        if titles[title] > 1:
            title += f" ({titles[title]})"  # other devices or another method
        several = [(key, points) for key, points in lines.items() if len(points) > 1]
        trends += [_trend(title, *key, points) for key, points in several[:MOST_TRENDS]]
    return tuple(trends)


def _groups(run: RunSummary) -> tuple[_Group, ...]:
    kinds: dict[str, list[tuple[str, str]]] = {}
    for device in run.devices:
        kinds.setdefault(device.kind, []).append((device.device_id, device.name))
    return tuple(
        _Group(
            kind=kind, host=run.environment.host, tier=run.options.tier, method=run.method_version,
            simulated=run.simulated is not None, devices=tuple(sorted(devices)),
        )
        for kind, devices in kinds.items()
    )  # fmt: skip


def _points(run: RunSummary, group: _Group) -> Iterator[tuple[tuple[str, str], _Point]]:
    """Yield a run's figures of a group: the median over its devices, by label and unit."""
    ids = {device_id for device_id, _ in group.devices}
    here: dict[tuple[str, str], list[float]] = {}
    for each in run.headlines:
        if each.family in ("compute", "memory") and each.device_id in ids:
            here.setdefault((each.label, each.rate.unit), []).append(each.rate.median)
    disturbed = any(map(run.is_disturbed, ids))
    for key, values in here.items():
        yield key, _Point(run.started_at, median(values), disturbed)


def _trend(kind: str, label: str, unit: str, points: Sequence[_Point]) -> Trend:
    values = [point.value for point in points]
    low, high = min(values), max(values)
    scale = numbers.scale_for(high, unit)
    latest = f"{scale.number(values[-1])} {scale.unit}"
    quiet = [point.value for point in points if not point.disturbed]
    known = len(quiet) > 1 and quiet[0]
    change = numbers.gain(quiet[-1] / quiet[0]) if known else numbers.UNKNOWN
    what = clean(label)
    told = f"{what} on {kind} over {len(points)} runs: latest {latest}"
    told += f", {change} since the first" if known else ""
    if len(quiet) < len(points):
        told += f"; others were at work beside {len(points) - len(quiet)} of them"
    return Trend(
        kind=kind,
        label=what,
        n=len(points),
        latest=f"{latest} (others at work)" if points[-1].disturbed else latest,
        change=change,
        span=f"{scale.number(low)}–{scale.number(high)} {scale.unit}",
        svg=_line(points[-MOST_POINTS:], scale, told),
    )


def _line(points: Sequence[_Point], scale: numbers.Scale, told: str) -> Markup:
    """Draw the points one after the other; each tells its run's time and figure when pointed at."""
    from markupsafe import Markup

    values = [point.value for point in points]
    low, high = min(values), max(values)
    step = (_WIDTH - 2 * _MARGIN) / max(1, len(points) - 1)
    places = []
    for number, value in enumerate(values):
        up = (value - low) / (high - low) if high > low else 0.5
        across = _MARGIN + number * step
        places.append((f"{across:.1f}", f"{_HEIGHT - _MARGIN - up * (_HEIGHT - 2 * _MARGIN):.1f}"))
    dots = Markup("").join(
        Markup('<circle cx="{}" cy="{}" r="2.5"{}><title>{}</title></circle>').format(
            x,
            y,
            Markup(' class="disturbed"') if point.disturbed else "",
            f"{clean(point.at)}: {scale.number(point.value)} {scale.unit}"
            + (", others were at work" if point.disturbed else ""),
        )
        for (x, y), point in zip(places, points, strict=True)
    )
    line = " ".join(f"{x},{y}" for x, y in places)
    return Markup(
        '<svg class="trend" viewBox="0 0 240 44" role="img" aria-label="{}">'
        '<polyline points="{}"/>{}</svg>'
    ).format(told, line, dots)
