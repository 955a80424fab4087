"""What moves bytes besides the streams: latency by footprint, sizes through the caches, launches.

A table that has nothing to show is not there.
"""

from __future__ import annotations

from collections.abc import Sequence

from roofprobe.records.ceilings import clock_mhz_of
from roofprobe.records.schema import Measurement, Run
from roofprobe.reporting import numbers
from roofprobe.reporting.cache_marks import cache_table
from roofprobe.reporting.marks import marked
from roofprobe.reporting.naming import config_text
from roofprobe.reporting.numbers import capacity
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.small_table import SmallTable, done

_MANY_PASSES = "machine-code"  # the route whose launch goes over small arrays many times


def wire_tables(run: Run, device_id: str) -> tuple[SmallTable, ...]:
    """Return the tables of a device that have rows, in the order in which bytes travel."""
    latency, curve = latency_table(run, device_id), curve_table(run, device_id)
    device = next((d for d in run.devices if d.device_id == device_id), None)
    made = (
        latency,
        curve,
        *((cache_table(device),) if latency.rows or curve.rows else ()),
        _launches(done(run, device_id, "launch")),
    )
    return tuple(table for table in made if table.rows)


def latency_table(run: Run, device_id: str) -> SmallTable:
    """Return the time per load by footprint; without rows where nothing was measured."""
    return _latency(done(run, device_id, "latency"))


def curve_table(run: Run, device_id: str) -> SmallTable:
    """Return the rates by size of the arrays; without rows where nothing was measured."""
    return _curve(done(run, device_id, "memory"))


def _latency(measured: Sequence[Measurement]) -> SmallTable:
    rows: list[tuple[str, ...]] = []
    for m in measured:
        access = m.access_ns
        if access is None:
            continue
        clock, _ = clock_mhz_of(m)
        cycles = f"{access.median * clock / 1000:.0f}" if clock else numbers.UNKNOWN
        size = capacity(m.case.shape.get("footprint_bytes", 0))
        where = config_text(m.case)
        rows.append(
            (
                f"{size}, {where}" if where else size,
                marked(f"{access.median:.3g} ns", m),
                f"{access.p10:.3g}–{access.p90:.3g}",
                cycles,
                " / ".join(f"{p.cycles_median:.0f} ({p.share:.0%})" for p in m.access_populations),
            )
        )
    singly = any(row[-1] for row in rows)
    sentence = "One random cycle through a footprint: each step up is the next level."
    heads: tuple[str, ...] = ("footprint", "per load", "p10–p90", "cycles")
    if not singly:
        rows = [row[:-1] for row in rows]
    else:
        heads = (*heads, "single loads")
        sentence += (
            " Single loads, in cycles with the counter's own: two figures are two groups, the near "
            "and the far half of a cache."
        )
    return SmallTable("Latency, one load after another", sentence, heads, tuple(rows))


def _curve(measured: Sequence[Measurement]) -> SmallTable:
    curve = [m for m in measured if m.case.role == "curve" and m.rate is not None]
    kernels = tuple(dict.fromkeys(m.case.op for m in curve))
    sizes = sorted({m.array_bytes for m in curve if m.array_bytes})
    rates = {
        (m.array_bytes, m.case.op): marked(numbers.rate(m.rate.median, m.rate.unit), m)
        for m in curve
        if m.rate is not None
    }
    sentence = (
        "The same arrays again and again: small ones stay in a cache, and where the rate falls for "
        "good can be the size of one."
    )
    if any(m.case.route != _MANY_PASSES for m in curve):
        sentence += " The smallest can be limited by the launch."
    return SmallTable(
        "Sizes through the caches",
        sentence,
        ("each array", *(clean(kernel) for kernel in kernels)),
        tuple(
            (capacity(size), *(rates.get((size, kernel), numbers.UNKNOWN) for kernel in kernels))
            for size in sizes
        ),
    )


def _launches(measured: Sequence[Measurement]) -> SmallTable:
    rows = [
        (
            clean(m.case.route),
            marked(numbers.duration_us(m.latency.median), m),
            numbers.duration_range_us(m.latency.p10, m.latency.p90),
        )
        for m in measured
        if m.latency is not None
    ]
    return SmallTable(
        "What a launch costs",
        "Before anything is computed: waited for each time, the call alone, back to back in a "
        "stream, or per node of a graph.",
        ("launch", "each", "p10–p90"),
        tuple(rows),
    )
