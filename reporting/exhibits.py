"""The parts of a device's report that stand by themselves (`exhibit.Exhibit`), in their order.

Each maker looks at one device and answers with what there is to show, or with None. Adding a part
to the report is adding a maker to ``EXHIBITS``; their order is the order on the page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from roofprobe.records.schema import Run
from roofprobe.reporting.beside import Beside
from roofprobe.reporting.exhibit import Exhibit


Maker = Callable[[Run, str, Beside], Exhibit | None]

EXHIBITS: Final[tuple[Maker, ...]] = ()


def exhibits_of(run: Run, device_id: str, beside: Beside) -> tuple[Exhibit, ...]:
    """Return what there is to show of one device; draw under ``svg.figure_style``."""
    made = (maker(run, device_id, beside) for maker in EXHIBITS)
    return tuple(exhibit for exhibit in made if exhibit is not None)
