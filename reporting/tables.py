"""What a report shows of a run, as plain rows of text that all renderers share.

Terminal, Markdown and HTML say the same because they all show these rows. The functions are pure:
they read a ``Run`` and return text that is clean of control characters, numbers already written
with their units, and a dash where something is not known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from roofprobe.records.noise import HALFWIDTH, NOISY, noise_retold
from roofprobe.records.schema import (
    NOT_ALONE,
    Family,
    Headline,
    Measurement,
    Note,
    Reason,
    Run,
    Status,
)
from roofprobe.records.wording import plural
from roofprobe.reporting import numbers
from roofprobe.reporting.naming import (
    case_kind,
    kernel_text,
    shape_text,
    short_device,
    variant_text,
)
from roofprobe.reporting.plain_text import clean

# The figure that a note warns of, which is worse the greater it is.
_WARNED_OF: Final = {
    "cache-residue": "bound", NOISY: HALFWIDTH, NOT_ALONE: "share",
}  # fmt: skip
_WORST_FIRST: tuple[Status, ...] = ("failed", "invalid", "skipped")


@dataclass(frozen=True, slots=True)
class HeadlineRow:
    """One line of the result. Rates are numbers in ``unit``; shares are percent or a dash.

    ``burst`` and ``settled`` are the two regimes; spread, range, shares, clock and all words on
    how the figure was made belong to ``regime``, the burst wherever there is one. ``share_pipe`` is
    what the product reaches of its pipe's own rate, ``energy`` joules per 1e12 operations.
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

    @property
    def rate(self) -> str:
        """The figure that the line stands for, in its regime."""
        return self.burst if self.burst != numbers.UNKNOWN else self.settled


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


@dataclass(frozen=True, slots=True)
class NoteGroup:
    """A warning that several measurements carry: told once, with the labels."""

    code: str
    sentence: str
    labels: tuple[str, ...]
    count: int


def headlines_of(run: Run, device_id: str, family: Family) -> tuple[Headline, ...]:
    """Return the headlines of one device and family in the order of the run."""
    return tuple(h for h in run.headlines if h.device_id == device_id and h.family == family)


def measurements_of(run: Run, device_id: str) -> tuple[Measurement, ...]:
    """Return the measurements of one device in the order in which they were made."""
    return tuple(m for m in run.measurements if m.device_id == device_id)


def fallbacks_marked(
    run: Run, device_id: str, headlines: Iterable[Headline]
) -> tuple[Headline, ...]:
    """Return headlines whose labels say so where another kernel ran than was asked for."""
    fallen = {
        m.case.case_id
        for m in measurements_of(run, device_id)
        if m.status == "ok" and m.identity is not None and m.identity.fallback
    }
    return tuple(
        h.model_copy(update={"label": f"{h.label} (fallback)"}) if h.case_id in fallen else h
        for h in headlines
    )


def headline_rows(run: Run, device_id: str, family: Family) -> tuple[HeadlineRow, ...]:
    """Return the result lines of one device and family."""
    sources = {
        m.case.case_id: m for m in measurements_of(run, device_id) if m.status == "ok"
    }  # a case that was measured again counts as it was measured last
    return tuple(
        _headline_row(headline, sources.get(headline.case_id))
        for headline in headlines_of(run, device_id, family)
    )


def shown_columns(rows: Sequence[HeadlineRow], columns: Sequence[Column]) -> tuple[Column, ...]:
    """Return those of ``columns`` in which at least one row has something to show."""
    return tuple(
        column
        for column in columns
        if any(getattr(row, column.field) != numbers.UNKNOWN for row in rows)
    )


def _headline_row(headline: Headline, source: Measurement | None) -> HeadlineRow:
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
        spread=numbers.spread(headline.rate),
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

    Sentences that differ in their figures only (a shape, a size) are one group, told by the first.
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
            sentence=_told([reason.sentence for reason, _ in found]),
            remedy=clean(remedy) if remedy else None,
            labels=_labels(measurement for _, measurement in found),
            count=len(found),
        )
        for (status, code, _, remedy), found in members.items()
    ]
    return tuple(sorted(groups, key=lambda group: _WORST_FIRST.index(group.status)))


def note_groups(run: Run, device_id: str) -> tuple[NoteGroup, ...]:
    """Group the warnings of a device's measurements by what they say, figures aside.

    A group is told by the sentence of its worst figure. How well a figure is known is told of what
    the tables show, whatever the record says of it.
    """
    members: dict[tuple[str, str], list[tuple[Note, Measurement]]] = {}
    for measurement in map(noise_retold, measurements_of(run, device_id)):
        for note in measurement.notes:
            key = (note.code, "" if note.code in _WARNED_OF else figureless(note.sentence))
            members.setdefault(key, []).append((note, measurement))
    return tuple(
        NoteGroup(
            clean(code),
            _told([note.sentence for note in _worst_first([note for note, _ in found])]),
            _labels(measurement for _, measurement in found),
            len(found),
        )
        for (code, _), found in members.items()
    )


def _worst_first(notes: Sequence[Note]) -> list[Note]:
    """Sort notes of one code by the figure that they warn of, the greatest first."""
    name = _WARNED_OF.get(notes[0].code)
    if name is None:
        return list(notes)
    return sorted(notes, key=lambda note: -note.figures.get(name, 0.0))


def figureless(sentence: str) -> str:
    """Return a sentence without its figures, so that those that say the same are one."""
    return re.sub(r"\d[\d.,]*", "#", sentence)


def _told(sentences: Sequence[str]) -> str:
    others = len(set(sentences)) - 1
    return clean(sentences[0]) + (f" (and {others} more with other figures)" if others else "")


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
