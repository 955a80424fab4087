"""The ``probe`` command: arguments and exit codes only; the work is in ``roofprobe.run``.

Data goes to standard output, progress and messages to standard error. Heavy modules are imported
inside the commands, so that ``probe --help`` answers at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from roofprobe import __version__

if TYPE_CHECKING:
    from rich.console import Console

    from roofprobe.records.schema import Options

app = typer.Typer(
    name="probe",
    help="Measure what a GPU really reaches, beside its datasheet.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

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

_DEFAULT_OUT = Path("reports")


def _version(value: bool) -> None:
    if value:
        typer.echo(f"roofprobe {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Measure what a GPU really reaches, beside its datasheet."""


@app.command("all")
def all_(
    out: Out = _DEFAULT_OUT,
    device: DeviceName = "auto",
    tier: Tier = "standard",
    precision: Precisions = None,
    time_budget: Budget = None,
    resume: Resume = False,
    json_: AsJson = False,
    quiet: Quiet = False,
    seed: Seed = 0,
    search: Search = "halving",
    sweep: Sweep = None,
    compile_: Compile = False,
) -> None:
    """Measure everything that fits this host, and write a report."""
    families = ("compute", "memory", "latency", "launch", "interconnect", "llm")
    wanted = partial(_options, families, device, tier, precision, time_budget, seed, search=search,
                     sweep=sweep, compile_routes=compile_)  # fmt: skip
    _measure(wanted, out, resume, json_, quiet)


@app.command()
def compute(
    out: Out = _DEFAULT_OUT,
    device: DeviceName = "auto",
    tier: Tier = "standard",
    precision: Precisions = None,
    time_budget: Budget = None,
    resume: Resume = False,
    json_: AsJson = False,
    quiet: Quiet = False,
    seed: Seed = 0,
    search: Search = "halving",
    sweep: Sweep = None,
    compile_: Compile = False,
) -> None:
    """Measure matrix products only, at every precision."""
    families = ("compute",)
    wanted = partial(_options, families, device, tier, precision, time_budget, seed, search=search,
                     sweep=sweep, compile_routes=compile_)  # fmt: skip
    _measure(wanted, out, resume, json_, quiet)


@app.command()
def memory(
    out: Out = _DEFAULT_OUT,
    device: DeviceName = "auto",
    tier: Tier = "standard",
    time_budget: Budget = None,
    resume: Resume = False,
    json_: AsJson = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Measure memory only: streams, sizes through the caches, latency, and what a launch costs."""
    families = ("memory", "latency", "launch")
    wanted = partial(_options, families, device, tier, None, time_budget, seed)
    _measure(wanted, out, resume, json_, quiet)


@app.command()
def interconnect(
    out: Out = _DEFAULT_OUT,
    device: DeviceName = "auto",
    tier: Tier = "standard",
    time_budget: Budget = None,
    resume: Resume = False,
    json_: AsJson = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Measure what moves between host and devices, and between devices."""
    wanted = partial(_options, ("interconnect",), device, tier, None, time_budget, seed)
    _measure(wanted, out, resume, json_, quiet)


@app.command()
def llm(
    out: Out = _DEFAULT_OUT,
    device: DeviceName = "auto",
    tier: Tier = "standard",
    precision: Precisions = None,
    time_budget: Budget = None,
    resume: Resume = False,
    json_: AsJson = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Measure the operations of language models: layers, attention, experts, norms, sampling."""
    wanted = partial(_options, ("llm",), device, tier, precision, time_budget, seed)
    _measure(wanted, out, resume, json_, quiet)


@app.command()
def doctor(out: Out = _DEFAULT_OUT, json_: AsJson = False) -> None:
    """Say what is missing or wrong on this host, and how to mend it."""

    def run() -> int:
        from roofprobe.probes.doctor import examine, exit_code
        from roofprobe.reporting import doctor_view

        findings = examine(out=out)
        if json_:
            _print_json(doctor_view.to_json(findings))
        else:
            doctor_view.render(findings, _console())
        return exit_code(findings)

    _exit_with(run, json_)


@app.command()
def show(
    run: Annotated[Path, typer.Argument(help="A run folder, its run.json, or a folder of runs.")],
    json_: AsJson = False,
    full: Annotated[
        bool, typer.Option("--full", help="Also routes, data, shapes, searches, skipped cases.")
    ] = False,
) -> None:
    """Show the result tables of a run."""

    def show_run() -> int:
        from roofprobe.records.runfolder import read_run, run_bytes
        from roofprobe.reporting.terminal import render_run

        record = read_run(run)
        if json_:
            _write_stdout(run_bytes(record))
        else:
            render_run(record, _console(), full=full)
        return 0

    _exit_with(show_run, json_)


@app.command()
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
            _print_json(check_view.to_json(found.run, found.verdict, strict=strict))
        elif markdown:
            _write_stdout(check_view.to_markdown_check(found.run, found.verdict).encode())
        else:
            check_view.render_check(found.run, found.verdict, _console(), full=full)
        return exit_code(found.run, found.verdict, strict=strict)

    _exit_with(judged, json_)


@app.command()
def bundle(
    run: Annotated[Path, typer.Argument(help="A run folder, its run.json, or a folder of runs.")],
    out: Annotated[
        Path | None, typer.Option("--out", help="The zip to write, or the folder for it.")
    ] = None,
    keep: Annotated[
        str | None,
        typer.Option("--keep", help="Leave in, with commas: host, serials, paths, ips."),
    ] = None,
    json_: AsJson = False,
) -> None:
    """Pack a run, without what identifies its owner, as evidence to send."""

    def pack() -> int:
        from roofprobe.acceptance.bundle import write_bundle
        from roofprobe.acceptance.redaction import Redactor, known_here
        from roofprobe.reporting import bundle_view
        from roofprobe.reporting.files import render_files
        from roofprobe.run import record_of

        kinds = [part.strip() for part in keep.split(",")] if keep else []
        redactor = Redactor(kinds, known_here())
        done = write_bundle(run, out, redactor=redactor, render=render_files, rebuild=record_of)
        if json_:
            _print_json(bundle_view.to_json(done))
        else:
            bundle_view.render_bundle(done, _console())
        return 0

    _exit_with(pack, json_)


@app.command()
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
                _print_json(peaks_view.catalogue_json())
            else:
                peaks_view.render_catalogue(_console())
            return 0
        try:
            accelerator = find(name)
        except UnknownAcceleratorError as error:
            raise RoofprobeError("unknown-accelerator", str(error)) from None
        if json_:
            _print_json(peaks_view.accelerator_json(accelerator))
        else:
            peaks_view.render_accelerator(_console(), accelerator)
        return 0

    _exit_with(run, json_)


@app.command()
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
        from roofprobe.acceptance import compare as comparing
        from roofprobe.acceptance.compare_options import families_of, share_of
        from roofprobe.records.errors import RoofprobeError
        from roofprobe.reporting import compare_view

        if json_ and markdown:
            raise RoofprobeError("two-formats", "--json and --markdown exclude each other")
        bound = None if fail_on is None else share_of(fail_on)
        families = None if family is None else families_of(family)
        found = comparing.compare(a, b, families=families, fail_on=bound)
        if json_:
            _write_stdout(compare_view.to_json(found))
        elif markdown:
            from roofprobe.reporting.compare_markdown import to_markdown

            _write_stdout(to_markdown(found).encode())
        else:
            compare_view.render(found, _console(), full=every)
        return comparing.exit_code(found)

    _exit_with(run, json_)


@app.command()
def calibrate(
    sources: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN|TABLE...", help="Run folders, run.json files, op tables (CSV, Parquet)."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="The calibration file to write.")],
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="Only this GPU; names it where a table does not.")
    ] = None,
    framework: Annotated[
        str | None,
        typer.Option("--framework", help="The engine to take (default: the most complete)."),
    ] = None,
    json_: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Fit efficiency factors from runs, or from op tables published by others."""

    def run() -> int:
        from roofprobe.costmodel.calibrate import calibrate
        from roofprobe.costmodel.calibration_file import calibration_bytes
        from roofprobe.records.runfolder import write_whole
        from roofprobe.reporting.calibration_view import render_calibration

        progress = (lambda _: None) if quiet else _say
        outcome = calibrate(sources, gpu=gpu, framework=framework, progress=progress)
        document = calibration_bytes(outcome.file)
        write_whole(out, document)
        if json_:
            _write_stdout(document)
        elif not quiet:
            render_calibration(outcome.file, _console())
        for note in () if quiet else outcome.notes:
            _say(f"Note: {note}")
        return 0

    _exit_with(run, json_)


@app.command()
def plan(
    model: Annotated[
        str | None,
        typer.Option("--model", help="A preset, or a Hugging Face config.json or its folder."),
    ] = None,
    gpu: Annotated[
        str | None,
        typer.Option("--gpu", help="A catalogue GPU: datasheet with stated default efficiencies."),
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="A calibration.json, or the run folder that has one."),
    ] = None,
    precision: Annotated[
        str | None, typer.Option("--precision", help="Of the weights; default the checkpoint's.")
    ] = None,
    kv_precision: Annotated[
        str | None, typer.Option("--kv-precision", help="Of the KV cache; default 16 bits.")
    ] = None,
    tp: Annotated[int | None, typer.Option("--tp", help="Tensor-parallel degree.")] = None,
    pp: Annotated[int | None, typer.Option("--pp", help="Pipeline stages.")] = None,
    ep: Annotated[int | None, typer.Option("--ep", help="Degree of expert parallelism.")] = None,
    dp: Annotated[int | None, typer.Option("--dp", help="Copies that share the requests.")] = None,
    batch: Annotated[
        int | None, typer.Option("--batch", help="Requests that start together.")
    ] = None,
    concurrency: Annotated[
        int | None, typer.Option("--concurrency", help="Requests kept in flight; default 1.")
    ] = None,
    input_len: Annotated[
        int | None, typer.Option("--input-len", help="Prompt tokens; default 1024.")
    ] = None,
    output_len: Annotated[
        int | None, typer.Option("--output-len", help="Output tokens; default 1024.")
    ] = None,
    gpus: Annotated[int | None, typer.Option("--gpus", help="GPUs in all.")] = None,
    ttft_ms: Annotated[
        float | None, typer.Option("--ttft-ms", help="Target: first token within, ms.")
    ] = None,
    tpot_ms: Annotated[
        float | None, typer.Option("--tpot-ms", help="Target: each further token within, ms.")
    ] = None,
    tokens_per_minute: Annotated[
        float | None, typer.Option("--tokens-per-minute", help="Load: output tokens per minute.")
    ] = None,
    requests_per_second: Annotated[
        float | None, typer.Option("--requests-per-second", help="Load: requests per second.")
    ] = None,
    cases: Annotated[
        Path | None,
        typer.Option("--cases", help="A CSV of cases; columns are named like these options."),
    ] = None,
    allow_approximate: Annotated[
        bool,
        typer.Option("--allow-approximate", help="Plan unknown architectures as dense decoders."),
    ] = False,
    list_calibrations: Annotated[
        bool,
        typer.Option("--list-calibrations", help="Only list the GPUs that have one in here."),
    ] = False,
    json_: AsJson = False,
) -> None:
    """Predict TTFT, TPOT, throughput, memory and GPU count of a language model."""
    said = {
        "model": model, "precision": precision, "kv_precision": kv_precision, "tp": tp, "pp": pp,
        "ep": ep, "dp": dp, "batch": batch, "concurrency": concurrency, "input_len": input_len,
        "output_len": output_len, "gpus": gpus, "ttft_ms": ttft_ms, "tpot_ms": tpot_ms,
        "tokens_per_minute": tokens_per_minute, "requests_per_second": requests_per_second,
    }  # fmt: skip

    def run() -> int:
        from roofprobe.costmodel.planner import choose_calibration, plan_from
        from roofprobe.reporting import plan_view

        if list_calibrations:
            from roofprobe.costmodel.defaults import shipped

            if json_:
                _print_json(plan_view.shipped_json(shipped()))
            else:
                plan_view.render_shipped(shipped(), _console())
            return 0
        chosen = choose_calibration(calibration, gpu)
        found = plan_from(cases, said, chosen, allow_approximate=allow_approximate)
        if json_:
            _write_stdout(plan_view.to_json(found, single=cases is None))
        else:
            plan_view.render(found, _console(), chosen.hardware.name)
        return 0

    _exit_with(run, json_)


@app.command()
def export(
    source: Annotated[
        Path,
        typer.Argument(metavar="SOURCE", help="A run folder, its run.json, or a calibration.json."),
    ],
    to: Annotated[
        str,
        typer.Option(
            "--to",
            metavar="PLANNER",
            help="aiconfigurator, llm-analysis, genz, calculon, infersim, blis or llmservingsim.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write into; made if needed.")],
    gpu: Annotated[
        str | None, typer.Option("--gpu", help="Which device, where the source has several.")
    ] = None,
    models: Annotated[
        str | None,
        typer.Option("--models", help="Models whose shapes the files hold, with commas."),
    ] = None,
    json_: AsJson = False,
) -> None:
    """Write files that a planner loads, with a note on where each figure comes from."""

    def run() -> int:
        from roofprobe.costmodel.export import export
        from roofprobe.costmodel.exporters.subject import MODELS
        from roofprobe.reporting.export_view import render_export, to_json

        names = tuple(part.strip() for part in models.split(",")) if models else MODELS
        written = export(source, to, out, gpu=gpu, models=names)
        if json_:
            _print_json(to_json(written))
        else:
            render_export(written, _console())
        return 0

    _exit_with(run, json_)


@app.command()
def validate(
    out: Out = _DEFAULT_OUT,
    device: DeviceName = "auto",
    tier: Tier = "standard",
    calibration: Annotated[
        Path | None,
        typer.Option("--calibration", help="Predict by this file, not by operations measured now."),
    ] = None,
    fail_above: Annotated[
        str | None,
        typer.Option("--fail-above", help="Exit with 1 above this median error: 15%."),
    ] = None,
    time_budget: Budget = None,
    resume: Resume = False,
    json_: AsJson = False,
    quiet: Quiet = False,
    seed: Seed = 0,
) -> None:
    """Run a real transformer on this device and hold the prediction against it."""

    def run() -> int:
        from roofprobe import validating
        from roofprobe.costmodel.validation import validation_bytes
        from roofprobe.reporting import validation_view
        from roofprobe.reporting.progress import progress_for
        from roofprobe.run import command_line

        bound = None if fail_above is None else validating.share_of(fail_above)
        options = _options(("validate",), device, tier, None, time_budget, seed)
        options = options.model_copy(update={"calibrated": calibration is not None})
        done = validating.validate_device(
            options, out, calibration=calibration, progress=progress_for(sys.stderr, quiet=quiet),
            resume=resume, command=command_line(),
        )  # fmt: skip
        if json_:
            _write_stdout(validation_bytes(done.validation))
        elif not quiet:
            names = {each.device_id: each.name for each in done.finished.run.devices}
            validation_view.render(done.validation, _console(), names)
            _say(f"Written to {done.finished.folder}")
        return validating.exit_code(done, bound)

    _exit_with(run, json_)


@app.command()
def schema(
    name: Annotated[
        str, typer.Argument(help="Of which: run, calibration, validation, comparison or check.")
    ] = "run",
) -> None:
    """Print the JSON Schema of run.json, of another file, or of what a command prints as JSON."""

    def run() -> int:
        from roofprobe.acceptance.comparison import comparison_json_schema
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
        }
        if name not in schemas:
            raise RoofprobeError(
                "unknown-schema", f"there is no schema {name!r}; choose one of {', '.join(schemas)}"
            )
        _print_json(schemas[name]())
        return 0

    _exit_with(run, True)


def _options(*given: Any, **more: Any) -> Options:
    from roofprobe.run import options_from

    return options_from(*given, **more)


def _measure(
    wanted: Callable[[], Options], out: Path, resume: bool, json_: bool, quiet: bool
) -> None:
    def run() -> int:
        from roofprobe import run as flow
        from roofprobe.records.runfolder import run_bytes
        from roofprobe.reporting.progress import progress_for
        from roofprobe.reporting.terminal import render_run

        options = wanted()
        finished = flow.probe_all(
            options,
            out,
            progress=progress_for(sys.stderr, quiet=quiet),
            resume=resume,
            command=flow.command_line(),
        )
        if json_:
            _write_stdout(run_bytes(finished.run))
        elif not quiet:
            render_run(finished.run, _console(), folder=finished.folder)
        if finished.run.status != "complete":
            _say(
                f"{'Interrupted' if finished.interrupted else 'Incomplete'}: "
                f"{len(finished.run.measurements)} results are kept; go on with "
                f"`probe all --out {out} --resume`"
            )
        return flow.exit_code(finished)

    _exit_with(run, json_)


def _exit_with(run: Callable[[], int], json_: bool) -> NoReturn:
    """Run a command; turn what went wrong into one sentence and an exit code."""
    from roofprobe.records.errors import RoofprobeError

    try:
        code = run()
        sys.stdout.flush()
    except RoofprobeError as error:
        code = _report(error.code, error.sentence, error.exit_code, json_)
    except KeyboardInterrupt:
        code = _report("interrupted", "interrupted before anything was measured", 3, json_)
    except BrokenPipeError:
        # The reader went away (`probe show … | head`); Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 0
    sys.exit(code)


def _report(code: str, sentence: str, exit_code: int, json_: bool) -> int:
    if json_:
        _print_json({"error": {"code": code, "sentence": sentence, "exit_code": exit_code}})
    _say(f"probe: {sentence}")
    return exit_code


def _console() -> Console:
    from rich.console import Console

    width = None if sys.stdout.isatty() else 100
    return Console(width=width, highlight=False)


def _print_json(document: Any) -> None:
    _write_stdout(json.dumps(document, ensure_ascii=False, indent=1).encode() + b"\n")


def _write_stdout(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _say(sentence: str) -> None:
    with suppress(BrokenPipeError, ValueError):
        print(sentence, file=sys.stderr)


def main() -> None:
    """Run the command; usage errors exit with 2."""
    app()
