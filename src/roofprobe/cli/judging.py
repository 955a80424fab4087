"""Commands that judge a run, compare runs, and pack one as evidence."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roofprobe.cli.options import (
    AsJson,
)
from roofprobe.cli.output import console, exit_with, print_json, write_stdout


def check(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A run folder, its run.json, or a folder of runs (the newest)."
        ),
    ],
    against: Annotated[
        list[Path] | None,
        typer.Option(
            "--against",
            metavar="RUN",
            help="An earlier run of the same device or kind to hold it against; may be repeated.",
        ),
    ] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on warnings too.")] = False,
    junit: Annotated[
        Path | None, typer.Option("--junit", metavar="FILE", help="Also write JUnit XML.")
    ] = None,
    prometheus: Annotated[
        Path | None,
        typer.Option("--prometheus", metavar="FILE", help="Also write Prometheus metrics."),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown, to paste into an issue.")
    ] = False,
    nagios: Annotated[
        bool,
        typer.Option(
            "--nagios", help="Print one line, and exit as Nagios wants: 0, 1 warn, 2 fail, 3."
        ),
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Also what passed, finding by finding.")] = (
        False
    ),
    json_: AsJson = False,
) -> None:
    """Judge a run: is this what it is sold as, and healthy? Exits with 0, 1 (fail) or 3."""

    def judged() -> int:
        from roofprobe.checking import check as check_run
        from roofprobe.records.errors import RoofprobeError
        from roofprobe.reporting import check_view
        from roofprobe.reporting.verdict_rows import exit_code

        if sum((json_, markdown, nagios)) > 1:
            raise RoofprobeError(
                "one-output", "--json, --markdown and --nagios are three outputs; choose one"
            )
        try:
            found = check_run(run, against or (), junit=junit, prometheus=prometheus)
        except RoofprobeError as error:
            if not nagios:
                raise
            print(check_view.nagios_unknown(error.sentence))
            return 3  # Nagios takes 2 for a fault of the device
        if nagios:
            print(check_view.nagios_line(found.run, found.verdict))
            return check_view.nagios_exit_code(found.run, found.verdict)
        if json_:
            print_json(check_view.to_json(found.run, found.verdict, strict=strict))
        elif markdown:
            write_stdout(check_view.to_markdown_check(found.run, found.verdict).encode())
        else:
            check_view.render_check(found.run, found.verdict, console(), full=full)
        return exit_code(found.run, found.verdict, strict=strict)

    exit_with(judged, json_)


def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="A run, its run.json, or a folder of runs: all.")
    ],
    b: Annotated[Path, typer.Argument(metavar="B", help="The same, to hold against A.")],
    fail_on: Annotated[
        str | None,
        typer.Option("--fail-on", help="Exit with 1 where a row is proven so much slower: 5%."),
    ] = None,
    family: Annotated[
        str | None, typer.Option("--family", help="Only these, with commas: compute,memory.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="List unchanged rows too.")] = False,
    markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown.")] = False,
    json_: AsJson = False,
) -> None:
    """Say what changed between two runs, or two sets of runs, and how surely."""

    def run() -> int:
        from roofprobe.acceptance.compare import judge as comparing
        from roofprobe.acceptance.compare.options import families_of, share_of
        from roofprobe.opening import read
        from roofprobe.records.errors import RoofprobeError
        from roofprobe.reporting import compare_view

        if json_ and markdown:
            raise RoofprobeError("two-formats", "--json and --markdown exclude each other")
        bound = None if fail_on is None else share_of(fail_on)
        families = None if family is None else families_of(family)
        found = comparing.compare(a, b, families=families, fail_on=bound, read=read)
        if json_:
            write_stdout(compare_view.to_json(found))
        elif markdown:
            from roofprobe.reporting.compare_markdown import to_markdown

            write_stdout(to_markdown(found).encode())
        else:
            compare_view.render(found, console(), full=every)
        return comparing.exit_code(found)

    exit_with(run, json_)


def bundle(
    run: Annotated[Path, typer.Argument(help="A run folder, its run.json, or a folder of runs.")],
    out: Annotated[
        str | None,
        typer.Option("--out", metavar="PATH", help="The zip to write, or the folder for it."),
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", help="Leave in, with commas: host, serials, paths, ips."),
    ] = None,
    json_: AsJson = False,
) -> None:
    """Pack a run, without what identifies its owner, as evidence to send."""

    def pack() -> int:
        from roofprobe.acceptance.bundle.archive import write_bundle
        from roofprobe.acceptance.bundle.redaction import Redactor
        from roofprobe.acceptance.bundle.redaction_words import known_here
        from roofprobe.reporting import bundle_view
        from roofprobe.reporting.files import render_bundled
        from roofprobe.run import record_of

        kinds = [part.strip() for part in keep.split(",")] if keep else []
        redactor = Redactor(kinds, known_here())
        done = write_bundle(run, out, redactor=redactor, render=render_bundled, rebuild=record_of)
        if json_:
            print_json(bundle_view.to_json(done))
        else:
            bundle_view.render_bundle(done, console())
        return 0

    exit_with(pack, json_)
