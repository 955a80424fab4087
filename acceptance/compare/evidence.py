"""What a row's verdict rests on: the usable times of both sides, and how far they lie apart.

A time is microseconds per launch, or of a pointer chase nanoseconds per load. Times that are zero,
negative or not finite are no times; where a side has none, there is nothing to hold against.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from roofprobe.acceptance.compare import noise
from roofprobe.acceptance.compare.match import Match, Seen, measured
from roofprobe.acceptance.compare.statistics import Array, BetweenRuns, Interval, median_interval
from roofprobe.records.schema import Measurement

_FAST_TAIL = 10  # percentile
# Between a picosecond and thirty years; a time outside is no time.
_LEAST_TIME, _MOST_TIME = 1e-6, 1e15
_LEAST_CLOCK_MHZ, _MOST_CLOCK_MHZ = 1.0, 1e6


@dataclass(frozen=True, slots=True)
class Times:
    """One side's samples of a row, one array per run, all positive; and the clocks meanwhile."""

    measurements: tuple[Measurement, ...]
    samples: tuple[Array, ...]
    intervals: tuple[Interval, ...]
    raw: bool

    @property
    def pooled(self) -> Array:
        """Return all samples of all runs."""
        return np.concatenate(self.samples)

    @property
    def logs(self) -> Array:
        """Return the logarithm of each run's median."""
        values = np.array([interval.value for interval in self.intervals], dtype=np.float64)
        return np.asarray(np.log(values), dtype=np.float64)

    def tail(self) -> float:
        """Return the mean logarithm of the runs' fast tails."""
        return float(np.mean([math.log(np.percentile(s, _FAST_TAIL)) for s in self.samples]))

    def halfwidth(self) -> float:
        """Return the widest relative half width of the runs' intervals."""
        return max((i.high - i.low) / 2 / i.value for i in self.intervals)

    def drift(self) -> float:
        """Return the median over the runs of how far the samples moved while they were taken."""
        return float(np.median([
            noise.drift(s, (i.high - i.low) / 2 / i.value)
            for s, i in zip(self.samples, self.intervals, strict=True)
        ]))  # fmt: skip


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a row's verdict rests on; effects are logarithms of B over A."""

    match: Match
    a: Times
    b: Times
    between: BetweenRuns
    effect: float
    tail: float
    clock_change: float | None

    @property
    def several(self) -> bool:
        """Return whether there are several runs on a side, so that their spread is known."""
        return self.between.degrees > 0


def undisturbed(seen: Sequence[Seen]) -> list[Measurement]:
    """Return what was measured; of several runs those that others disturbed only if all were."""
    found = [measurement for _, measurement in measured(seen)]
    alone = [measurement for measurement in found if not noise.is_crowded([measurement])]
    return alone or found


def times_of(measurements: Sequence[Measurement]) -> Times | None:
    """Return the usable times of one side: positive and finite; None where there are none.

    The interval of a run's median is asked for only where there is one run.
    """
    usable = [(m, values) for m in measurements for values in [_values(m)] if values.size]
    if not usable:
        return None
    samples = tuple(values for _, values in usable)
    if len(usable) > 1:
        medians = [float(np.median(values)) for values in samples]
        intervals = [Interval(median, median, median) for median in medians]
    else:
        intervals = [_interval(*usable[0])]
    kept = tuple(m for m, _ in usable)
    return Times(kept, samples, tuple(intervals), all(m.samples_us for m in kept))


def _values(measurement: Measurement) -> Array:
    """Return the usable samples; of a record without samples its median."""
    latency = measurement.latency
    told = measurement.samples_us or ((latency.median,) if latency else ())
    scale = _scale(measurement)
    values = np.array([time * scale for time in told], dtype=np.float64)
    return values[(values >= _LEAST_TIME) & (values <= _MOST_TIME)]


def _interval(measurement: Measurement, values: Array) -> Interval:
    latency = measurement.latency
    if measurement.samples_us or latency is None:
        return median_interval(values)
    scale = _scale(measurement)
    low, high = (
        min(max(bound * scale, _LEAST_TIME), _MOST_TIME)
        for bound in (latency.ci_low, latency.ci_high)
    )
    return Interval(float(values[0]), low, high)


def _scale(measurement: Measurement) -> float:
    """Return what a sample is multiplied by: a pointer chase counts ns per load, not per pass."""
    per_load, latency = measurement.access_ns, measurement.latency
    if per_load is None or latency is None or latency.median <= 0:
        return 1.0
    return per_load.median / latency.median


def evidence_of(match: Match) -> Evidence | None:
    """Return what a comparable row's verdict rests on; None where a side has no usable time."""
    if match.obstacles:
        return None
    a, b = times_of(undisturbed(match.a)), times_of(undisturbed(match.b))
    if a is None or b is None:
        return None
    return Evidence(
        match=match,
        a=a,
        b=b,
        between=BetweenRuns(a.logs, b.logs),
        effect=float(b.logs.mean() - a.logs.mean()),
        tail=b.tail() - a.tail(),
        clock_change=clock_change(a.measurements, b.measurements),
    )


def median_clock_mhz(clocks_mhz: Iterable[float]) -> float | None:
    """Return the median of those that can be clocks; None where none is."""
    told = [clock for clock in clocks_mhz if _LEAST_CLOCK_MHZ <= clock <= _MOST_CLOCK_MHZ]
    return float(np.median(told)) if told else None


def clock_change(a: Sequence[Measurement], b: Sequence[Measurement]) -> float | None:
    """Return the logarithm of B's clock over A's, counted or else reported on both sides.

    For streams the memory's clock counts where it differs. None where a side has no clock.
    """
    readings: list[list[list[float]]] = [[], [], []]
    for side in (a, b):
        told = [m.telemetry for m in side if m.telemetry]
        if side and side[0].case.family == "memory":
            readings[0].append([t.mem_clock_mhz.median for t in told if t.mem_clock_mhz])
        readings[1].append([m.clock_mhz.median for m in side if m.clock_mhz])
        readings[2].append([t.sm_clock_mhz.median for t in told if t.sm_clock_mhz])
    changes = []
    for sides in readings:
        clocks = [clock for side in sides for clock in [median_clock_mhz(side)] if clock]
        if len(clocks) == 2:
            changes.append(math.log(clocks[1] / clocks[0]))
    if changes and changes[0] == 0 and len(changes) > 1 and a[0].case.family == "memory":
        return changes[1]
    return changes[0] if changes else None
