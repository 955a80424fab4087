"""A part of a device's report that stands by itself: a title, figures with their tables, notes."""

from __future__ import annotations

from dataclasses import dataclass

from roofprobe.reporting.drawing import Drawing
from roofprobe.reporting.small_table import SmallTable


@dataclass(frozen=True, slots=True)
class Exhibit:
    """One part: ``sentence`` says what to see in all of it; figures come before their tables."""

    title: str
    sentence: str
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[SmallTable, ...] = ()
    notes: tuple[str, ...] = ()
