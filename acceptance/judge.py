"""A first verdict on a run: wrong or impossible results, lost cases, and how sure the figures are.

Not run is not OK, and an unknown device judges nothing: without a ceiling the verdict on a figure
is ``unknown``. The verdict of a run is its worst finding; ``unknown`` where nothing was judged.

A case that ended badly is judged together with those of its row, route and role that ended the same
way, so that a sweep over hundreds of shapes is one finding and not hundreds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from roofprobe.acceptance.formats import slow_formats
from roofprobe.records.ceilings import ceiling_for
from roofprobe.records.schema import Finding, Judgement, Measurement, Run, Verdict
from roofprobe.records.titles import label_of

_SEVERITY: dict[Judgement, int] = {"pass": 0, "unknown": 1, "warn": 2, "fail": 3}

# A headline below this share of its derived peak deserves a look. They are wide on purpose: bands
# learnt from reference runs take their place where there are such runs.
_SUSPICIOUS_SHARE = {"compute": 0.35, "memory": 0.5}

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


def judge(run: Run) -> Verdict:
    """Return the findings on ``run`` and the worst of them."""
    findings = (
        *_measurement_findings(run),
        *_fallback_findings(run),
        *slow_formats(run),
        *_headline_findings(run),
    )
    worst: Judgement = "unknown"
    if findings:
        worst = max((finding.judgement for finding in findings), key=_SEVERITY.__getitem__)
    return Verdict(judgement=worst, findings=findings)


def _measurement_findings(run: Run) -> Iterator[Finding]:
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
            yield _finding("RP-INVALID", "warn", members)
        elif first.reason.code in _FAILED:
            code, judgement = _FAILED[first.reason.code]
            yield _finding(code, judgement, members)


def _kind(measurement: Measurement) -> tuple[str, ...]:
    """What cases have in common that are told as one: all but the shape."""
    case = measurement.case
    return (
        measurement.device_id, measurement.status, case.family, case.op, label_of(case), case.route,
        case.role,
    )  # fmt: skip


def _finding(code: str, judgement: Judgement, members: Sequence[Measurement]) -> Finding:
    first = members[0]
    assert first.reason is not None
    sentence = f"{first.case.case_id}: {first.reason.sentence}"
    if len(members) > 1:
        sentence += f" ({_more(len(members) - 1)} of the same kind)"
    return Finding(
        code=code,
        judgement=judgement,
        device_id=first.device_id,
        case_id=first.case.case_id,
        sentence=sentence,
        remedy=first.reason.remedy,
    )


def _fallback_findings(run: Run) -> Iterator[Finding]:
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
        yield Finding(
            code="RP-KERNEL-FALLBACK",
            judgement="warn",
            device_id=device_id,
            case_id=members[0].case.case_id,
            sentence=f"{label} by {route} ran {kernel}: {fallback}{others}",
            remedy="the figure is that kernel's; look for a route or a version of the library "
            "that has the right one",
        )


def _has_silicon(measurement: Measurement, run: Run) -> bool:
    return ceiling_for(measurement, "derived", run.ceilings) is not None


def _more(count: int) -> str:
    return f"{count} more case{'s' if count > 1 else ''}"


def _headline_findings(run: Run) -> Iterator[Finding]:
    sources = {(m.device_id, m.case.case_id): m for m in run.measurements if m.status == "ok"}
    for headline in run.headlines:
        source = sources.get((headline.device_id, headline.case_id))
        if headline.share_derived is None or source is None:
            continue
        if source.case.engine == "copy-engine":
            continue
        derived = ceiling_for(source, "derived", run.ceilings)
        # A peak that rests on assumptions (a processor's, at a clock it may exceed) judges nothing.
        if derived is None or derived.assumed:
            continue
        bound = _SUSPICIOUS_SHARE.get(headline.family)
        if bound is None:
            continue
        low = headline.share_derived < bound
        yield Finding(
            code="RP-LOW" if low else "RP-IN-RANGE",
            judgement="warn" if low else "pass",
            device_id=headline.device_id,
            case_id=headline.case_id,
            figure=headline.share_derived,
            bound=bound,
            sentence=f"{headline.label} reaches {headline.share_derived:.0%} of its derived peak"
            + (f", less than {bound:.0%}: something holds it back" if low else ""),
            remedy="see clocks, throttle reasons and other processes, and repeat" if low else None,
        )
