"""Can the results be: wrong or impossible figures, silent fallbacks, others on the device.

A case that ended badly is judged together with those of its row, route and role that ended the same
way, so that a sweep over hundreds of shapes is one finding and not hundreds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from roofprobe.acceptance.checks import device_of, finding
from roofprobe.acceptance.verdict.complete import complete
from roofprobe.acceptance.verdict.formats import no_slow_formats, slow_formats
from roofprobe.records.ceilings import ceiling_for
from roofprobe.records.disturbed import disturbed_of, share_taken
from roofprobe.records.schema import (
    NOT_ALONE_SHARE,
    Device,
    Finding,
    Judgement,
    Measurement,
    Run,
)
from roofprobe.records.titles import label_of

# Up to this share of measurements that others disturbed is told and no warning: a background task
# of the system reaches a few of hundreds on any host.
_FEW_SHARED = 0.05

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
    """Yield what is wrong with the measurements themselves, and per device what is right."""
    yield from complete(run)
    wrong = (*bad_ends(run), *fallbacks(run), *slow_formats(run), *not_alone(run))
    yield from wrong
    answered = {(found.code, found.device_id) for found in wrong}
    for device in run.devices:
        for code, sentence in _in_order(run, device):
            if (code, device.device_id) not in answered:
                yield finding(code, "pass", sentence, device=device)


def _in_order(run: Run, device: Device) -> Iterator[tuple[str, str]]:
    """Yield the checks that a device's measurements could be asked, with what to say if they pass.

    A question that nothing measured could answer is left out: not asked is not passed.
    """
    own = [m for m in run.measurements if m.device_id == device.device_id]
    done = [m for m in own if m.status == "ok"]
    if done:
        yield "RP-NOT-MEASURED", f"None of {len(own)} cases broke"
        yield "RP-INVALID", f"All of {len(done)} figures are possible"
    checked = sum(m.correctness is not None for m in done)
    if checked:
        yield "RP-WRONG-RESULT", f"{checked} results agree with their references"
    repeated = sum(m.case.role == "stability" for m in done)
    if repeated:
        yield "RP-UNSTABLE-BITS", f"{_more(repeated, '')} gave the same bits again and again"
    if any(m.identity is not None and m.identity.names for m in done):
        yield "RP-KERNEL-FALLBACK", _own_kernels(done)
    faster = no_slow_formats(run, device)
    if faster is not None:
        yield "RP-SLOW-FALLBACK", faster
    if any(m.telemetry is not None and m.telemetry.others_cores is not None for m in done):
        yield "RP-NOT-ALONE", "No measurement saw others at work"


def _own_kernels(done: Sequence[Measurement]) -> str:
    """Say that rows ran on their kernels, and which are aside since a processor emulates them."""
    told = "Each row ran on the kernel that it stands for"
    aside = dict.fromkeys(label_of(m.case) for m in done if m.identity and m.identity.fallback)
    if not aside:
        return told
    return (
        f"{told}, fallback rows aside: {', '.join(aside)} (this processor has no instructions for "
        "them, and what emulates them is in the record)"
    )


def not_alone(run: Run) -> Iterator[Finding]:
    """Yield per device on which others were at work during how many measurements that was.

    It is a warning where a headline rests on one of them, or where they are more than a few.
    """
    for device in run.devices:
        shared = disturbed_of(m for m in run.measurements if m.device_id == device.device_id)
        if not shared:
            continue
        best = {h.case_id for h in run.headlines if h.device_id == device.device_id}
        hit = [m for m in shared.members if m.case.case_id in best]
        part = len(shared) / shared.measured
        matters = bool(hit) or part > _FEW_SHARED
        worst = max(hit or shared.members, key=lambda m: share_taken(m) or 0.0)
        sentence = (
            f"Others took more than {NOT_ALONE_SHARE:.0%} of the cores during {len(shared)} of "
            f"{shared.measured} measurements: rates among them can be too low, times too long; "
        )
        if hit:
            lines = "a best rate rests" if len(hit) == 1 else f"{len(hit)} best rates rest"
            sentence += f"{lines} on them, the most disturbed {_how_much(worst)}"
        else:
            sentence += f"no best rate rests on them, the most disturbed is {_how_much(worst)}"
        yield finding(
            "RP-NOT-ALONE", "warn" if matters else "pass", sentence,
            device=device, case_id=worst.case.case_id,
            figure=len(hit) if hit else part, bound=0.0 if hit else _FEW_SHARED,
            unit="disturbed best rates" if hit else "share of the measurements were disturbed",
        )  # fmt: skip


def _how_much(measurement: Measurement) -> str:
    share = share_taken(measurement)
    told = f" (others took {share:.0%})" if share is not None and math.isfinite(share) else ""
    return f"{measurement.case.case_id}{told}"


def bad_ends(run: Run) -> Iterator[Finding]:
    """Yield one finding for each kind of case that failed or is impossible."""
    alike: dict[tuple[str, ...], list[Measurement]] = {}
    for measurement in (*run.measurements, *run.retests):
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


def _more(count: int, more: str = "more ") -> str:
    return f"{count} {more}case{'s' if count > 1 else ''}"
