"""The two long tables of a report: measurements with their conditions, and every peak."""

from __future__ import annotations

from dataclasses import dataclass

from roofprobe.records.ceilings import clock_mhz_of
from roofprobe.records.schema import Ceiling, Measurement, Run, Status
from roofprobe.records.titles import label_of
from roofprobe.reporting import numbers
from roofprobe.reporting.budget import PAGE, chosen
from roofprobe.reporting.marks import marked
from roofprobe.reporting.naming import kernel_text, shape_text, variant_text
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.tables import clock_text, measurements_of


@dataclass(frozen=True, slots=True)
class MeasurementRow:
    """One measurement in the table of all of them; ``label`` is its line, ``role`` why it is."""

    status: Status
    op: str
    label: str
    role: str
    route: str
    kernel: str
    shape: str
    variant: str
    regime: str
    rate: str
    spread: str
    range: str
    latency: str
    error: str
    sm_clock: str
    power: str
    energy: str
    reason: str


@dataclass(frozen=True, slots=True)
class CeilingRow:
    """What a device should reach in one quantity and how that is known."""

    quantity: str
    kind: str
    value: str
    clock: str
    basis: str
    sources: tuple[str, ...]


def measurement_rows(
    run: Run, device_id: str, most: int = PAGE.measurements
) -> tuple[MeasurementRow, ...]:
    """Return a device's measurements in the order of the run, at most ``most`` of them."""
    own = measurements_of(run, device_id)
    return tuple(_measurement_row(m) for m in chosen(run, device_id, own, most))


def _measurement_row(m: Measurement) -> MeasurementRow:
    scale = numbers.scale_for(m.rate.median, m.rate.unit) if m.rate else None
    power = m.telemetry.power_w if m.telemetry else None
    clock, counted = clock_mhz_of(m)
    fallback = m.identity.fallback if m.identity else None
    said = [m.reason.sentence if m.reason else None, f"Fallback: {fallback}" if fallback else None]
    return MeasurementRow(
        status=m.status,
        op=clean(m.case.op),
        label=clean(label_of(m.case) if m.case.family == "compute" else m.case.precision),
        role=m.case.role,
        route=clean(m.case.route),
        kernel=kernel_text(m),
        shape=shape_text(m.case, m.array_bytes) or numbers.UNKNOWN,
        variant=variant_text(m.case),
        regime=m.case.regime,
        rate=marked(clean(numbers.rate(m.rate.median, m.rate.unit)), m)
        if m.rate
        else numbers.UNKNOWN,
        spread=numbers.spread(m.rate, scale) if m.rate else numbers.UNKNOWN,
        range=numbers.range_text(m.rate, scale) if m.rate and scale else numbers.UNKNOWN,
        latency=marked(numbers.duration_us(m.latency.median if m.latency else None), m),
        error=f"{m.correctness.error:.1e}" if m.correctness else numbers.UNKNOWN,
        sm_clock=clock_text(clock, counted=counted),
        power=f"{power.median:.0f} W" if power else numbers.UNKNOWN,
        energy=numbers.energy(m.energy_j_per_tflop),
        reason=clean(" ".join(part for part in said if part)),
    )


def ceiling_rows(run: Run, device_id: str) -> tuple[CeilingRow, ...]:
    """Return a device's datasheet and derived peaks with what they rest on.

    A peak that serves both a matrix product and the vector pipe is one row.
    """
    rows = (_ceiling_row(ceiling) for ceiling in run.ceilings if ceiling.device_id == device_id)
    return tuple(dict.fromkeys(rows))


def _ceiling_row(ceiling: Ceiling) -> CeilingRow:
    quantity = f"{ceiling.peak_key}{f', {ceiling.sparsity} sparse' if ceiling.sparsity else ''}"
    return CeilingRow(
        quantity=clean(quantity),
        kind=f"{ceiling.kind}, assumed" if ceiling.assumed else ceiling.kind,
        value=clean(numbers.rate(ceiling.value, ceiling.unit)),
        clock=clock_text(ceiling.clock_mhz),
        basis=clean(ceiling.basis),
        sources=tuple(clean(source) for source in ceiling.sources),
    )
