"""Options that several commands have, each written down once."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Out = Annotated[Path, typer.Option("--out", help="Folder for run folders; made if needed.")]
DeviceName = Annotated[
    str, typer.Option("--device", help="auto, all, cpu, cuda:0, a UUID, or several with commas.")
]
Tier = Annotated[str, typer.Option("--tier", help="quick, standard or soak.")]
Precisions = Annotated[
    str | None,
    typer.Option(
        "--precision",
        help="Only these, with commas: precisions (bf16,fp8), rows (fp8-rowwise), or groups "
        "(half, 8bit, 4bit, integer, serving, dense, sparse, tensor, vector, all).",
    ),
]
Search = Annotated[
    str,
    typer.Option(
        "--search", help="How the best shape is found: halving, exhaustive (an audit) or none."
    ),
]
Sweep = Annotated[
    str | None,
    typer.Option("--sweep", help="Also, at the best shape, with commas: layouts, alignment."),
]
Compile = Annotated[
    bool, typer.Option("--compile", help="Also try what torch.compile makes (needs a compiler).")
]
Budget = Annotated[
    str | None, typer.Option("--time-budget", help="Skip what would not fit: 90s, 5m, 1h.")
]
Resume = Annotated[
    bool,
    typer.Option("--resume", help="Go on with the newest run in --out, measuring nothing twice."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="No progress and no tables.")]
Seed = Annotated[int, typer.Option("--seed", help="Seed of the random operands.", min=0)]

DEFAULT_OUT = Path("reports")
