"""``probe history``: what past runs say of a device, of a kind, of a host."""

from __future__ import annotations

import sys
from datetime import date
from typing import Annotated, Final

import typer

from roofprobe.cli.options import DEFAULT_OUT, AsJson
from roofprobe.cli.output import console, exit_with, print_json, say, write_stdout

_MOST_ROWS: Final = 500  # on a terminal


def history(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="A fleet (a folder or URL), or a folder of runs."),
    ] = str(DEFAULT_OUT),
    metric: Annotated[
        str | None,
        typer.Option(
            "--metric", help='A metric, a part of its name, or a pattern: "compute bf16 burst".'
        ),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="Only this device: its UUID, or the start of it.")
    ] = None,
    sku: Annotated[
        str | None, typer.Option("--sku", help="Only this kind of device: h100-sxm, or a name.")
    ] = None,
    host: Annotated[str | None, typer.Option("--host", help="Only this host.")] = None,
    since: Annotated[
        str | None, typer.Option("--since", metavar="DATE", help="From this day on: 2026-01-31.")
    ] = None,
    sql: Annotated[
        str | None,
        typer.Option("--sql", help="One SELECT over the views runs, devices and metrics."),
    ] = None,
    csv: Annotated[bool, typer.Option("--csv", help="Print CSV.")] = False,
    json_: AsJson = False,
) -> None:
    """Show a metric over time, by device, kind or host; without --metric the metrics there are."""

    def run() -> int:
        from roofprobe.records.errors import RoofprobeError
        from roofprobe.records.fleet import history as remembered
        from roofprobe.reporting.fleet import history_view as view
        from roofprobe.reporting.fleet.merge_view import progress_on
        from roofprobe.run import record_in

        filters = [name for name, given in (("--gpu", gpu), ("--sku", sku), ("--host", host),
                                            ("--since", since)) if given is not None]  # fmt: skip
        if sql is not None and (metric is not None or filters):
            raise RoofprobeError("two-questions", "--sql stands alone; write conditions into it")
        if metric is None and filters and sql is None:
            raise RoofprobeError("no-metric", f"{filters[0]} needs --metric NAME beside it")
        if csv and json_:
            raise RoofprobeError("two-formats", "--csv and --json exclude each other")
        day = None if since is None else _day(since)
        with (
            progress_on(sys.stderr, quiet=not sys.stderr.isatty()) as progress,
            remembered.opened(source, record_in, progress=progress) as found,
        ):
            left_out = view.refused_line(found.refused)
            if left_out:
                say(f"probe: {left_out}")
            simulated = remembered.simulated_in(found)
            if sql is not None:
                most = None if csv or json_ else _MOST_ROWS
                shown = view.of_selected(remembered.select(found, sql, most=most))
            elif metric is None:
                shown = view.of_metrics(remembered.metrics_in(found.connection))
            else:
                wanted = remembered.Wanted(metric, gpu, sku, host, day)
                shown = view.of_series(remembered.history(found.connection, wanted))
        if json_:
            print_json({"simulated": list(simulated), **shown.json()})
        elif csv:
            for line in view.simulated_lines(simulated):
                say(line)
            write_stdout(shown.csv())
        else:
            view.render_simulated(simulated, console())
            shown.render(console())
        return 0

    exit_with(run, json_)


def _day(text: str) -> date:
    from roofprobe.records.errors import RoofprobeError

    try:
        return date.fromisoformat(text)
    except ValueError:
        raise RoofprobeError(
            "bad-date", f"--since {text!r} is no date; write it as 2026-01-31"
        ) from None
