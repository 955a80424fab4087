"""What ``probe bundle`` shows: the file, what is in it, and what was taken out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.text import Text

from roofprobe.acceptance.bundle.redaction import KINDS
from roofprobe.records.wording import plural
from roofprobe.reporting.plain_text import clean

if TYPE_CHECKING:
    from rich.console import Console

    from roofprobe.acceptance.bundle.archive import Bundle


def to_json(bundle: Bundle) -> dict[str, Any]:
    """Return one JSON document: the manifest, and where the bundle is."""
    return {"path": str(bundle.path), "bytes": bundle.size_bytes, **bundle.manifest}


def render_bundle(bundle: Bundle, console: Console) -> None:
    """Print what was written and what was not."""
    manifest = bundle.manifest
    console.print(
        Text(f"{bundle.path}, {bundle.size_bytes / 1024:,.0f} KiB", style="bold"), soft_wrap=True
    )
    for name, facts in manifest["files"].items():
        console.print(Text(f"  {clean(name)}, {facts['bytes'] / 1024:,.1f} KiB"))
    for kind, counts in manifest["redacted"].items():
        values, times = plural(counts["values"], "value"), plural(counts["occurrences"], "place")
        console.print(Text(f"Taken out: {KINDS[kind]}: {values} in {times}"))
    for kind in manifest["kept"]:
        console.print(Text(f"Kept: {KINDS[kind]}", style="yellow"))
    for name, why in manifest["left_out"].items():
        console.print(Text(f"Not in it: {clean(name)}: {clean(why)}", style="dim"))
    console.print(Text(f"Stays: {manifest['not_redacted']}. Look before you send it."))
