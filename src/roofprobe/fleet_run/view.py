"""What a fleet run came to, as one JSON document and as a table of slots."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from roofprobe.fleet_run.drive import FleetRun
from roofprobe.fleet_run.journal import NAME, counted
from roofprobe.fleet_run.replies import title
from roofprobe.records.errors import visible

if TYPE_CHECKING:
    from rich.console import Console


def to_json(found: FleetRun) -> dict[str, Any]:
    """Return the document that ``probe fleet run --json`` prints."""
    return {
        "format": "roofprobe-fleet-run",
        "version": 1,
        "out": str(found.out),
        "journal": str(found.out / NAME),
        "interrupted": found.interrupted,
        "counts": counted(found.outcomes),
        "measured_before": found.repeated,
        "side_by_side": dict(found.concurrency),
        "slots": [asdict(each) for each in found.outcomes],
        "notes": list(found.notes),
        "next": _next(found),
        "exit_code": found.exit_code,
    }


def render(found: FleetRun, console: Console) -> None:
    """Print the table of slots, the notes, and what to do next."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for head in ("node", "slot", "state", "s", "run, or why there is none"):
        table.add_column(head, justify="right" if head == "s" else "left", overflow="fold")
    for each in found.outcomes:
        why = each.sentence if each.state != "finished" else ""
        told = " · ".join(part for part in (each.folder or "", why) if part)
        took = "–" if each.seconds is None else f"{each.seconds:.0f}"
        cells = (each.node, title(each.device), each.state, took, told)
        table.add_row(*(Text(visible(cell)) for cell in cells))
    if found.outcomes:
        console.print(table)
        console.print()
    counts = ", ".join(f"{n} {state}" for state, n in counted(found.outcomes).items() if n)
    console.print(Text(f"slots: {len(found.outcomes)}, {counts or 'nothing to measure'}"))
    shared = {node: n for node, n in found.concurrency.items() if n > 1}
    if shared:
        console.print(Text(
            f"Up to {max(shared.values())} slots of a node ran side by side, sharing its power and "
            "cooling (and on CPUs the cores); with --per-node 1 one after another."
        ))  # fmt: skip
    for note in found.notes:
        console.print(Text(visible(note)))
    for step in _next(found):
        console.print(Text(f"next: {step}"))


def _next(found: FleetRun) -> list[str]:
    steps = []
    if any(each.state == "unknown" for each in found.outcomes):
        steps.append("repeat the command with --resume: it measures what is unknown")
    if any(each.folder for each in found.outcomes):
        steps.append(f"probe fleet merge {found.out} --out FLEET")
    return steps
