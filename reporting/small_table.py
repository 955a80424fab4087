"""A small table of one device, ready for every renderer: a title, what to see, heads, cells."""

from __future__ import annotations

from dataclasses import dataclass

from roofprobe.records.schema import Family, Measurement, Run
from roofprobe.reporting.tables import measurements_of


@dataclass(frozen=True, slots=True)
class SmallTable:
    """A table with its title and what to see in it; the first column is words, the rest figures."""

    title: str
    sentence: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


def done(run: Run, device_id: str, family: Family) -> list[Measurement]:
    """Return the valid measurements of one device and family, in the order they were made."""
    return [
        m for m in measurements_of(run, device_id) if m.status == "ok" and m.case.family == family
    ]
