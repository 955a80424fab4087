"""What ``probe peaks`` shows: the catalogue as a list, or one accelerator with all that is known.

A published peak stands beside the arithmetic at the datasheet's own clock, with the residual
between them and a mark where the rate was fitted to that very peak; conflicts between sources and
the founding notes' figures are shown, not settled in silence. A figure that nobody published is an
empty cell.

Every view exists twice: ``render_*`` for a terminal of 80 columns, ``*_json`` as plain data. Texts
are printed as text, never as markup.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from roofprobe.peaks.accelerator import Accelerator, ConflictValue
from roofprobe.peaks.catalogue import load
from roofprobe.peaks.derive import catalogue_memory_peak_gbps, datasheet_derived_peaks
from roofprobe.peaks.describe import (
    IDENTITY_FIELDS,
    accelerator_json,
    catalogue_json,
    catalogue_value,
    used_sources,
)
from roofprobe.peaks.founding_notes import FoundingColumn, founding_column_of
from roofprobe.peaks.precisions import PEAK_TITLES
from roofprobe.peaks.residuals import MEMORY_KEY, OUTLIER, reading, residuals, stored_residuals

__all__ = ["accelerator_json", "catalogue_json", "render_accelerator", "render_catalogue"]

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

_LIST_PRECISIONS: Final = ("fp32", "bf16", "fp16", "fp8", "int8")
_VERDICTS: Final = {
    "same": "same",
    "same-rounded": "same, rounded",
    "same-coarser": "same, coarser",
    "differs": "DIFFERS",
    "unconfirmed": "unconfirmed",
    "notes-blank": "blank there",
}
_BASES: Final = {"independent": "indep.", "read_off": "read off", "fitted": "fitted"}


def render_catalogue(console: Console) -> None:
    """Print all accelerators, grouped by vendor: memory and dense peaks of a matrix product."""
    rows = sorted(load(), key=_generation)
    for vendor in sorted({row.vendor for row in rows}, key=lambda v: (v != "NVIDIA", v)):
        table = _table(console, f"{vendor}: memory and dense matrix peaks, TFLOPS (INT8: TOPS)")
        table.add_column("Accelerator", overflow="fold")
        table.add_column("Memory", no_wrap=True)
        for title in ("GB/s", *(name.upper() for name in _LIST_PRECISIONS)):
            table.add_column(title, justify="right", no_wrap=True)
        for row in rows:
            if row.vendor == vendor:
                memory = f"{_number(row.mem_gb)} GB {row.mem_type or ''}"
                peaks = (row.headline_peak(name) for name in _LIST_PRECISIONS)
                table.add_row(
                    _text(row.name.removeprefix(f"{vendor} ")),
                    _text(memory),
                    *(_text(_number(value)) for value in (row.mem_bw_gbps, *peaks)),
                )
        console.print(table)
    _line(console, f"{len(rows)} accelerators. An empty cell was not published or not sourced.")
    _line(console, "MI250X and 910C are modules of two devices; a device has half of the figures.")
    _line(console, "probe peaks NAME shows one with derived peaks, conflicts and sources.")


def render_accelerator(console: Console, row: Accelerator) -> None:
    """Print one accelerator: identity, peaks and residuals, memory, conflicts, founding notes."""
    console.print(_text(f"{row.name}  ({row.key})", style="bold"))
    _identity(console, row)
    _peaks(console, row)
    _memory(console, row)
    _conflicts(console, row)
    column = founding_column_of(row.key)
    if column is not None:
        _founding(console, row, column)
    table = _table(console, "Sources")
    table.add_column("Key", no_wrap=True)
    table.add_column("Kind", no_wrap=True)
    table.add_column("Title", overflow="fold")
    for key, source in load().sources.items():
        if key in used_sources(row):
            table.add_row(_text(key), _text(source.kind), _text(source.title))
    console.print(table)


def _identity(console: Console, row: Accelerator) -> None:
    table = _table(console, None)
    table.show_header = False
    table.add_column("Field", no_wrap=True)
    table.add_column("Value", overflow="fold")
    table.add_column("Sources", style="dim", overflow="fold")
    if row.unit_count is not None:
        sources = ", ".join(row.sources.get("unit_count", ()))
        table.add_row(_text(row.unit_kind + "s"), _text(f"{row.unit_count}"), _text(sources))
    for field, title in IDENTITY_FIELDS:
        value = getattr(row, field)
        if value in (None, ()) or (field == "devices_per_module" and value == 1):
            continue
        shown = ", ".join(value) if isinstance(value, tuple) else _cell(value)
        sources = ", ".join(row.sources.get(field, ()))
        table.add_row(_text(title), _text(shown), _text(sources))
    console.print(table)


def _peaks(console: Console, row: Accelerator) -> None:
    derived, found, rates = datasheet_derived_peaks(row), residuals(row), row.rates().rates
    keys = [key for key in PEAK_TITLES if key in {*row.dense, *row.sparse, *derived}]
    if not keys:
        _line(console, "No peak is published for it, and none can be derived.")
    else:
        table = _table(console, "Peaks, TFLOPS (INT: TOPS)")
        table.add_column("Peak", no_wrap=True)
        for title in ("Dense", "Sparse", "Derived", "Residual"):
            table.add_column(title, justify="right", no_wrap=True)
        table.add_column("Rate", no_wrap=True)
        table.add_column("Sources", style="dim", overflow="fold")
        for key in keys:
            residual = found.get(key)
            outlier = residual is not None and abs(residual) > OUTLIER
            table.add_row(
                _text(PEAK_TITLES[key]),
                _text(_number(row.dense.get(key))),
                _text(_number(row.sparse.get(key))),
                _text(_number(derived[key].value) if key in derived else ""),
                _text(_percent(residual), style="yellow" if outlier else ""),
                _text(_BASES[rates[key].basis] if key in rates else ""),
                _text(", ".join(row.sources.get(f"dense.{key}", ()))),
            )
        console.print(table)
        _line(console, "Derived: units x rate x the clock the datasheet quotes the peak at.")
        _line(console, "Rate: independent of printed peaks, read off one, or fitted to them.")
    for key, sentence in _readings(row):
        _line(console, f"{PEAK_TITLES.get(key, key)}: {sentence}")
    _line(console, f"Dense or sparse: {row.dense_basis}")


def _memory(console: Console, row: Accelerator) -> None:
    parts = [f"{_cell(row.mem_gb)} GB" if row.mem_gb else "", row.mem_type or ""]
    if row.mem_bw_gbps is not None:
        parts.append(f"{_cell(row.mem_bw_gbps)} GB/s published")
    peak = catalogue_memory_peak_gbps(row)
    if peak is not None:
        parts.append(
            f"({row.mem_clock_mhz:g} MHz x {row.mem_clock_multiplier} x {row.mem_bus_bits} bit / 8 "
            f"= {peak:.1f} GB/s, {_percent(residuals(row).get(MEMORY_KEY))})"
        )
    _line(console, "Memory: " + " ".join(part for part in parts if part))
    sentence = reading(row.key, MEMORY_KEY)
    if sentence:
        _line(console, sentence)


def _conflicts(console: Console, row: Accelerator) -> None:
    if not row.conflicts:
        return
    table = _table(console, "Conflicts between sources")
    table.add_column("Field", no_wrap=True)
    table.add_column("Values (sources)", overflow="fold", ratio=1)
    table.add_column("Note", overflow="fold", ratio=1)
    for conflict in row.conflicts:
        values = "; ".join(_value(each) for each in conflict.values)
        table.add_row(_text(conflict.field), _text(values), _text(conflict.note))
    console.print(table)


def _founding(console: Console, row: Accelerator, column: FoundingColumn) -> None:
    table = _table(console, f"Founding notes, column {column.title}")
    table.add_column("Row", overflow="fold")
    table.add_column("Notes", justify="right", no_wrap=True)
    table.add_column("Catalogue", justify="right", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Remark", overflow="fold")
    for cell in column.cells:
        if cell.verdict != "both-blank":
            table.add_row(
                _text(cell.row),
                _text(cell.verbatim),
                _text(_cell(catalogue_value(row, cell.field))),
                _text(_VERDICTS[cell.verdict]),
                _text(cell.remark),
            )
    console.print(table)


def _generation(row: Accelerator) -> tuple[int, ...]:
    """Order within a vendor: by compute capability, else as the catalogue has it."""
    return tuple(int(part) for part in (row.compute_capability or "0.0").split("."))


def _readings(row: Accelerator) -> Iterable[tuple[str, str]]:
    stored = stored_residuals().get(row.key)
    if stored is None:
        return []
    found = [item for item in stored.readings.items() if item[0] != MEMORY_KEY]
    return found + [(key, f"not checked, {why}.") for key, why in stored.unchecked.items()]


def _value(value: ConflictValue) -> str:
    return f"{_cell(value.value)} ({', '.join(value.sources)})"


def _cell(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return f"{value:.10g}"


def _number(value: float | None) -> str:
    """A number in at most five characters, none of them after the point from 1000."""
    if value is None:
        return ""
    return f"{value:.0f}" if value >= 1000 else f"{value:.4g}"


def _percent(residual: float | None) -> str:
    return "" if residual is None else f"{residual:+.1%}"


def _table(console: Console, title: str | None) -> Table:
    from rich import box
    from rich.table import Table

    return Table(
        title=None if title is None else _text(title),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        width=min(console.width, 120),
    )


def _text(text: str, style: str = "") -> Text:
    """Text that rich prints as it is: no markup, no control characters."""
    from rich.text import Text

    return Text("".join(c if c.isprintable() else "�" for c in text), style=style)


def _line(console: Console, sentence: str) -> None:
    console.print(_text(sentence))
