"""The warnings of a device's measurements: each told once, in words that are true of all it names.

Notes of one code whose words differ are told apart, those whose figures differ with the range of
their figures. Where only some sizes or data of what is measured carry a note, the size and the data
are named too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from roofprobe.records.retold import notes_of
from roofprobe.records.schema import Measurement, Note, Run
from roofprobe.reporting.merging import figureless, ranged
from roofprobe.reporting.naming import case_kind, config_text, shape_text
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.tables import measurements_of


@dataclass(frozen=True, slots=True)
class NoteGroup:
    """A warning that several measurements carry: told once, with the labels."""

    code: str
    sentence: str
    labels: tuple[str, ...]
    count: int


def note_groups(run: Run, device_id: str) -> tuple[NoteGroup, ...]:
    """Group the warnings of a device's measurements by what they say, figures aside.

    How well a figure is known is told of what the tables show, whatever the record says of it.
    """
    own = measurements_of(run, device_id)
    of_kind = Counter(case_kind(m.case) for m in own if m.status == "ok" or m.notes)
    alike: dict[tuple[str, str], list[tuple[Note, Measurement]]] = {}
    for m in own:
        for note in notes_of(m):
            alike.setdefault((note.code, figureless(note.sentence)), []).append((note, m))
    return tuple(
        NoteGroup(clean(code), clean(sentence), _names(members, of_kind), len(members))
        for (code, _), found in alike.items()
        for sentence, members in _told(found)
    )


def _told(found: Sequence[tuple[Note, Measurement]]) -> Iterator[tuple[str, list[Measurement]]]:
    """Yield one sentence for all, or as many as there are where figures have no range."""
    whole = ranged([note.sentence for note, _ in found])
    if whole is not None:
        yield whole, [m for _, m in found]
        return
    for sentence in dict.fromkeys(note.sentence for note, _ in found):
        yield sentence, [m for note, m in found if note.sentence == sentence]


def _names(members: Sequence[Measurement], of_kind: Counter[str]) -> tuple[str, ...]:
    here = Counter(case_kind(m.case) for m in members)
    return tuple(
        dict.fromkeys(
            kind if here[kind] == of_kind[kind] else _full_name(m)
            for m in members
            for kind in [case_kind(m.case)]
        )
    )


def _full_name(m: Measurement) -> str:
    case = m.case
    words = [case_kind(case), shape_text(case, m.array_bytes), config_text(case)]
    if case.family == "compute":  # others have one kind of data and one regime each
        words += [clean(case.pattern)] if case.pattern != "uniform" else []
        words += [case.regime] if case.regime == "settled" else []
    return " ".join(word for word in words if word)
