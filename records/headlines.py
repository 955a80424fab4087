"""Headlines: of all cases of a compute row or a memory kernel, the best valid one and its peaks.

What competes is what the line is about: products of uniform random data in the plain layout, as
fast as they go, each sampled in full. Data patterns, sweeps over layouts and odd sizes, the brief
looks of a surface or a search, and health checks are shown beside it, but a row of zeros multiplied
quickly is no result, and neither is the luckiest of a hundred glances. The pipe's own rate, without
memory traffic, is the headline only of rows that no matrix product exists for. Transfers between
devices have a matrix of their own: the best of many pairs would hide the worst.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from roofprobe.records.attribution import attribution_of, is_ceiling
from roofprobe.records.ceilings import ceiling_for, clock_mhz_of, clock_normalised_peak
from roofprobe.records.schema import Ceiling, Device, Headline, Measurement, Role
from roofprobe.records.titles import has_line, label_of, title_of

COMPETING: frozenset[Role] = frozenset({"anchor", "route", "tune", "settled"})
_UNIFORM = "uniform"
# Rows of these precisions have no matrix product; no library multiplies INT4 matrices.
_PIPE_ONLY_PRECISIONS = frozenset({"int4"})


def headlines_of(
    devices: Sequence[Device],
    measurements: Sequence[Measurement],
    ceilings: Sequence[Ceiling],
) -> tuple[Headline, ...]:
    """Return one headline per device and label, in the order in which the labels were planned.

    A label is a compute row, or a memory kernel with its element type (``copy fp32``; the copy
    engine apart); compute cases of older runs, which know no rows, go by precision. Only ``ok``
    measurements compete; the highest median wins, a burst before anything settled.
    """
    found = []
    for device in devices:
        own = [ceiling for ceiling in ceilings if ceiling.device_id == device.device_id]
        groups: dict[tuple[str, str], list[Measurement]] = {}
        for measurement in measurements:
            if measurement.device_id == device.device_id and measurement.status == "ok":
                key = (measurement.case.family, label_of(measurement.case))
                groups.setdefault(key, []).append(measurement)
        for (_, label), group in groups.items():
            headline = _headline(device, label, group, own)
            if headline is not None:
                found.append(headline)
    return tuple(found)


def competitors(measurements: Iterable[Measurement]) -> tuple[Measurement, ...]:
    """Return those of one row's measurements that may be its headline, burst or settled."""
    return tuple(m for m in measurements if _competes(m))


def pipe_of(measurements: Iterable[Measurement]) -> Measurement | None:
    """Return the best valid figure of the pipe alone among one row's measurements."""
    pipes = [m for m in measurements if _rated(m) and m.case.role == "pipe"]
    return _best([m for m in pipes if m.case.pattern == _UNIFORM])


def _headline(
    device: Device, label: str, group: Sequence[Measurement], ceilings: Sequence[Ceiling]
) -> Headline | None:
    candidates = competitors(group)
    burst = _best([m for m in candidates if m.case.regime == "burst"])
    settled = _best([m for m in candidates if m.case.regime == "settled"])
    best = burst or settled
    if best is None:
        return None
    assert best.rate is not None, best.case.case_id
    rate = best.rate
    datasheet = ceiling_for(best, "datasheet", ceilings)
    derived = ceiling_for(best, "derived", ceilings)
    clock, counted = clock_mhz_of(best)
    normalised = clock_normalised_peak(best, derived)
    pipe = pipe_of(group)

    def share(peak: float | None) -> float | None:
        return rate.median / peak if peak else None

    return Headline(
        device_id=device.device_id,
        family=best.case.family,
        label=label,
        title=title_of(best.case),
        precision=best.case.precision,
        row=best.case.row,
        sparsity=best.case.sparsity,
        case_id=best.case.case_id,
        route=best.case.route,
        regime=best.case.regime,
        rate=rate,
        settled=settled.rate if settled else None,
        settled_case_id=settled.case.case_id if settled else None,
        pipe_rate=pipe.rate if pipe and pipe is not best and is_ceiling(pipe, best) else None,
        datasheet=datasheet.value if datasheet else None,
        derived=derived.value if derived else None,
        clock_normalised=normalised,
        share_datasheet=share(datasheet.value if datasheet else None),
        share_derived=share(derived.value if derived else None),
        share_clock_normalised=share(normalised),
        sm_clock_mhz=clock,
        clock_measured=counted,
        # of settled work only: a burst rests and pauses, and idle power would be most of it
        energy_j_per_tflop=settled.energy_j_per_tflop if settled else None,
        attribution=attribution_of(best, pipe, datasheet, derived),
    )


def _competes(measurement: Measurement) -> bool:
    case = measurement.case
    if not _rated(measurement):
        return False
    if case.family in ("llm", "validate"):
        return case.role in COMPETING and has_line(case)
    if case.family != "compute":
        return case.role != "curve" and case.peer is None
    if case.row is None:
        return True
    if case.pattern != _UNIFORM:
        return False
    if case.role == "pipe":
        return case.pipe == "vector" or case.precision in _PIPE_ONLY_PRECISIONS
    return case.role in COMPETING


def _rated(measurement: Measurement) -> bool:
    return measurement.status == "ok" and measurement.rate is not None


def _best(measurements: Sequence[Measurement]) -> Measurement | None:
    return max(measurements, key=lambda m: m.rate.median if m.rate else 0.0, default=None)
