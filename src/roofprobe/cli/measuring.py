"""Commands that measure: a family or all, a real model, and what is in the way."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from roofprobe.cli.options import (
    DEFAULT_OUT,
    AsJson,
    Budget,
    Compile,
    DeviceName,
    Out,
    Precisions,
    Quiet,
    Resume,
    Search,
    Seed,
    Sweep,
    Tier,
)
from roofprobe.cli.output import console, exit_with, print_json, say, write_stdout

if TYPE_CHECKING:
    from roofprobe.records.schema import Options


def all_(
    out: Out = DEFAULT_OUT,
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


def compute(
    out: Out = DEFAULT_OUT,
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


def memory(
    out: Out = DEFAULT_OUT,
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


def interconnect(
    out: Out = DEFAULT_OUT,
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


def llm(
    out: Out = DEFAULT_OUT,
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


def validate(
    out: Out = DEFAULT_OUT,
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
        from roofprobe.asking import command_line
        from roofprobe.costmodel.validation import validation_bytes
        from roofprobe.reporting import validation_view
        from roofprobe.reporting.progress import progress_for

        bound = None if fail_above is None else validating.share_of(fail_above)
        options = _options(("validate",), device, tier, None, time_budget, seed)
        options = options.model_copy(update={"calibrated": calibration is not None})
        done = validating.validate_device(
            options, out, calibration=calibration, progress=progress_for(sys.stderr, quiet=quiet),
            resume=resume, command=command_line(),
        )  # fmt: skip
        if json_:
            write_stdout(validation_bytes(done.validation))
        elif not quiet:
            names = {each.device_id: each.name for each in done.finished.run.devices}
            validation_view.render(done.validation, console(), names)
            say(f"Written to {done.finished.folder}")
        return validating.exit_code(done, bound)

    exit_with(run, json_)


def doctor(out: Out = DEFAULT_OUT, json_: AsJson = False) -> None:
    """Say what is missing or wrong on this host, and how to mend it."""

    def run() -> int:
        from roofprobe.probes.doctor import examine, exit_code
        from roofprobe.reporting import doctor_view

        findings = examine(out=out)
        if json_:
            print_json(doctor_view.to_json(findings))
        else:
            doctor_view.render(findings, console())
        return exit_code(findings)

    exit_with(run, json_)


def _options(*given: Any, **more: Any) -> Options:
    from roofprobe.asking import options_from

    return options_from(*given, **more)


def _measure(
    wanted: Callable[[], Options], out: Path, resume: bool, json_: bool, quiet: bool
) -> None:
    def run() -> int:
        from roofprobe import run as flow
        from roofprobe.asking import command_line
        from roofprobe.records.runfolder import run_bytes
        from roofprobe.reporting.progress import progress_for
        from roofprobe.reporting.terminal import render_run

        options = wanted()
        finished = flow.probe_all(
            options,
            out,
            progress=progress_for(sys.stderr, quiet=quiet),
            resume=resume,
            command=command_line(),
        )
        if json_:
            write_stdout(run_bytes(finished.run))
        elif not quiet:
            render_run(finished.run, console(), folder=finished.folder)
        if finished.run.status != "complete":
            say(
                f"{'Interrupted' if finished.interrupted else 'Incomplete'}: "
                f"{len(finished.run.measurements)} results are kept; go on with "
                f"`probe all --out {out} --resume`"
            )
        return flow.exit_code(finished)

    exit_with(run, json_)
