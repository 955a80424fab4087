"""The parts of a device's report that stand by themselves (`exhibit.Exhibit`), in their order.

Each maker looks at one device and answers with what there is to show, or with None. Adding a part
to the report is adding a maker to ``EXHIBITS``; their order is the order on the page.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from roofprobe.records.schema import Run
from roofprobe.reporting.beside import Beside
from roofprobe.reporting.capacity_exhibit import capacity
from roofprobe.reporting.exhibit import Exhibit
from roofprobe.reporting.llm_roofline import llm_roofline, op_tables
from roofprobe.reporting.memory_ladder import latency_ladder, memory_curve
from roofprobe.reporting.precision_rooflines import precision_rooflines
from roofprobe.reporting.regimes import regimes
from roofprobe.reporting.run_trace import run_trace
from roofprobe.reporting.serving_exhibit import serving, target_tables
from roofprobe.reporting.small_table import SmallTable
from roofprobe.reporting.validation_exhibit import step_tables, validation

Maker = Callable[[Run, str, Beside], Exhibit | None]
TableMaker = Callable[[Run, str, Beside], tuple[SmallTable, ...]]

EXHIBITS: Final[tuple[Maker, ...]] = (
    precision_rooflines, regimes, memory_curve, latency_ladder, llm_roofline, serving, validation,
    capacity, run_trace,
)  # fmt: skip
# Those of their tables that a report without figures has: short, and of measurements.
BRIEF: Final[tuple[TableMaker, ...]] = (op_tables, target_tables, step_tables)


def exhibits_of(run: Run, device_id: str, beside: Beside) -> tuple[Exhibit, ...]:
    """Return what there is to show of one device; draw under ``svg.figure_style``."""
    made = (maker(run, device_id, beside) for maker in EXHIBITS)
    return tuple(exhibit for exhibit in made if exhibit is not None)


def brief_tables(run: Run, device_id: str, beside: Beside) -> tuple[SmallTable, ...]:
    """Return the short tables of the exhibits of one device."""
    return tuple(small for maker in BRIEF for small in maker(run, device_id, beside))
