"""Impossible is invalid: a figure above what physics allows proves the measurement wrong.

Only a physical bound can do that: memory pins × clock, with half a percent for the timer, and the
arithmetic peak of the pipe that did the work, at the device's highest clock (twice that of dense
products where half of the operands are zeros that the unit skips). A datasheet is no bound: some
cards boost above it. Cache-resident arrays, compressible data, sparse peaks taken for dense and
loops that a compiler removed are how it happens. Where the driver tells a bandwidth in two ways
that differ, the greater one bounds: below it, the figure proves nothing.

A figure can also be impossibly low: a stream over device memory that reaches less than a tenth of
the pins was divided by the wrong unit, or the device is not in a state to be measured. What stays
in a cache is held against no pins. A copy engine that comes within 5 % of the pins is not
impossible but unheard of (published: 44 to 92 %): it gets a note that asks for a repeat.
"""

from __future__ import annotations

from collections.abc import Sequence

from roofprobe.records.ceilings import ceilings_for
from roofprobe.records.schema import Ceiling, Measurement, Note, Reason
from roofprobe.records.wording import rate_words

TIMER_SLACK = 0.005
LEAST_SHARE = 0.1
SUSPECT_COPY_ENGINE_SHARE = 0.95


def invalidate(
    measurements: Sequence[Measurement], ceilings: Sequence[Ceiling]
) -> tuple[Measurement, ...]:
    """Return ``measurements`` with the impossible ones marked ``invalid``; samples are kept."""
    bounds = [ceiling for ceiling in ceilings if ceiling.physical_bound]
    return tuple(_judged(measurement, bounds) for measurement in measurements)


def _judged(measurement: Measurement, bounds: Sequence[Ceiling]) -> Measurement:
    if measurement.status == "ok" and measurement.case.family == "llm":
        reason = _above_every_pipe(measurement, bounds)
        return measurement if reason is None else _invalid(measurement, reason)
    if measurement.status != "ok" or measurement.rate is None:
        return measurement
    found = ceilings_for(measurement, "derived", bounds)
    bound = max(found, key=lambda ceiling: ceiling.value, default=None)
    if bound is None:
        return measurement
    share = measurement.rate.median / bound.value
    if share > 1 + TIMER_SLACK:
        return _invalid(measurement, _above(measurement, measurement.rate.median, bound))
    if share < LEAST_SHARE and _streams_memory(measurement):
        return _invalid(measurement, _below(measurement, measurement.rate.median, bound))
    if share > SUSPECT_COPY_ENGINE_SHARE and measurement.case.engine == "copy-engine":
        return _suspect(measurement, share)
    return measurement


def _above_every_pipe(measurement: Measurement, bounds: Sequence[Ceiling]) -> Reason | None:
    """Return why a model's operation cannot have been that fast, or None.

    Such an operation has no headline and no ceiling of its own, and may work in any of a device's
    pipes: the fastest for its precision bounds it, or of all where none is for that precision.
    Bytes prove nothing here: what the operation before left in a cache need not be read.
    """
    if not measurement.flops or measurement.latency is None:
        return None
    own = [
        bound
        for bound in bounds
        if bound.device_id == measurement.device_id
        and bound.family == "compute"
        and bound.sparsity is None
    ]
    same = [bound for bound in own if bound.precision == measurement.case.precision]
    bound = max(same or own, key=lambda each: each.value, default=None)
    reached = measurement.flops / measurement.latency.median * 1e-6
    if bound is None or reached <= bound.value * (1 + TIMER_SLACK):
        return None
    return Reason(
        code="above-peak",
        sentence=f"{rate_words(reached, bound.unit)} is above the physical bound of "
        f"{rate_words(bound.value, bound.unit)} ({bound.basis}): the work was not all done, "
        "or time or clock were misread",
        remedy="do not use the figure; please report the run",
    )


def _invalid(measurement: Measurement, reason: Reason) -> Measurement:
    return measurement.model_copy(update={"status": "invalid", "reason": reason})


def _above(measurement: Measurement, median: float, bound: Ceiling) -> Reason:
    assert measurement.rate is not None
    return Reason(
        code="cache-resident" if measurement.case.family == "memory" else "above-peak",
        sentence=f"{rate_words(median, measurement.rate.unit)} is above the physical bound of "
        f"{rate_words(bound.value, bound.unit)} ({bound.basis}): {_cause(measurement)}, "
        "or the clock was misread",
        remedy="do not use the figure; please report the run",
    )


def _below(measurement: Measurement, median: float, bound: Ceiling) -> Reason:
    assert measurement.rate is not None
    return Reason(
        code="unit-or-state",
        sentence=f"{rate_words(median, measurement.rate.unit)} is less than a tenth of "
        f"{rate_words(bound.value, bound.unit)} ({bound.basis}): a unit was mixed up, "
        "or the device was idle, shared or faulty",
        remedy="look at its clocks and at other processes, and repeat",
    )


def _streams_memory(measurement: Measurement) -> bool:
    """Whether a case streams through device memory at a fixed size, as the health of it demands."""
    case = measurement.case
    return case.family == "memory" and case.role == "anchor" and case.convention == "read+write"


def _suspect(measurement: Measurement, share: float) -> Measurement:
    note = Note(
        code="suspect-copy-engine",
        sentence=f"the copy engine reaches {share:.0%} of the pins, more than any published one; "
        "repeat before using it",
        figures={"share": share},
    )
    if note.code in {known.code for known in measurement.notes}:
        return measurement
    return measurement.model_copy(update={"notes": (*measurement.notes, note)})


def _cause(measurement: Measurement) -> str:
    if measurement.case.family == "memory":
        return "part of the data came from a cache or was compressed"
    if measurement.case.family == "interconnect":
        return "the copy was not waited for, or took another link"
    if measurement.case.role == "pipe":
        return "the compiler removed part of the work"
    return "the operations counted were not all done"
