"""Impossible is invalid: a figure above what physics allows proves the measurement wrong.

Only a physical bound can do that: memory pins × clock, with half a percent for the timer, and the
arithmetic peak of the pipe that did the work, at the device's highest clock (twice that of dense
products where half of the operands are zeros that the unit skips). A datasheet is no bound: some
cards boost above it. Cache-resident arrays, compressible data, sparse peaks taken for dense and
loops that a compiler removed are how it happens.
"""

from __future__ import annotations

from collections.abc import Sequence

from roofprobe.records.ceilings import ceiling_for
from roofprobe.records.schema import Ceiling, Measurement, Reason

TIMER_SLACK = 0.005


def invalidate(
    measurements: Sequence[Measurement], ceilings: Sequence[Ceiling]
) -> tuple[Measurement, ...]:
    """Return ``measurements`` with the impossible ones marked ``invalid``; samples are kept."""
    bounds = [ceiling for ceiling in ceilings if ceiling.physical_bound]
    return tuple(_judged(measurement, bounds) for measurement in measurements)


def _judged(measurement: Measurement, bounds: Sequence[Ceiling]) -> Measurement:
    if measurement.status != "ok" or measurement.rate is None:
        return measurement
    bound = ceiling_for(measurement, "derived", bounds)
    median = measurement.rate.median
    if bound is None or median <= bound.value * (1 + TIMER_SLACK):
        return measurement
    reason = Reason(
        code="above-peak",
        sentence=f"{median:.4g} {measurement.rate.unit} is above the physical bound of "
        f"{bound.value:.4g} {bound.unit} ({bound.basis}): {_cause(measurement)}, or the clock was "
        "misread",
        remedy="do not use the figure; please report the run",
    )
    return measurement.model_copy(update={"status": "invalid", "reason": reason})


def _cause(measurement: Measurement) -> str:
    if measurement.case.family == "memory":
        return "part of the data came from a cache or was compressed"
    if measurement.case.role == "pipe":
        return "the compiler removed part of the work"
    return "the operations counted were not all done"
