"""Headlines: of all cases of a precision or a memory kernel, the best valid one and its peaks."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from roofprobe.records.schema import Ceiling, Device, Headline, Measurement


def headlines_of(
    devices: Sequence[Device],
    measurements: Sequence[Measurement],
    ceilings: Sequence[Ceiling],
) -> tuple[Headline, ...]:
    """Return one headline per device and label, in the order in which the labels were planned.

    A label is a precision, or a memory kernel with its element type (``copy fp32``; the copy
    engine apart). Only ``ok`` measurements compete; the highest median wins.
    """
    found = []
    for device in devices:
        groups: dict[tuple[str, str], list[Measurement]] = {}
        for measurement in measurements:
            if measurement.device_id == device.device_id and measurement.status == "ok":
                key = (measurement.case.family, label_of(measurement))
                groups.setdefault(key, []).append(measurement)
        own = [ceiling for ceiling in ceilings if ceiling.device_id == device.device_id]
        for (_, label), group in groups.items():
            best = max(group, key=lambda m: m.rate.median if m.rate else 0.0)
            found.append(_headline(device, label, best, own))
    return tuple(found)


def label_of(measurement: Measurement) -> str:
    """Return the name of the line that a measurement competes for."""
    case = measurement.case
    if case.family == "compute":
        return case.precision + (f" {case.sparsity} sparse" if case.sparsity else "")
    engine = " (copy engine)" if case.engine == "copy-engine" else ""
    return f"{case.op} {case.precision}{engine}"


def ceiling_for(measurement: Measurement, kind: str, ceilings: Iterable[Ceiling]) -> Ceiling | None:
    """Return the ceiling of ``kind`` that a measurement is held to, or None when unknown."""
    case = measurement.case
    for ceiling in ceilings:
        if ceiling.device_id != measurement.device_id or ceiling.kind != kind:
            continue
        if ceiling.family != case.family:
            continue
        if case.family == "memory" or ceiling.precision == case.precision:
            return ceiling
    return None


def _headline(
    device: Device, label: str, best: Measurement, ceilings: Sequence[Ceiling]
) -> Headline:
    assert best.rate is not None, best.case.case_id
    rate = best.rate
    datasheet = ceiling_for(best, "datasheet", ceilings)
    derived = ceiling_for(best, "derived", ceilings)
    clock = best.telemetry.sm_clock_mhz.median if _has_clock(best) else None  # type: ignore[union-attr]
    normalised = None
    # An assumed peak (a processor's) rests on a clock that is reported, not measured.
    at_clock = derived is not None and not derived.assumed and best.case.family == "compute"
    if at_clock and derived is not None and derived.clock_mhz and clock:
        normalised = derived.value * clock / derived.clock_mhz

    def share(peak: float | None) -> float | None:
        return rate.median / peak if peak else None

    return Headline(
        device_id=device.device_id,
        family=best.case.family,
        label=label,
        case_id=best.case.case_id,
        route=best.case.route,
        regime=best.case.regime,
        rate=rate,
        datasheet=datasheet.value if datasheet else None,
        derived=derived.value if derived else None,
        clock_normalised=normalised,
        share_datasheet=share(datasheet.value if datasheet else None),
        share_derived=share(derived.value if derived else None),
        share_clock_normalised=share(normalised),
        sm_clock_mhz=clock,
    )


def _has_clock(measurement: Measurement) -> bool:
    return measurement.telemetry is not None and measurement.telemetry.sm_clock_mhz is not None
