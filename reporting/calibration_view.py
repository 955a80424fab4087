"""A calibration for people: one line per operation with its error at sites it had not seen."""

from __future__ import annotations

from typing import TYPE_CHECKING

from roofprobe.costmodel.calibration_file import CalibrationFile, OpFit

if TYPE_CHECKING:
    from rich.console import Console


def render_calibration(file: CalibrationFile, console: Console) -> None:
    """Print a table per device."""
    from rich.markup import escape
    from rich.table import Table

    for device in file.devices:
        table = Table(title=escape(device.name), title_justify="left")
        table.add_column("Operation", overflow="fold")
        table.add_column("Precision", overflow="fold")
        for name in ("Sites", "Median", "p90", "Compute", "Memory", "t0 µs"):
            table.add_column(name, justify="right", no_wrap=True)
        for fit in device.ops:
            table.add_row(*(escape(cell) for cell in _cells(fit)))
        if device.ops:
            console.print(table)
        else:
            console.print(
                f"{escape(device.name)}: no operations of a model were timed; "
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
