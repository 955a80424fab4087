"""``probe export``: a run or a calibration as files that another planner loads.

The work is one module per planner in ``exporters/``, listed in `PLANNERS`; each file is written
whole or not at all, and ``PROVENANCE.md`` beside them says where every figure comes from, what the
planner does with it, and what it loses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from roofprobe.costmodel.calibration_file import OpFit
from roofprobe.costmodel.exporters.files import Export
from roofprobe.costmodel.exporters.planners import PLANNERS, Planner
from roofprobe.costmodel.exporters.subject import DEGREES, MODELS, Subject, read_subject
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.runfolder import read_run, write_whole
from roofprobe.records.schema import Run

PROVENANCE: Final = "PROVENANCE.md"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: paths below ``folder``, the device's name there, notes, how to load it."""

    folder: Path
    label: str
    files: tuple[str, ...]
    measured: int
    modelled: int
    notes: tuple[str, ...]
    load: str


def planner_of(name: str) -> Planner:
    """Return a planner that can be exported to.

    Raises ``RoofprobeError`` (``unknown-planner``, ``not-exported``).
    """
    planner = PLANNERS.get(name.lower())
    if planner is None:
        known = ", ".join(one.name for one in PLANNERS.values() if one.export)
        raise RoofprobeError("unknown-planner", f"there is no planner {name!r}; choose {known}")
    if planner.export is None:
        raise RoofprobeError("not-exported", planner.refusal)
    return planner


def export(
    source: Path,
    planner: str,
    out: Path,
    *,
    gpu: str | None = None,
    models: tuple[str, ...] = MODELS,
    degrees: tuple[int, ...] = DEGREES,
    read: Callable[[Path], Run] = read_run,
) -> Exported:
    """Write the files of ``planner`` for ``source`` (a run or a calibration) into ``out``.

    ``models`` and ``degrees`` are those whose shapes the tables hold, ``read`` reads a run. Raises
    ``RoofprobeError`` with what is wrong and what to do.
    """
    chosen = planner_of(planner)
    subject = read_subject(source, gpu=gpu, models=models, degrees=degrees, read=read)
    assert chosen.export is not None, "planner_of() told"
    made = chosen.export(subject)
    load = chosen.load.format(out=out, label=subject.label, model=_model_of(made))
    files = {**made.files, PROVENANCE: provenance(subject, chosen, made, load).encode()}
    for name, content in files.items():
        path = out / name
        # Names hold those of models and devices, which files told.
        if not path.resolve().is_relative_to(out.resolve()):
            raise RoofprobeError("unwritable", f"{name} would be written outside of {out}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RoofprobeError(
                "unwritable", f"cannot make {path.parent} ({error.strerror}); choose another --out"
            ) from None
        write_whole(path, content, advice="choose another --out", exit_code=2)
    return Exported(
        folder=out,
        label=subject.label,
        files=tuple(files),
        measured=made.measured,
        modelled=made.modelled,
        notes=(*subject.calibration.device.notes, *made.notes),
        load=load,
    )


def _model_of(made: Export) -> str:
    """Return the first model that has a config.json among the files."""
    for name in made.files:
        if name.startswith("models/"):
            return name.split("/")[1]
    return "MODEL"


def provenance(subject: Subject, planner: Planner, made: Export, load: str) -> str:
    """Return ``PROVENANCE.md``."""
    hardware = subject.calibration.hardware
    lines = [
        f"# {hardware.name} for {planner.name}",
        "",
        f"- Source: `{subject.source}`, written by {subject.made_by}.",
        *_run_facts(subject),
        f"- Format: {planner.version}.",
        f"- Name there: `{subject.label}`.",
        f"- Models whose shapes are in: {', '.join(model.name for model in subject.models)}; "
        f"tensor-parallel degrees {', '.join(map(str, subject.degrees))}.",
    ]
    if made.measured:
        lines.append(
            f"- Times: {made.measured:,} measured (as the calibration keeps them: outliers pulled "
            f"in), {made.modelled:,} from the calibrated model; `points.csv`, where it is there, "
            "says which is which."
        )
    else:
        lines.append("- Every figure is computed from the calibrated model; none is a raw timing.")
    notes = (*subject.calibration.device.notes, *made.notes)
    lines += [f"- Note: {note}." for note in notes]
    lines += [
        "",
        "## Where the figures come from",
        "",
        "| operation | precision | kernel | from | held-out error, median / p90 | source |",
        "|---|---|---|---|---|---|",
        *(_fit_row(subject, fit) for fit in subject.calibration.device.ops),
        "",
        "Peaks: "
        + "; ".join(
            f"{name} {value / 1e12:.4g} TFLOPS ({hardware.sources[f'peak_flops.{name}']})"
            for name, value in hardware.peak_flops.items()
        )
        + ".",
    ]
    if hardware.bandwidth is not None:
        lines.append(f"Memory: {hardware.bandwidth / 1e9:.4g} GB/s "
                     f"({hardware.sources['bandwidth']}).")  # fmt: skip
    lines += ["", f"## What {planner.name} does with them", "", planner.uses, "", "What is lost:",
              "", *(f"- {loss}" for loss in planner.loses)]  # fmt: skip
    lines += ["", "## Load it", "", "```sh", load, "```", ""]
    return "\n".join(lines)


def _run_facts(subject: Subject) -> list[str]:
    run, device = subject.run, subject.device
    if run is None:
        return ["- Run: none; a calibration of published or stored timings."]
    facts = [f"- Run: `{run.run_id}`, method version {run.method_version}, {run.started_at}."]
    if device is not None:
        facts.append(f"- Device: {device.name}, driver {device.driver or 'none'}, runtime "
                     f"{device.runtime or 'none'}.")  # fmt: skip
    facts.append(f"- Host: {run.environment.os}, torch {run.environment.torch or 'none'}.")
    return facts


def _fit_row(subject: Subject, fit: OpFit) -> str:
    kv = f", KV {fit.kv_precision}" if fit.kv_precision else ""
    held = fit.held_out
    error = f"{held.median:.1%} / {held.p90:.1%}" if held else "none held out"
    origin = subject.origin(fit)
    why = f" ({', '.join(fit.flags)})" if fit.flags else ""
    kernel = " ".join(word for word in (fit.framework, fit.kernel) if word) or "–"
    return f"| {fit.op} | {fit.precision}{kv} | {kernel} | {origin}{why} | {error} | " + (
        f"{fit.provenance} |"
    )
