"""Commands for language models: calibrate, plan, and export to other planners."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from roofprobe.cli.options import (
    AsJson,
    Quiet,
)
from roofprobe.cli.output import console, exit_with, print_json, say, write_stdout


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
        from roofprobe.opening import read
        from roofprobe.records.runfolder import write_whole
        from roofprobe.reporting.calibration_view import render_calibration

        progress = (lambda _: None) if quiet else say
        outcome = calibrate(sources, gpu=gpu, framework=framework, progress=progress, read=read)
        for note in () if quiet else outcome.notes:
            say(f"Note: {note}")
        document = calibration_bytes(outcome.file)
        write_whole(out, document, advice="choose another --out", exit_code=2)
        if json_:
            write_stdout(document)
        elif not quiet:
            render_calibration(outcome.file, console())
        return 0

    exit_with(run, json_)


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
                print_json(plan_view.shipped_json(shipped()))
            else:
                plan_view.render_shipped(shipped(), console())
            return 0
        chosen = choose_calibration(calibration, gpu)
        found = plan_from(cases, said, chosen, allow_approximate=allow_approximate)
        if json_:
            write_stdout(plan_view.to_json(found, single=cases is None))
        else:
            plan_view.render(found, console(), chosen.hardware.name)
        return 0

    exit_with(run, json_)


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
        from roofprobe.opening import read
        from roofprobe.reporting.export_view import render_export, to_json

        names = tuple(part.strip() for part in models.split(",")) if models else MODELS
        written = export(source, to, out, gpu=gpu, models=names, read=read)
        if json_:
            print_json(to_json(written))
        else:
            render_export(written, console())
        return 0

    exit_with(run, json_)
