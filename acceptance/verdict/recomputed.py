"""What the measurements say, whatever the rest of the record says about them.

Ceilings, validity and headlines follow from devices and measurements, so a verdict makes them anew.
A record that says something else was changed, damaged or written by a faulty version: the
contradiction is told, and the measurements are judged.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator

from pydantic import ValidationError

from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.verdict.subject import with_rows
from roofprobe.acceptance.verdict.validity import invalidate
from roofprobe.records.ceilings import ceilings_of
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.headlines import headlines_of
from roofprobe.records.schema import METHOD_VERSION, Finding, Headline, Measurement, Run

# Figures that follow from each other may differ by rounding and by how a median of an even number
# of samples is taken, not by more.
_ROUNDING = 0.02
_MOST_TOLD = 3


def recomputed(run: Run) -> Run:
    """Return the run with ceilings, validity and headlines as its measurements give them.

    Raises ``RoofprobeError`` (``damaged-run``) for numbers so large that nothing follows from them.
    """
    try:
        return _recomputed(run)
    except (ValidationError, OverflowError) as error:
        raise RoofprobeError(
            "damaged-run",
            f"the run {run.run_id} holds numbers that no device has; it was changed or damaged",
        ) from error


def _recomputed(run: Run) -> Run:
    devices = with_rows(run.devices)
    ceilings = tuple(ceiling for device in devices for ceiling in ceilings_of(device))
    measurements = invalidate(run.measurements, ceilings)
    return run.model_copy(
        update={
            "devices": devices,
            "ceilings": ceilings,
            "measurements": measurements,
            "retests": invalidate(run.retests, ceilings),
            "headlines": headlines_of(devices, measurements, ceilings),
        }
    )


def record(stored: Run, fresh: Run) -> Iterator[Finding]:
    """Say whether the record agrees with itself, and by which method it was measured."""
    wrong = list(_contradictions(stored, fresh))
    if wrong:
        more = f" (and {len(wrong) - _MOST_TOLD} more)" if len(wrong) > _MOST_TOLD else ""
        yield finding(
            "RP-RECORD", "unknown",
            f"The record contradicts itself: {'; '.join(wrong[:_MOST_TOLD])}{more}",
            figure=float(len(wrong)), bound=0.0, unit="contradictions",
        )  # fmt: skip
    else:
        yield finding("RP-RECORD", "pass", "The record agrees with itself")
    if stored.method_version != METHOD_VERSION:
        age = "an older" if stored.method_version < METHOD_VERSION else "a newer"
        yield finding(
            "RP-METHOD", "warn",
            f"The run was measured by {age} method ({stored.method_version}; this version judges "
            f"by {METHOD_VERSION}): it is judged by what it has",
            figure=float(stored.method_version), bound=float(METHOD_VERSION), unit="method version",
        )  # fmt: skip


def _contradictions(stored: Run, fresh: Run) -> Iterator[str]:
    known = {device.device_id for device in stored.devices}
    if len(known) < len(stored.devices):
        yield "two devices have the same id"
    strangers = {m.device_id for m in stored.measurements} | set(stored.planned)
    for stranger in sorted(strangers - known):
        yield f"the device {stranger} of measurements or plan is not in the record"
    measured = (*stored.measurements, *stored.retests)
    counts = Counter((m.device_id, m.case.case_id) for m in measured)
    for (_, case_id), count in counts.items():
        if count > 1:
            yield f"the case {case_id} is there {count} times"
    for measurement in measured:
        yield from _inconsistent(measurement)
    yield from _headlines(stored, fresh)


def _inconsistent(measurement: Measurement) -> Iterator[str]:
    """Yield what speaks against a figure in its own measurement: samples, time, work and rate."""
    case_id, latency, rate = measurement.case.case_id, measurement.latency, measurement.rate
    if measurement.status != "ok" or latency is None:
        return
    if measurement.samples_us:
        median = statistics.median(measurement.samples_us)
        if _differ(median, latency.median):
            yield f"{case_id}: the samples' median is {median:.4g} us, not {latency.median:.4g} us"
    if rate is None or not latency.median:
        return
    if rate.unit == "GB/s":
        work = ((measurement.bytes_read or 0) + (measurement.bytes_written or 0)) / 1e3
    else:
        work = (measurement.flops or 0) / 1e6
    expected = work / latency.median
    if work and _differ(rate.median, expected):
        yield (
            f"{case_id}: its work in {latency.median:.4g} us is {expected:.4g} {rate.unit}, not "
            f"{rate.median:.4g}"
        )


def _headlines(stored: Run, fresh: Run) -> Iterator[str]:
    """Yield headlines whose figure is not that of the case which they name, or that are missing."""
    rates = {
        (m.device_id, m.case.case_id): m.rate.median
        for m in fresh.measurements
        if m.rate is not None and m.status == "ok"
    }
    for headline in stored.headlines:
        rate = rates.get((headline.device_id, headline.case_id))
        if rate is None:
            yield f"the headline {headline.label} has no valid measurement"
        elif _differ(rate, headline.rate.median):
            yield (
                f"the headline {headline.label} is {headline.rate.median:.4g} "
                f"{headline.rate.unit}, its measurement {rate:.4g}"
            )
    if stored.method_version != METHOD_VERSION:
        return  # another method may have chosen its headlines otherwise
    told = {_key(headline) for headline in stored.headlines}
    for headline in fresh.headlines:
        if _key(headline) not in told:
            yield f"the measurements have a headline {headline.label} that the record has not"


def _key(headline: Headline) -> tuple[str, str, str]:
    return headline.device_id, headline.family, headline.label


def _differ(one: float, other: float) -> bool:
    return abs(one - other) > _ROUNDING * max(abs(one), abs(other))
