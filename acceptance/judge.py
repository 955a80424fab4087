"""A first verdict on a run: wrong or impossible results, lost cases, and how sure the figures are.

Not run is not OK, and an unknown device judges nothing: without a ceiling the verdict on a figure
is ``unknown``. The verdict of a run is its worst finding; ``unknown`` where nothing was judged.
"""

from __future__ import annotations

from collections.abc import Iterator

from roofprobe.records.schema import Finding, Judgement, Measurement, Run, Verdict

_SEVERITY: dict[Judgement, int] = {"pass": 0, "unknown": 1, "warn": 2, "fail": 3}

# A headline below this share of its derived peak deserves a look. They are wide on purpose: bands
# learnt from reference runs take their place where there are such runs.
_SUSPICIOUS_SHARE = {"compute": 0.35, "memory": 0.5}

_LOST_CODES = {
    "worker-crashed", "worker-garbage", "worker-error", "timed-out", "device-given-up",
    "out-of-memory", "kernel-error",
}  # fmt: skip


def judge(run: Run) -> Verdict:
    """Return the findings on ``run`` and the worst of them."""
    findings = tuple((*_measurement_findings(run), *_headline_findings(run)))
    worst: Judgement = "unknown"
    if findings:
        worst = max((finding.judgement for finding in findings), key=_SEVERITY.__getitem__)
    return Verdict(judgement=worst, findings=findings)


def _measurement_findings(run: Run) -> Iterator[Finding]:
    for measurement in run.measurements:
        reason = measurement.reason
        if reason is None or measurement.status not in ("failed", "invalid"):
            continue
        if measurement.status == "invalid":
            yield _finding("RP-INVALID", "warn", measurement)
        elif reason.code == "wrong-result":
            yield _finding("RP-WRONG-RESULT", "fail", measurement)
        elif reason.code in _LOST_CODES:
            yield _finding("RP-NOT-MEASURED", "warn", measurement)


def _headline_findings(run: Run) -> Iterator[Finding]:
    # A peak that rests on assumptions (a processor's, at a clock it may exceed) judges nothing.
    sure = {
        (ceiling.device_id, ceiling.family, ceiling.precision)
        for ceiling in run.ceilings
        if ceiling.kind == "derived" and not ceiling.assumed
    }
    for headline in run.headlines:
        precision = headline.label.split()[0] if headline.family == "compute" else None
        if headline.share_derived is None or "copy engine" in headline.label:
            continue
        if (headline.device_id, headline.family, precision) not in sure:
            continue
        bound = _SUSPICIOUS_SHARE[headline.family]
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


def _finding(code: str, judgement: Judgement, measurement: Measurement) -> Finding:
    assert measurement.reason is not None
    return Finding(
        code=code,
        judgement=judgement,
        device_id=measurement.device_id,
        case_id=measurement.case.case_id,
        sentence=f"{measurement.case.case_id}: {measurement.reason.sentence}",
        remedy=measurement.reason.remedy,
    )
