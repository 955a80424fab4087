"""``probe fleet``: many hosts' runs as one dataset, and what it says of each of them."""

from __future__ import annotations

import sys
from typing import Annotated, Final

import typer

from roofprobe.cli import fleet_running
from roofprobe.cli.options import AsJson, Quiet
from roofprobe.cli.output import console, exit_with, print_json

app: Final = typer.Typer(
    help="Many hosts: merge their runs into a dataset, judge each GPU against its like.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
app.command("run")(fleet_running.run)


@app.command("merge")
def merge(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="RUNS…", help="Folders searched for runs, run.json files, or quoted patterns."
        ),
    ],
    out: Annotated[
        str,
        typer.Option(
            "--out", metavar="FLEET", help="The dataset: a folder, or a URL such as s3://…"
        ),
    ],
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes that read runs; without it one per core."),
    ] = None,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Merge runs into a fleet, again and again: what is known is left, what went on is replaced.

    Exits with 0 when every run that was found counts, and with 3 when one was refused now: the rest
    is merged all the same, and a file that was refused before is not told again.
    """

    def run() -> int:
        from roofprobe.records.fleet.merge import merge as merge_runs
        from roofprobe.reporting.fleet import merge_view
        from roofprobe.run import record_in

        with merge_view.progress_on(sys.stderr, quiet=quiet) as progress:
            merged = merge_runs(sources, out, rebuild=record_in, workers=workers, progress=progress)
        if json_:
            print_json(merge_view.to_json(merged))
        elif not quiet:
            merge_view.render_merged(merged, console())
        return 3 if merged.refused else 0

    exit_with(run, json_)
