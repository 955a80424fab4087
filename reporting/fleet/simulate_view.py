"""What ``probe fleet simulate`` shows: that nothing is real, what was planted, what comes next."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.text import Text

from roofprobe.acceptance.fleet.simulate_faults import Truth
from roofprobe.records.wording import plural
from roofprobe.reporting.plain_text import clean, in_encoding, listed

if TYPE_CHECKING:
    from rich.console import Console

_MOST: int = 4


def render_truth(truth: Truth, out: Path, console: Console) -> None:
    """Print what was written and what is wrong in it."""

    def line(text: str, style: str = "") -> None:
        console.print(Text(in_encoding(text, console.encoding), style=style), soft_wrap=True)

    line(f"SIMULATED: {truth.sentence}", "bold red")
    without = {h for fault in truth.faults if fault.kind == "missing-host" for h in fault.hosts}
    left = f" of {truth.hosts:,}" if without else ""
    line(
        f"{plural(truth.files, 'file')} of {truth.hosts - len(without):,}{left} "
        f"{'host' if truth.hosts == 1 else 'hosts'} with "
        f"{plural(truth.gpus, 'GPU')}, {plural(truth.runs, 'run')} each, "
        f"{truth.bytes / 1e6:,.1f} MB in {clean(str(out))}"
    )
    for fault in truth.faults:
        effect = f" by {fault.effect:.1%}" if fault.effect else ""
        detail = f" ({clean(fault.detail)})" if fault.detail else ""
        whom = f"{plural(len(fault.devices), 'device')} of " if fault.devices else ""
        line(f"  {fault.kind}{effect}{detail}: {whom}{listed(fault.hosts, _MOST)}")
    line(f"What is wrong, device by device: {clean(str(out / 'truth.json'))}")
    line(f"Next: probe fleet merge {clean(str(out / 'runs'))} --out FLEET")
