"""Did it run, and can the results be: lost cases, wrong or impossible figures, silent fallbacks.

A case that ended badly is judged together with those of its row, route and role that ended the same
way, so that a sweep over hundreds of shapes is one finding and not hundreds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from roofprobe.acceptance.checks import device_of, finding
from roofprobe.acceptance.formats import slow_formats
from roofprobe.records.ceilings import ceiling_for
from roofprobe.records.schema import Finding, Judgement, Measurement, Run
from roofprobe.records.titles import label_of

# How a failed case is judged by its reason's code; codes that are not here are the case's own
# affair (a shape that a route refuses) and judge nothing.
_FAILED: dict[str, tuple[str, Judgement]] = {
    "wrong-result": ("RP-WRONG-RESULT", "fail"),
    "unstable-bits": ("RP-UNSTABLE-BITS", "fail"),
    **dict.fromkeys(
        (
            "worker-crashed", "worker-garbage", "worker-error", "timed-out", "device-given-up",
            "out-of-memory", "kernel-error",
        ),
        ("RP-NOT-MEASURED", "warn"),
    ),
}  # fmt: skip


def integrity(run: Run) -> Iterator[Finding]:
    """Yield what is wrong with the measurements themselves."""
    yield from bad_ends(run)
    yield from fallbacks(run)
    yield from slow_formats(run)


def bad_ends(run: Run) -> Iterator[Finding]:
    """Yield one finding for each kind of case that failed or is impossible."""
    alike: dict[tuple[str, ...], list[Measurement]] = {}
    for measurement in run.measurements:
        reason = measurement.reason
        judged = reason is not None and measurement.status in ("failed", "invalid")
        if reason is not None and judged:
            alike.setdefault((*_kind(measurement), reason.code), []).append(measurement)
    for members in alike.values():
        first = members[0]
        assert first.reason is not None
        if first.status == "invalid":
            yield _told(run, "RP-INVALID", "unknown", members)
        elif first.reason.code in _FAILED:
            code, judgement = _FAILED[first.reason.code]
            yield _told(run, code, judgement, members)


def _kind(measurement: Measurement) -> tuple[str, ...]:
    """What cases have in common that are told as one: all but the shape."""
    case = measurement.case
    return (
        measurement.device_id, measurement.status, case.family, case.op, label_of(case), case.route,
        case.role,
    )  # fmt: skip


def _told(run: Run, code: str, judgement: Judgement, members: Sequence[Measurement]) -> Finding:
    first = members[0]
    assert first.reason is not None
    sentence = f"{first.case.case_id}: {first.reason.sentence}"
    if len(members) > 1:
        sentence += f" ({_more(len(members) - 1)} of the same kind)"
    remedy = {"remedy": first.reason.remedy} if first.reason.remedy else {}
    return finding(
        code, judgement, sentence,
        device=device_of(run, first.device_id), case_id=first.case.case_id, **remedy,
    )  # fmt: skip


def fallbacks(run: Run) -> Iterator[Finding]:
    """Tell once per row, route and kernel that something else ran than the row stands for.

    A processor without instructions for a format has no peak for it and can only emulate it: that
    stays in the record, and is no warning.
    """
    emulating = {device.device_id for device in run.devices if device.backend == "cpu"}
    alike: dict[tuple[str, ...], list[Measurement]] = {}
    for measurement in run.measurements:
        identity = measurement.identity
        if measurement.status == "ok" and identity is not None and identity.fallback:
            if measurement.device_id in emulating and not _has_silicon(measurement, run):
                continue
            label, route = label_of(measurement.case), measurement.case.route
            key = (measurement.device_id, label, route, identity.fallback)
            alike.setdefault(key, []).append(measurement)
    for (device_id, label, route, fallback), members in alike.items():
        identity = members[0].identity
        assert identity is not None
        kernel = f"the kernel {identity.names[0]}" if identity.names else "another kernel"
        others = f" (and in {_more(len(members) - 1)})" if len(members) > 1 else ""
        yield finding(
            "RP-KERNEL-FALLBACK", "warn",
            f"{label} by {route} ran {kernel}: {fallback}{others}",
            device=device_of(run, device_id), case_id=members[0].case.case_id,
        )  # fmt: skip


def _has_silicon(measurement: Measurement, run: Run) -> bool:
    return ceiling_for(measurement, "derived", run.ceilings) is not None


def _more(count: int) -> str:
    return f"{count} more case{'s' if count > 1 else ''}"
