"""What ``probe export`` shows: the files, how many times were measured, how to load them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from roofprobe.costmodel.export import Exported


def to_json(written: Exported) -> dict[str, Any]:
    """Return one JSON document."""
    return {
        "folder": str(written.folder),
        "label": written.label,
        "files": list(written.files),
        "measured": written.measured,
        "modelled": written.modelled,
        "notes": list(written.notes),
        "load": written.load,
    }


def render_export(written: Exported, console: Console) -> None:
    """Print what was written, and the command that loads it."""
    # paths are to be copied, so the terminal wraps them and we do not
    console.print(Text(f"{written.label} in {written.folder}", style="bold"), soft_wrap=True)
    shown = [name for name in written.files if not name.startswith("profiler/")]
    for name in shown:
        console.print(Text(f"  {name}"), soft_wrap=True)
    if len(shown) < len(written.files):
        console.print(Text(f"  and {len(written.files) - len(shown)} files below profiler/"))
    console.print(
        Text(f"{written.measured:,} times measured, {written.modelled:,} from the calibrated model")
    )
    for note in written.notes:
        console.print(Text(f"- {note}", style="dim"))
    console.print(Text("Load it:", style="bold"))
    console.print(Text(written.load), soft_wrap=True)
