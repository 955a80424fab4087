"""Parts of a device's report that stand by themselves: a title, figures with their tables, notes.

Each maker looks at one device and answers with what there is to show, or with None. Adding a part
to the report is adding a maker to ``EXHIBITS``; their order is the order on the page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from roofprobe.records.schema import Run
from roofprobe.reporting.beside import Beside
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


Maker = Callable[[Run, str, Beside], Exhibit | None]

EXHIBITS: Final[tuple[Maker, ...]] = ()


def exhibits_of(run: Run, device_id: str, beside: Beside) -> tuple[Exhibit, ...]:
    """Return what there is to show of one device; draw under ``svg.figure_style``."""
    made = (maker(run, device_id, beside) for maker in EXHIBITS)
    return tuple(exhibit for exhibit in made if exhibit is not None)
