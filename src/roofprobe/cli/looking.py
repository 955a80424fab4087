"""Commands that look: at runs, at the catalogue, at the formats of files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roofprobe.cli.options import (
    AsJson,
)
from roofprobe.cli.output import console, exit_with, print_json, write_stdout


def show(
    run: Annotated[Path, typer.Argument(help="A run folder, its run.json, or a folder of runs.")],
    json_: AsJson = False,
    full: Annotated[
        bool, typer.Option("--full", help="Also routes, data, shapes, searches, skipped cases.")
    ] = False,
) -> None:
    """Show the result tables of a run."""

    def show_run() -> int:
        from roofprobe.opening import read
        from roofprobe.records.runfolder import run_bytes
        from roofprobe.reporting.terminal import render_run

        record = read(run)
        if json_:
            write_stdout(run_bytes(record))
        else:
            render_run(record, console(), full=full)
        return 0

    exit_with(show_run, json_)


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...",
            help="A run, its run.json, or a folder of runs; several: side by side.",
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="PATH", help="A folder or an .html file; by default the run's folder."
        ),
    ] = None,
    index: Annotated[
        bool, typer.Option("--index", help="Only the index.html of a folder of runs.")
    ] = False,
    side_by_side: Annotated[
        bool, typer.Option("--side-by-side", help="Columns for the devices of one run.")
    ] = False,
    json_: AsJson = False,
) -> None:
    """Draw reports anew from records: of a run, of several side by side, of a folder of runs."""

    def render() -> int:
        from roofprobe import rendering

        written = rendering.report(runs, out, index=index, side_by_side=side_by_side)
        if json_:
            print_json({"written": [str(path) for path in written]})
        else:
            from roofprobe.reporting.page import Page

            page = Page(console())
            for path in written:
                page.path("Written", path)
        return 0

    exit_with(render, json_)


def peaks(
    name: Annotated[
        str | None, typer.Argument(help='An accelerator, e.g. "H20 96G"; none lists all.')
    ] = None,
    json_: AsJson = False,
) -> None:
    """Show datasheet and derived peaks, conflicts and sources."""

    def run() -> int:
        from roofprobe.peaks.find import UnknownAcceleratorError, find
        from roofprobe.records.errors import RoofprobeError
        from roofprobe.reporting import peaks_view

        if name is None:
            if json_:
                print_json(peaks_view.catalogue_json())
            else:
                peaks_view.render_catalogue(console())
            return 0
        try:
            accelerator = find(name)
        except UnknownAcceleratorError as error:
            raise RoofprobeError("unknown-accelerator", str(error)) from None
        if json_:
            print_json(peaks_view.accelerator_json(accelerator))
        else:
            peaks_view.render_accelerator(console(), accelerator)
        return 0

    exit_with(run, json_)


def schema(
    name: Annotated[
        str,
        typer.Argument(help="Of which: run, calibration, validation, comparison, check or fleet."),
    ] = "run",
) -> None:
    """Print the JSON Schema of run.json, of another file, or of what a command prints as JSON."""

    def run() -> int:
        from roofprobe.acceptance.compare.comparison import comparison_json_schema
        from roofprobe.acceptance.fleet.fleet_verdict import fleet_verdict_json_schema
        from roofprobe.costmodel.calibration_file import calibration_json_schema
        from roofprobe.costmodel.validation import validation_json_schema
        from roofprobe.records.errors import RoofprobeError
        from roofprobe.records.schema import run_json_schema
        from roofprobe.reporting.check_json import check_json_schema

        schemas = {
            "run": run_json_schema,
            "calibration": calibration_json_schema,
            "validation": validation_json_schema,
            "comparison": comparison_json_schema,
            "check": check_json_schema,
            "fleet": fleet_verdict_json_schema,
        }
        if name not in schemas:
            raise RoofprobeError(
                "unknown-schema", f"there is no schema {name!r}; choose one of {', '.join(schemas)}"
            )
        print_json(schemas[name]())
        return 0

    exit_with(run, True)
