"""Predictions beside measured steps of real models, as tables for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from roofprobe.costmodel.validation import HeldPart, HeldStep, Validation
from roofprobe.records.noise import plus_minus

_US_PER_MS = 1e3


def render(validation: Validation, console: Console, devices: dict[str, str]) -> None:
    """Print every step, then for each model and phase what its operations took.

    ``devices`` are names by id.
    """
    for device_id in dict.fromkeys(step.device_id for step in validation.steps):
        steps = [step for step in validation.steps if step.device_id == device_id]
        console.print(f"{devices.get(device_id, device_id)} ({device_id})", style="bold")
        console.print(_step_table(steps))
        console.print(_part_table(steps))
    console.print(summary(validation))
    for note in validation.notes:
        console.print(f"Note: {note}")
    for row in validation.unheld:
        console.print(f"Not compared: {row.case_id}: {row.sentence}", soft_wrap=True)


def summary(validation: Validation) -> str:
    """Return the sentence that says how far the predictions were off."""
    if validation.median_error is None or validation.worst_error is None:
        return "No step was compared."
    count = len(validation.steps)
    share = f"{validation.coverage:.0%}" if validation.coverage is not None else "none"
    return (
        f"{count} steps: off by {validation.median_error:.1%} in the median, "
        f"{validation.worst_error:.1%} at most; {share} inside the 80 % interval. "
        f"Calibration: {validation.calibration}."
    )


def _step_table(steps: Sequence[HeldStep]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("step")
    for head in ("batch", "length", "measured ms", "±", "predicted ms", "p10–p90", "error"):
        table.add_column(head, justify="right")
    several = len({step.regime for step in steps}) > 1
    for step in steps:
        regime = f" {step.regime}" if several else ""
        table.add_row(
            f"{step.model} x{step.layers} {step.phase}{regime}",
            str(step.batch),
            str(step.length),
            _ms(step.measured_us),
            plus_minus(step.measured_us, step.ci_low_us, step.ci_high_us, _ms),
            _ms(step.predicted_us),
            f"{_ms(step.p10_us)}–{_ms(step.p90_us)}",
            f"{step.error:+.1%}",
        )
    return table


def _part_table(steps: Sequence[HeldStep]) -> Table:
    """Return measured and predicted times of each operation, summed over a phase's steps."""
    phases = list(dict.fromkeys((step.phase, step.regime) for step in steps))
    table = Table(box=None, pad_edge=False)
    table.add_column("operation")
    for phase, regime in phases:
        words = f"{phase} {regime}" if len(phases) > 2 else phase
        for head in (f"{words} ms", "predicted", "error"):
            table.add_column(head, justify="right")
    names = list(dict.fromkeys(part.name for step in steps for part in step.parts))
    for name in names:
        cells: list[str] = []
        for kind in phases:
            parts = [
                part
                for step in steps
                if (step.phase, step.regime) == kind
                for part in step.parts
                if part.name == name and part.measured_us is not None
            ]
            cells += _part_cells(parts)
        table.add_row(name, *cells)
    return table


def _part_cells(parts: Sequence[HeldPart]) -> tuple[str, str, str]:
    measured = sum(part.measured_us or 0.0 for part in parts)
    told = sum(part.predicted_us for part in parts)
    if not measured:
        return "–", "–", "–"
    return _ms(measured), _ms(told), f"{told / measured - 1:+.0%}"


def _ms(us: float) -> str:
    return f"{us / _US_PER_MS:.3g}"
