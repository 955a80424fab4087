"""``probe fleet``: many hosts' runs as one dataset, and what it says of each of them."""

from __future__ import annotations

import sys
from pathlib import Path
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


@app.command("report")
def report(
    fleet: Annotated[
        str,
        typer.Argument(metavar="FLEET", help="A fleet (a folder or URL), or a folder of runs."),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="PATH",
            help="Also write the page, the JSON and the metrics into this folder, or to X.html.",
        ),
    ] = None,
    expect: Annotated[
        Path | None,
        typer.Option(
            "--expect",
            metavar="FILE",
            help="Hosts that should be there: one a line, its number of devices behind it.",
        ),
    ] = None,
    window: Annotated[
        float | None,
        typer.Option(
            "--window",
            metavar="DAYS",
            min=0.01,
            help="Only devices seen in so many days before the newest run; without it all.",
        ),
    ] = None,
    least_peers: Annotated[
        int,
        typer.Option("--least-peers", min=3, help="Equal devices that a criterion needs."),
    ] = 10,
    prometheus: Annotated[
        Path | None,
        typer.Option("--prometheus", metavar="FILE", help="Also write Prometheus metrics."),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings too.")] = False,
    full: Annotated[
        bool, typer.Option("--full", help="List every device, finding and refused file.")
    ] = False,
    json_: AsJson = False,
) -> None:
    """Judge every device of a fleet against its like. Exits with 0, 1 (fail) or 3 (unknown)."""

    def run() -> int:
        from roofprobe.fleet_reporting import report as reported
        from roofprobe.reporting.fleet import fleet_rows, fleet_view, merge_view

        with merge_view.progress_on(sys.stderr, quiet=not sys.stderr.isatty()) as progress:
            found = reported(
                fleet,
                out=out,
                expect=expect,
                prometheus=prometheus,
                window_days=window,
                least_peers=least_peers,
                progress=progress,
            )
        if json_:
            print_json(fleet_view.to_json(found.verdict))
        else:
            fleet_view.render(
                found.verdict, found.refused, console(), full=full, written=found.written
            )
        return fleet_rows.exit_code(found.verdict, strict=strict)

    exit_with(run, json_)


@app.command("simulate")
def simulate(
    hosts: Annotated[int, typer.Option("--hosts", min=1, help="How many hosts.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder for the run folders.")],
    gpus: Annotated[int, typer.Option("--gpus", min=1, help="GPUs per host.")] = 8,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs per host, a month apart.")] = 1,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of noise and places.")] = 0,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            "--fault",
            metavar="KIND:COUNT[:EFFECT][:DETAIL]",
            help="A fault to plant, as slow-gpu:3:5%; may be repeated. A wrong one lists all.",
        ),
    ] = None,
    sku: Annotated[
        str | None, typer.Option("--sku", help="Which card: a key of the catalogue.")
    ] = None,
    json_: AsJson = False,
) -> None:
    """Write the runs of a fleet that does not exist, with known faults, to try the rest out."""

    def run() -> int:
        from roofprobe.acceptance.fleet import simulate as simulated
        from roofprobe.reporting.fleet import simulate_view

        truth = simulated.simulate(
            out,
            hosts=hosts,
            gpus=gpus,
            runs=runs,
            seed=seed,
            faults=fault or (),
            sku=sku or simulated.SKU,
        )
        if json_:
            print_json(truth.model_dump(mode="json"))
        else:
            simulate_view.render_truth(truth, out, console())
        return 0

    exit_with(run, json_)
