"""What a report shows of a run, as plain rows of text that all renderers share.

Terminal, Markdown and HTML say the same because they all show these rows. The functions are pure:
they read a ``Run`` and return text that is clean of control characters, numbers already written
with their units, and a dash where something is not known.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from roofprobe.records.schema import (
    Family,
    Headline,
    Judgement,
    Measurement,
    Reason,
    Run,
    Status,
)
from roofprobe.reporting import numbers
from roofprobe.reporting.naming import case_kind, shape_text, short_device, variant_text
from roofprobe.reporting.plain_text import clean, plural

_WORST_FIRST: tuple[Status, ...] = ("failed", "invalid", "skipped")
_JUDGED_FIRST: tuple[Judgement, ...] = ("fail", "unknown", "warn", "pass")


@dataclass(frozen=True, slots=True)
class HeadlineRow:
    """One line of the result. Rates are numbers in ``unit``; shares are percent or a dash."""

    label: str
    unit: str
    achieved: str
    spread: str
    range: str
    datasheet: str
    share_datasheet: str
    derived: str
    share_derived: str
    clock_normalised: str
    share_clock_normalised: str
    sm_clock: str
    route: str
    kernel: str
    shape: str
    variant: str
    regime: str
    samples: str


@dataclass(frozen=True, slots=True)
class AbsentGroup:
    """Cases without a valid number that share their reason: told once, with the labels."""

    status: Status
    code: str
    sentence: str
    remedy: str | None
    labels: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class NoteGroup:
    """A warning that several measurements carry: told once, with the labels."""

    code: str
    sentence: str
    labels: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True)
class MeasurementRow:
    """One measurement in the table of all of them."""

    status: Status
    op: str
    precision: str
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


@dataclass(frozen=True, slots=True)
class FindingRow:
    """One judged statement, with the device it is about."""

    judgement: Judgement
    device: str | None
    sentence: str
    remedy: str | None


def headlines_of(run: Run, device_id: str, family: Family) -> tuple[Headline, ...]:
    """Return the headlines of one device and family in the order of the run."""
    return tuple(h for h in run.headlines if h.device_id == device_id and h.family == family)


def measurements_of(run: Run, device_id: str) -> tuple[Measurement, ...]:
    """Return the measurements of one device in the order in which they were made."""
    return tuple(m for m in run.measurements if m.device_id == device_id)


def headline_rows(run: Run, device_id: str, family: Family) -> tuple[HeadlineRow, ...]:
    """Return the result lines of one device and family."""
    sources = {
        m.case.case_id: m for m in measurements_of(run, device_id) if m.status == "ok"
    }  # a case that was measured again counts as it was measured last
    return tuple(
        _headline_row(headline, sources.get(headline.case_id))
        for headline in headlines_of(run, device_id, family)
    )


def _headline_row(headline: Headline, source: Measurement | None) -> HeadlineRow:
    scale = numbers.scale_for(headline.rate.median, headline.rate.unit)
    return HeadlineRow(
        label=clean(headline.label),
        unit=clean(scale.unit),
        achieved=scale.number(headline.rate.median),
        spread=numbers.spread(headline.rate),
        range=numbers.range_text(headline.rate, scale),
        datasheet=scale.number(headline.datasheet),
        share_datasheet=numbers.share(headline.share_datasheet),
        derived=scale.number(headline.derived),
        share_derived=numbers.share(headline.share_derived),
        clock_normalised=scale.number(headline.clock_normalised),
        share_clock_normalised=numbers.share(headline.share_clock_normalised),
        sm_clock=_mhz(headline.sm_clock_mhz),
        route=clean(headline.route),
        kernel=clean(source.kernel) if source and source.kernel else numbers.UNKNOWN,
        shape=shape_text(source.case, source.array_bytes) if source else numbers.UNKNOWN,
        variant=variant_text(source.case) if source else numbers.UNKNOWN,
        regime=headline.regime,
        samples=str(headline.rate.n),
    )


def absent_groups(run: Run, device_id: str) -> tuple[AbsentGroup, ...]:
    """Group what has no valid number on a device by status and reason, the worst first."""
    members: dict[tuple[Status, Reason], list[Measurement]] = {}
    for measurement in measurements_of(run, device_id):
        if measurement.status != "ok":
            reason = measurement.reason or Reason(code="unknown", sentence="No reason was given.")
            members.setdefault((measurement.status, reason), []).append(measurement)
    groups = [
        AbsentGroup(
            status=status,
            code=clean(reason.code),
            sentence=clean(reason.sentence),
            remedy=clean(reason.remedy) if reason.remedy else None,
            labels=_labels(found),
            count=len(found),
        )
        for (status, reason), found in members.items()
    ]
    return tuple(sorted(groups, key=lambda group: _WORST_FIRST.index(group.status)))


def note_groups(run: Run, device_id: str) -> tuple[NoteGroup, ...]:
    """Group the warnings of a device's measurements by what they say."""
    members: dict[tuple[str, str], list[Measurement]] = {}
    for measurement in measurements_of(run, device_id):
        for note in measurement.notes:
            members.setdefault((note.code, note.sentence), []).append(measurement)
    return tuple(
        NoteGroup(clean(code), clean(sentence), _labels(found), len(found))
        for (code, sentence), found in members.items()
    )


def _labels(measurements: Iterable[Measurement]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(case_kind(m.case) for m in measurements))


def counts_text(run: Run, device_id: str | None = None) -> str:
    """Say how many cases there are and how they ended: ``6 cases: 4 ok, 2 skipped``."""
    found = [m for m in run.measurements if device_id in (None, m.device_id)]
    if not found:
        return "no cases"
    ends = [(status, sum(m.status == status for m in found)) for status in ("ok", *_WORST_FIRST)]
    told = ", ".join(f"{count} {status}" for status, count in ends if count)
    return f"{plural(len(found), 'case')}: {told}"


def measurement_rows(run: Run, device_id: str) -> tuple[MeasurementRow, ...]:
    """Return every measurement of a device."""
    return tuple(_measurement_row(m) for m in measurements_of(run, device_id))


def _measurement_row(m: Measurement) -> MeasurementRow:
    scale = numbers.scale_for(m.rate.median, m.rate.unit) if m.rate else None
    telemetry = m.telemetry
    sm_clock = telemetry.sm_clock_mhz if telemetry else None
    power = telemetry.power_w if telemetry else None
    return MeasurementRow(
        status=m.status,
        op=clean(m.case.op),
        precision=clean(m.case.precision),
        route=clean(m.case.route),
        kernel=clean(m.kernel) if m.kernel else numbers.UNKNOWN,
        shape=shape_text(m.case, m.array_bytes),
        variant=variant_text(m.case),
        regime=m.case.regime,
        rate=clean(numbers.rate(m.rate.median, m.rate.unit)) if m.rate else numbers.UNKNOWN,
        spread=numbers.spread(m.rate) if m.rate else numbers.UNKNOWN,
        range=numbers.range_text(m.rate, scale) if m.rate and scale else numbers.UNKNOWN,
        latency=numbers.duration_us(m.latency.median if m.latency else None),
        error=f"{m.correctness.error:.1e}" if m.correctness else numbers.UNKNOWN,
        sm_clock=_mhz(sm_clock.median if sm_clock else None),
        power=f"{power.median:.0f} W" if power else numbers.UNKNOWN,
        reason=clean(m.reason.sentence) if m.reason else "",
    )


def _mhz(value: float | None) -> str:
    return numbers.UNKNOWN if value is None else f"{value:.0f} MHz"


def ceiling_rows(run: Run, device_id: str) -> tuple[CeilingRow, ...]:
    """Return a device's datasheet and derived peaks with what they rest on."""
    return tuple(
        CeilingRow(
            quantity=clean(ceiling.peak_key),
            kind=f"{ceiling.kind}, assumed" if ceiling.assumed else ceiling.kind,
            value=clean(numbers.rate(ceiling.value, ceiling.unit)),
            clock=_mhz(ceiling.clock_mhz),
            basis=clean(ceiling.basis),
            sources=tuple(clean(source) for source in ceiling.sources),
        )
        for ceiling in run.ceilings
        if ceiling.device_id == device_id
    )


def finding_rows(run: Run) -> tuple[FindingRow, ...]:
    """Return the verdict's findings, the worst first."""
    if run.verdict is None:
        return ()
    rows = [
        FindingRow(
            judgement=finding.judgement,
            device=short_device(run, finding.device_id),
            sentence=clean(finding.sentence),
            remedy=clean(finding.remedy) if finding.remedy else None,
        )
        for finding in run.verdict.findings
    ]
    return tuple(sorted(rows, key=lambda row: _JUDGED_FIRST.index(row.judgement)))


def judgement_of(run: Run) -> Judgement:
    """Return what the run was judged to be; a run that was not judged is unknown."""
    return run.verdict.judgement if run.verdict else "unknown"


def verdict_sentence(run: Run) -> str:
    """Say in one sentence what the findings amount to."""
    if run.verdict is None:
        return "This run was not judged."
    if not run.verdict.findings:
        return "Nothing could be judged."
    kinds = [
        (kind, sum(f.judgement == kind for f in run.verdict.findings)) for kind in _JUDGED_FIRST
    ]
    told = ", ".join(f"{count} {kind}" for kind, count in kinds if count)
    return f"{plural(len(run.verdict.findings), 'finding')}: {told}."


def status_sentence(run: Run) -> str | None:
    """Say what is missing from a run that did not come to its end; nothing for a whole one."""
    if run.status == "complete":
        return None
    if run.status == "running":
        return "The run was still going on when this was written: results are partial."
    return "The run did not come to its end: results are partial."


def event_lines(run: Run) -> tuple[str, ...]:
    """Tell what happened to the run itself, one line each."""
    lines = []
    for event in run.events:
        device = short_device(run, event.device_id)
        place = f" ({device})" if device else ""
        lines.append(clean(f"{event.at} {event.code}{place}: {event.sentence}"))
    return tuple(lines)
