"""What fell short and was measured again: the first figure, its repeats, and what was made of it.

One sample is no verdict: a figure that falls short is repeated on the idle, cooled device, beside a
healthy one of its kind where there is one. The median of the repeats is judged in its place.
"""

from __future__ import annotations

from roofprobe.acceptance.verdict.judge import verdict_of
from roofprobe.acceptance.verdict.retest import first_of
from roofprobe.records.schema import Finding, Measurement, Run
from roofprobe.records.titles import label_of
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.naming import short_device
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.small_table import SmallTable

_TITLE = "What fell short and was repeated"


def retest_table(run: Run) -> SmallTable | None:
    """Return the repeats of a run, a row per case and device; None where nothing was repeated."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for m in run.retests:
        groups.setdefault((first_of(m.case), m.device_id), []).append(m)
    if not groups:
        return None
    first = {(m.case.case_id, m.device_id): m for m in run.measurements}
    findings = verdict_of(run).findings
    rows = tuple(
        (
            clean(label_of(members[0].case)),
            short_device(run, device_id) or clean(device_id),
            _rate(first.get((case_id, device_id))),
            ", ".join(map(_rate, members)),
            _standing(findings, case_id, device_id),
        )
        for (case_id, device_id), members in groups.items()
    )
    count = len({case_id for case_id, _ in groups})
    return SmallTable(
        _TITLE,
        f"{plural(count, 'figure')} fell short and {'was' if count == 1 else 'were'} measured "
        "again on the idle, cooled device. The median of at least three repeats is judged in the "
        "first figure's place; a healthy device of the same kind was measured beside it where "
        "there was one.",
        ("row", "device", "first", "repeats", "what stands"),
        rows,
    )


def _rate(m: Measurement | None) -> str:
    if m is None:
        return numbers.UNKNOWN
    if m.rate is None or m.status != "ok":
        return m.status
    return clean(numbers.rate(m.rate.median, m.rate.unit))


def _standing(findings: tuple[Finding, ...], case_id: str, device_id: str) -> str:
    """Name the judgements on this case and device; a control beside it has none of its own."""
    found = dict.fromkeys(
        f"{finding.judgement} {clean(finding.code)}"
        for finding in findings
        if (finding.case_id, finding.device_id) == (case_id, device_id)
        and finding.judgement in ("fail", "warn")
    )
    return ", ".join(found) or "nothing against it"
