"""A calibration for people: one line per operation with its error at sites it had not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roofprobe.costmodel.calibration_file import CalibrationFile, OpFit
from roofprobe.reporting.plain_text import clean, in_encoding

if TYPE_CHECKING:
    from rich.console import Console


def render_calibration(file: CalibrationFile, console: Console) -> None:
    """Print a table per device; where a device has several sources, per source, named."""
    from rich.markup import escape
    from rich.table import Table

    titles = {source.key: source.title for source in file.provenance}
    for device in file.devices:
        sources = dict.fromkeys(fit.provenance for fit in device.ops)
        for source in sources:
            of = f", from {titles.get(source, source)}" if len(sources) > 1 else ""
            table = Table(title=escape(clean(device.name + of)), title_justify="left")
            table.add_column("Operation", overflow="fold")
            table.add_column("Precision", overflow="fold")
            for name in ("Sites", "Median", "p90", "Compute", "Memory", "t0 µs"):
                table.add_column(in_encoding(name, console.encoding), justify="right", no_wrap=True)
            for fit in device.ops:
                if fit.provenance == source:
                    cells = (in_encoding(cell, console.encoding) for cell in _cells(fit))
                    table.add_row(*map(escape, cells))
            console.print(table)
        if not sources:
            console.print(
                f"{escape(clean(device.name))}: no operations of a model were timed; "
                f"{len(device.gemm)} matrix products and {len(device.stream)} streams are kept."
            )
    if any(device.ops for device in file.devices):
        console.print(
            "Median and p90 are errors at sites (weights, head geometries) that the fit had not "
            "seen; efficiencies are relative to the peaks in the file."
        )


def _cells(fit: OpFit) -> tuple[str, ...]:
    held = fit.held_out
    told = (f"{held.median:.1%}", f"{held.p90:.1%}") if held else ("–", "–")
    sites = str(held.sites) if held else "–"
    kv = f", KV {fit.kv_precision}" if fit.kv_precision else ""
    kernel = f" ({fit.kernel})" if fit.kernel else ""
    return (
        f"{fit.op}{kernel}",
        f"{fit.precision}{kv}",
        sites,
        *told,
        f"{fit.compute_efficiency:.2f}",
        f"{fit.memory_efficiency:.2f}",
        f"{max(fit.t0_us, fit.host_floor_us):.1f}",
    )
