"""What a report shows of a run, as plain rows of text that all renderers share.

Terminal, Markdown and HTML say the same because they all show these rows. The functions are pure:
they read a ``Run`` and return text that is clean of control characters, numbers already written
with their units, and a dash where something is not known.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from roofprobe.records.disturbed import is_disturbed
from roofprobe.records.headlines import pipe_of
from roofprobe.records.schema import (
    Family,
    Headline,
    Measurement,
    Reason,
    Run,
    Status,
)
from roofprobe.records.titles import label_of
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.marks import MARK
from roofprobe.reporting.merging import figureless, told_of_all
from roofprobe.reporting.naming import (
    case_kind,
    kernel_text,
    shape_text,
    short_device,
    variant_text,
)
from roofprobe.reporting.plain_text import clean

_WORST_FIRST: tuple[Status, ...] = ("failed", "invalid", "skipped")


@dataclass(frozen=True, slots=True)
class HeadlineRow:
    """One line of the result. Rates are numbers in ``unit``; shares are percent or a dash.

    ``burst`` and ``settled`` are the two regimes; spread, range, shares, clock and all words on
    how the figure was made belong to ``regime``, the burst wherever there is one. ``share_pipe`` is
    what the product reaches of its pipe's own rate, ``energy`` joules per 1e12 operations.
    ``marks`` are the fields whose figures others disturbed, ``rate`` for all of the regime.
    """

    label: str
    title: str
    unit: str
    regime: str
    burst: str
    settled: str
    spread: str
    range: str
    datasheet: str
    share_datasheet: str
    derived: str
    share_derived: str
    clock_normalised: str
    share_clock_normalised: str
    pipe: str
    share_pipe: str
    energy: str
    sm_clock: str
    route: str
    kernel: str
    shape: str
    variant: str
    samples: str
    fallback: str
    marks: frozenset[str] = frozenset()

    @property
    def rate(self) -> str:
        """The figure that the line stands for, in its regime."""
        return self.burst if self.burst != numbers.UNKNOWN else self.settled

    @property
    def mark(self) -> str:
        """What stands behind the line's name: the mark where its figure was disturbed."""
        return f" {MARK}" if "rate" in self.marks else ""

    def text(self, field: str) -> str:
        """The text of a field with the mark where its figure was disturbed."""
        value: str = getattr(self, field)
        return f"{value}{MARK}" if field in self.marks and value != numbers.UNKNOWN else value


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a table of headlines: its head and the field of the row that it shows.

    ``in_unit`` says that the field is a number in the row's own unit, which it does not name.
    """

    head: str
    field: str
    in_unit: bool = False


# What every wide table of headlines shows after the figure and its spread.
SETTLED_AND_SHARES: tuple[Column, ...] = (
    Column("settled", "settled", in_unit=True),
    Column("datasheet", "datasheet", in_unit=True),
    Column("% of it", "share_datasheet"),
    Column("derived", "derived", in_unit=True),
    Column("% of it", "share_derived"),
    Column("% at clock", "share_clock_normalised"),
    Column("pipe alone", "pipe", in_unit=True),
    Column("% of pipe", "share_pipe"),
    Column("J per T", "energy"),
)


@dataclass(frozen=True, slots=True)
class AbsentGroup:
    """Cases without a valid number that share their reason: told once, with the labels."""

    status: Status
    code: str
    sentence: str
    remedy: str | None
    labels: tuple[str, ...]
    count: int


def headlines_of(run: Run, device_id: str, family: Family) -> tuple[Headline, ...]:
    """Return the headlines of one device and family in the order of the run."""
    return tuple(h for h in run.headlines if h.device_id == device_id and h.family == family)


def measurements_of(run: Run, device_id: str) -> tuple[Measurement, ...]:
    """Return the measurements of one device in the order in which they were made."""
    return tuple(m for m in run.measurements if m.device_id == device_id)


def doubts_marked(run: Run, device_id: str, headlines: Iterable[Headline]) -> tuple[Headline, ...]:
    """Return headlines whose labels say so where another kernel ran, or others were at work."""
    sources = {m.case.case_id: m for m in measurements_of(run, device_id) if m.status == "ok"}

    def label(headline: Headline) -> str:
        source = sources.get(headline.case_id)
        if source is None:
            return headline.label
        fallen = source.identity is not None and source.identity.fallback
        # what is cut where there is no room is the end
        told = f"{headline.label} {MARK}" if is_disturbed(source) else headline.label
        return f"{told} (fallback)" if fallen else told

    return tuple(h.model_copy(update={"label": label(h)}) for h in headlines)


def headline_rows(run: Run, device_id: str, family: Family) -> tuple[HeadlineRow, ...]:
    """Return the result lines of one device and family."""
    sources = {
        m.case.case_id: m for m in measurements_of(run, device_id) if m.status == "ok"
    }  # a case that was measured again counts as it was measured last
    pipes: dict[str, list[Measurement]] = {}
    for m in sources.values():
        if m.case.role == "pipe":
            pipes.setdefault(label_of(m.case), []).append(m)
    return tuple(
        _headline_row(
            headline,
            sources.get(headline.case_id),
            _disturbed(headline, sources, pipe_of(pipes.get(headline.label, ()))),
        )
        for headline in headlines_of(run, device_id, family)
    )


def _disturbed(
    headline: Headline, sources: Mapping[str, Measurement], pipe: Measurement | None
) -> frozenset[str]:
    """Return the fields of a line whose figures rest on what others disturbed."""
    settled = headline.settled_case_id if headline.regime == "burst" else headline.case_id
    rests_on = {
        "rate": sources.get(headline.case_id),
        "settled": sources.get(settled) if settled else None,
        "pipe": pipe,
        "share_pipe": pipe,
    }
    return frozenset(field for field, m in rests_on.items() if m is not None and is_disturbed(m))


def shown_columns(rows: Sequence[HeadlineRow], columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return those of ``columns`` in which at least one row has something to show."""
    return tuple(
        column
        for column in columns
        if any(getattr(row, column.field) != numbers.UNKNOWN for row in rows)
    )


def _headline_row(
    headline: Headline, source: Measurement | None, marks: frozenset[str]
) -> HeadlineRow:
    scale = numbers.scale_for(headline.rate.median, headline.rate.unit)
    median = scale.number(headline.rate.median)
    is_burst = headline.regime == "burst"
    settled = headline.settled.median if headline.settled else None
    identity = source.identity if source else None
    return HeadlineRow(
        label=clean(headline.label),
        title=clean(headline.title),
        unit=clean(scale.unit),
        regime=headline.regime,
        burst=median if is_burst else numbers.UNKNOWN,
        settled=scale.number(settled) if is_burst else median,
        spread=numbers.spread(headline.rate, scale),
        range=numbers.range_text(headline.rate, scale),
        datasheet=scale.number(headline.datasheet),
        share_datasheet=numbers.share(headline.share_datasheet),
        derived=scale.number(headline.derived),
        share_derived=numbers.share(headline.share_derived),
        clock_normalised=scale.number(headline.clock_normalised),
        share_clock_normalised=numbers.share(headline.share_clock_normalised),
        pipe=scale.number(headline.pipe_rate.median if headline.pipe_rate else None),
        share_pipe=numbers.share(_share_of_pipe(headline)),
        energy=numbers.energy(headline.energy_j_per_tflop),
        sm_clock=clock_text(headline.sm_clock_mhz, counted=headline.clock_measured),
        route=clean(headline.route),
        kernel=kernel_text(source) if source else numbers.UNKNOWN,
        shape=(shape_text(source.case, source.array_bytes) if source else "") or numbers.UNKNOWN,
        variant=variant_text(source.case) if source else numbers.UNKNOWN,
        samples=str(headline.rate.n),
        fallback=clean(identity.fallback or "") if identity else "",
        marks=marks,
    )


def _share_of_pipe(headline: Headline) -> float | None:
    """Return the share at equal clocks where clocks are known, else that of the plain rates."""
    if headline.pipe_rate is None or headline.pipe_rate.median <= 0:
        return None
    if headline.attribution is not None:
        return headline.attribution.feeding
    return headline.rate.median / headline.pipe_rate.median


def clock_text(value_mhz: float | None, *, counted: bool = False) -> str:
    """Write a clock, and whether the device's own counter gave it: ``1500 MHz counted``."""
    if value_mhz is None:
        return numbers.UNKNOWN
    return f"{value_mhz:.0f} MHz{' counted' if counted else ''}"


def absent_groups(run: Run, device_id: str) -> tuple[AbsentGroup, ...]:
    """Group what has no valid number on a device by status and reason, the worst first.

    Sentences that differ in their figures only (a shape, a size) are one group.
    """
    members: dict[tuple[Status, str, str, str], list[tuple[Reason, Measurement]]] = {}
    for measurement in measurements_of(run, device_id):
        if measurement.status != "ok":
            reason = measurement.reason or Reason(code="unknown", sentence="No reason was given.")
            remedy = reason.remedy or ""
            key = (measurement.status, reason.code, figureless(reason.sentence), remedy)
            members.setdefault(key, []).append((reason, measurement))
    groups = [
        AbsentGroup(
            status=status,
            code=clean(code),
            sentence=clean(told_of_all([reason.sentence for reason, _ in found])),
            remedy=clean(remedy) if remedy else None,
            labels=_labels(measurement for _, measurement in found),
            count=len(found),
        )
        for (status, code, _, remedy), found in members.items()
    ]
    return tuple(sorted(groups, key=lambda group: _WORST_FIRST.index(group.status)))


def _labels(measurements: Iterable[Measurement]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(case_kind(m.case) for m in measurements))


def counts_text(run: Run, device_id: str | None = None) -> str:
    """Say how many cases there are and how they ended: ``6 cases: 4 ok, 2 skipped``."""
    found = [m for m in run.measurements if device_id in (None, m.device_id)]
    if not found:
        return "no cases"
    ends = [(status, sum(m.status == status for m in found)) for status in ("ok", *_WORST_FIRST)]
    told = ", ".join(f"{count} {status}" for status, count in ends if count)
    late = sum(map(_ran_late, found))
    why = f" ({late} of them for want of time)" if late else ""
    return f"{plural(len(found), 'case')}: {told}{why}"


def _ran_late(measurement: Measurement) -> bool:
    return measurement.reason is not None and measurement.reason.code == "time-budget"


def status_words(run: Run) -> str:
    """Say how a run ended: ``complete`` is that it came to its end, not that all was measured."""
    late = sum(map(_ran_late, run.measurements))
    if run.status != "complete" or not late:
        return run.status
    return f"came to its end; the time budget left {plural(late, 'case')} out"


def status_sentence(run: Run) -> str | None:
    """Say why a run is not what it seems: made up, cut short, or short of time; else nothing."""
    said = []
    if run.simulated is not None:
        said.append(f"Nothing here was measured: {clean(run.simulated)}")
    if run.status == "running":
        said.append("The run was still going on when this was written: results are partial.")
    elif run.status == "incomplete":
        said.append("The run did not come to its end: results are partial.")
    elif late := sum(map(_ran_late, run.measurements)):
        said.append(f"The time budget left {plural(late, 'case')} out: results are partial.")
    return " ".join(said) or None


def event_lines(run: Run) -> tuple[str, ...]:
    """Tell what happened to the run itself, one line each."""
    lines = []
    for event in run.events:
        device = short_device(run, event.device_id)
        place = f" ({device})" if device else ""
        lines.append(clean(f"{event.at} {event.code}{place}: {event.sentence}"))
    return tuple(lines)
