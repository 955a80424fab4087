"""What a device supports: each compute row once, measured or not, with the reason.

A row is supported when anything of it gave a valid figure, and then the route and the instruction
of its best case are told. Otherwise one reason speaks for all cases of the row: the one that says
most. The product's reasons go before the pipe probe's. A result that was wrong outweighs an error,
an error outweighs a figure that cannot be true, and these outweigh what was never tried; among
those, a format that the library declined outweighs what the hardware lacks, that what the software
lacks (the library's reason goes before our own kernel's), and last comes that time ran out.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from roofprobe.records.headlines import competitors
from roofprobe.records.schema import Device, Measurement, Reason, Status, SupportRow
from roofprobe.records.titles import title_of

_STATUS_ORDER: tuple[Status, ...] = ("failed", "invalid", "skipped")
# The codes that say most, first; one that is not listed stands between the two lists.
_FIRST_CODES = (
    "wrong-result", "unstable-bits", "declined", "architecture", "no-instruction", "kernel-error",
)  # fmt: skip
_LAST_CODES = (
    "torch-version", "backend", "no-triton", "no-triton-target", "triton", "shape", "memory",
    "out-of-memory", "no-candidate", "time-budget", "device-given-up",
)  # fmt: skip
_NO_REASON = Reason(code="unknown", sentence="no reason was given")


def support_of(
    devices: Sequence[Device], measurements: Sequence[Measurement]
) -> tuple[SupportRow, ...]:
    """Return one line per device and compute row, in the order in which rows were planned.

    A row that ran on something else than it should is ``ok`` with the reason ``fallback``. Cases of
    older runs, which name no row, have no line.
    """
    lines = []
    for device in devices:
        rows: dict[str, list[Measurement]] = {}
        for measurement in measurements:
            row = measurement.case.row
            if measurement.device_id == device.device_id and row is not None:
                rows.setdefault(row, []).append(measurement)
        lines += [_line(device, row, members) for row, members in rows.items()]
    return tuple(lines)


def _line(device: Device, row: str, members: Sequence[Measurement]) -> SupportRow:
    done = [m for m in members if m.status == "ok"]
    if not done:
        told = _telling(members)
        return SupportRow(
            device_id=device.device_id,
            row=row,
            title=title_of(members[0].case),
            status=told.status,
            reason=told.reason or _NO_REASON,
        )
    best = max(competitors(done) or done, key=lambda m: m.rate.median if m.rate else 0.0)
    identity = best.identity
    fallback = identity.fallback if identity else None
    return SupportRow(
        device_id=device.device_id,
        row=row,
        title=title_of(best.case),
        status="ok",
        route=best.case.route,
        instruction=identity.instruction if identity else None,
        reason=Reason(code="fallback", sentence=fallback) if fallback else None,
    )


def _telling(members: Sequence[Measurement]) -> Measurement:
    """Return the case whose reason says most; of equals the one that most cases share."""
    shared = Counter(m.reason for m in members)

    def rank(measurement: Measurement) -> tuple[bool, int, int, bool, int]:
        reason = measurement.reason or _NO_REASON
        return (
            measurement.case.role == "pipe",
            _STATUS_ORDER.index(measurement.status),
            _code_rank(reason.code),
            reason.remedy is None,
            -shared[measurement.reason],
        )

    return min(members, key=rank)


def _code_rank(code: str) -> int:
    if code in _FIRST_CODES:
        return _FIRST_CODES.index(code)
    middle = len(_FIRST_CODES)
    return middle + 1 + _LAST_CODES.index(code) if code in _LAST_CODES else middle
