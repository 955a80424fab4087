"""``probe fleet run``: its options, which are those of ``probe`` and where the nodes are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from roofprobe.cli.options import AsJson, Budget, Precisions, Quiet, Seed, Tier
from roofprobe.cli.output import console, exit_with, print_json, say

if TYPE_CHECKING:
    from roofprobe.fleet_run.asked import Asked

FAMILIES: Final = ("all", "compute", "memory", "interconnect", "llm")
_WITH_PRECISION: Final = ("all", "compute", "llm")


def run(
    family: Annotated[
        str,
        typer.Argument(metavar="[FAMILY]", help="all, compute, memory, interconnect or llm."),
    ] = "all",
    out: Annotated[
        Path, typer.Option("--out", help="Folder for a folder per node; made if needed.")
    ] = Path("reports"),
    address: Annotated[
        str | None,
        typer.Option(
            "--address",
            help="The Ray cluster: auto, HOST:PORT, ray://HOST:PORT, or local to start one here; "
            "without it RAY_ADDRESS, or else local.",
        ),
    ] = None,
    expect: Annotated[
        Path | None,
        typer.Option(
            "--expect",
            metavar="FILE",
            help="Nodes that have to be there: a name or address a line, then how many GPUs.",
        ),
    ] = None,
    per_node: Annotated[
        int | None,
        typer.Option("--per-node", min=1, help="Slots of a node at once; without it all."),
    ] = None,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout",
            help="The most that a slot may take: 45m; without it 10m, 30m or 6h by tier.",
        ),
    ] = None,
    no_install: Annotated[
        bool, typer.Option("--no-install", help="The nodes have roofprobe already.")
    ] = False,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on with the fleet run in --out: what has no result."),
    ] = False,
    device: Annotated[
        str,
        typer.Option("--device", help="auto: the GPU that Ray gives each slot; or cpu, or xpu."),
    ] = "auto",
    tier: Tier = "standard",
    precision: Precisions = None,
    time_budget: Budget = None,
    json_: AsJson = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Measure every GPU of a Ray cluster, one slot a GPU, and lose no result.

    Exits with 0 when every slot finished, 1 when a verdict is fail, and 3 when a slot is unknown:
    its node is missing or died, it was too slow, or the fleet run was interrupted.
    """

    def ran() -> int:
        from roofprobe.fleet_run import drive, view

        asked = _asked(
            family, address or os.environ.get("RAY_ADDRESS"), expect, per_node, timeout, no_install,
            device, tier, precision, time_budget, seed,
        )  # fmt: skip
        tell = (lambda sentence: None) if quiet else say
        found = drive.fleet_run(asked, out, resume=resume, say=tell)
        if json_:
            print_json(view.to_json(found))
        elif not quiet:
            view.render(found, console())
        return found.exit_code

    exit_with(ran, json_)


def _asked(
    family: str, address: str | None, expect: Path | None, per_node: int | None,
    timeout: str | None, no_install: bool, device: str, tier: str, precision: str | None,
    time_budget: str | None, seed: int,
) -> Asked:  # fmt: skip
    """Return checked options; what a node would refuse is refused here."""
    from roofprobe.asking import options_from, parse_duration_s
    from roofprobe.fleet_run import asked, slots
    from roofprobe.records.errors import RoofprobeError

    if family not in FAMILIES:
        raise RoofprobeError(
            "unknown-family", f"there is no family {family!r}; choose one of {', '.join(FAMILIES)}"
        )
    if precision is not None and family not in _WITH_PRECISION:
        raise RoofprobeError(
            "unknown-precision", f"{family} is measured without --precision; leave it out"
        )
    options = options_from((), device, tier, precision, time_budget, seed)
    limit_s = asked.LIMITS_S[tier] + (options.time_budget_s or 0)
    return asked.Asked(
        family=family,
        tier=tier,
        precisions=options.precisions,
        seed=seed,
        time_budget_s=options.time_budget_s,
        device=device,
        address=address,
        install=not no_install,
        expected=slots.expected_in(expect) if expect else (),
        per_node=per_node,
        limit_s=parse_duration_s(timeout, "--timeout") if timeout else limit_s,
    )
