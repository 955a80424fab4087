"""What is exported: a calibrated device, where its figures come from, and for which models.

Planners look up times at the shapes that one GPU runs; those of a tensor-parallel group are
other shapes than the model's own. `local_ops` lists them with the same inventory of a step that
``probe plan`` uses (`roofprobe.costmodel.steps`), so that both ask for the same operations.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from roofprobe.costmodel.calibrate import calibration_of_run
from roofprobe.costmodel.calibration import Calibration, calibration_from, coefficients_of
from roofprobe.costmodel.calibration_file import FORMAT, CalibrationFile, OpFit, read_calibration
from roofprobe.costmodel.forms import OP_CLASSES, FloatArray, Rates, count, seconds
from roofprobe.costmodel.hardware import accelerator_of
from roofprobe.costmodel.models import ModelShape, load_model
from roofprobe.costmodel.planner import completed
from roofprobe.costmodel.steps import Layout, Load, compute_precision, step_ops
from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.catalogue import load
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.reading import is_file, is_folder, json_document, read_bytes
from roofprobe.records.runfolder import MAX_RUN_BYTES, read_run, run_file
from roofprobe.records.schema import Device, Run

CALIBRATION: Final = "calibration.json"
DEGREES: Final = (1, 2, 4, 8)
PHASES: Final = ("prefill", "decode")
BASES: Final = ("bf16", "fp16", "fp32")
MODELS: Final = ("llama-3.1-8b", "llama-3.1-70b", "llama-2-70b", "qwen3-32b", "mixtral-8x7b")


@dataclass(frozen=True, slots=True)
class Subject:
    """A calibrated device to export, the models whose shapes are wanted, and the facts of a run.

    ``measured`` are the fits of the source itself; the others stand in for classes that it never
    timed. ``run`` and ``device`` are set where a run was given.
    """

    source: str
    calibration: Calibration
    measured: tuple[OpFit, ...]
    models: tuple[ModelShape, ...]
    degrees: tuple[int, ...] = DEGREES
    run: Run | None = None
    device: Device | None = None
    made_by: str = ""

    @property
    def label(self) -> str:
        """A name for files and planners: lower case, and none that a planner ships itself."""
        hardware = self.calibration.hardware
        words = hardware.catalogue_key or hardware.name
        return "probe_" + re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")

    @property
    def base(self) -> str:
        """The precision that the engine computes in: bf16, else fp16 or fp32.

        The first in which products and both attentions can be timed, or products alone. Raises
        ``RoofprobeError`` (``nothing-to-export``) without any.
        """
        whole = [
            name
            for name in self.precisions("gemm")
            if all(
                (name, name) in self.kv_pairs(op)
                for op in ("attention_prefill", "attention_decode")
            )
        ]
        for timed in (whole, self.precisions("gemm")):
            for name in BASES:
                if name in timed:
                    return name
        raise RoofprobeError(
            "nothing-to-export",
            f"{self.source} times no matrix product in {', '.join(BASES)}; measure one with "
            "`probe all`",
        )

    def origin(self, fit: OpFit) -> str:
        """Say where a fit comes from: ``measured``, or the flag of what stands in for it."""
        return "measured" if any(fit is one for one in self.measured) else "default"

    def precisions(self, op: str) -> list[str]:
        """Return the precisions in which ``op`` can be timed with constants of its own."""
        names = dict.fromkeys(fit.precision for fit in self.calibration.device.ops if fit.op == op)
        return [name for name in names if self.calibration.supports(op, name) is None]

    def kv_pairs(self, op: str) -> list[tuple[str, str]]:
        """Return (precision, KV precision) in which attention can be timed."""
        pairs = dict.fromkeys(
            (fit.precision, fit.kv_precision or fit.precision)
            for fit in self.calibration.device.ops
            if fit.op == op
        )
        return [pair for pair in pairs if self.calibration.supports(op, *pair) is None]


def read_subject(
    source: Path,
    *,
    gpu: str | None = None,
    models: tuple[str, ...] = MODELS,
    degrees: tuple[int, ...] = DEGREES,
    read: Callable[[Path], Run] = read_run,
) -> Subject:
    """Read a run (by ``read``: its folder or ``run.json``) or a ``calibration.json`` to export.

    Raises ``RoofprobeError``: what reading raises, ``other-device``, ``not-calibrated``,
    ``unknown-model``.
    """
    file, run = _read(source, read)
    chosen = _device_of(file, gpu, source)
    if not chosen.device.ops:
        raise RoofprobeError(
            "not-calibrated",
            f"{source} has no timed operation of {chosen.hardware.name}, only its ceilings; "
            "measure them with `probe all`, or calibrate from an op table",
        )
    full = completed(chosen)
    device = None
    if run is not None:
        device = next((d for d in run.devices if d.device_id == chosen.device.device_id), None)
    return Subject(
        source=source.name if source.name else str(source),
        calibration=full,
        measured=chosen.device.ops,
        models=tuple(load_model(name) for name in models),
        degrees=degrees,
        run=run,
        device=device,
        made_by=f"roofprobe {file.roofprobe or 'of unknown version'}",
    )


def _read(source: Path, read: Callable[[Path], Run]) -> tuple[CalibrationFile, Run | None]:
    """Return the calibration of a source, and its run where there is one."""
    if is_folder(source):
        has_run = (source / "run.json").exists() or (source / "latest").exists()
        if not has_run:
            if not (source / CALIBRATION).exists():
                raise RoofprobeError(
                    "unknown-source",
                    f"{source} has neither a run.json nor a {CALIBRATION}; name a run folder, or "
                    "what `probe calibrate` wrote",
                )
            return read_calibration(source), None
        run = read(source)
        folder = run_file(source).parent
        if (folder / CALIBRATION).exists():
            return read_calibration(folder), run
        return calibration_of_run(run), run
    if _format_of(source) == FORMAT:
        return read_calibration(source), None
    try:
        run = read(source)
    except RoofprobeError as error:
        if error.code in ("damaged-run", "not-a-run") and is_file(source):
            raise RoofprobeError(
                "unknown-source",
                f"{source} is neither a run nor a calibration.json of roofprobe; name a run "
                "folder, its run.json, or what `probe calibrate` wrote",
            ) from None
        raise
    return calibration_of_run(run), run


def _format_of(source: Path) -> str | None:
    try:
        document = json_document(read_bytes(source, MAX_RUN_BYTES))
    except (OSError, ValueError):
        return None
    found = document.get("format") if isinstance(document, dict) else None
    return found if isinstance(found, str) else None


def _device_of(file: CalibrationFile, gpu: str | None, source: Path) -> Calibration:
    if gpu is None:
        if len(file.devices) > 1:
            names = ", ".join(device.name for device in file.devices)
            raise RoofprobeError(
                "several-devices", f"{source} has {names}; choose one with --gpu NAME"
            )
        return calibration_from(file, what=str(source))
    try:
        return calibration_from(file, device=gpu, what=str(source))
    except RoofprobeError:
        key = accelerator_of(gpu).key
        for device in file.devices:
            if device.catalogue_key == key:
                return Calibration(device, file.provenance)
        names = ", ".join(device.name for device in file.devices) or "no device"
        raise RoofprobeError(
            "other-device", f"{source} was calibrated on {names}, which is not {gpu}"
        ) from None


@dataclass(frozen=True, slots=True)
class Timed:
    """Times of one operation at many shapes: which of them were measured, the others modelled."""

    shape: Mapping[str, FloatArray]
    seconds: FloatArray
    measured: NDArray[np.bool_]
    kernel: str
    framework: str | None
    origin: str

    def __len__(self) -> int:
        """The number of shapes."""
        return len(self.seconds)

    def where(self, kept: NDArray[np.bool_]) -> Timed:
        """Return some of the shapes."""
        return Timed(
            {name: values[kept] for name, values in self.shape.items()}, self.seconds[kept],
            self.measured[kept], self.kernel, self.framework, self.origin,
        )  # fmt: skip


def timed(
    subject: Subject,
    op: str,
    precision: str,
    shape: Mapping[str, Any],
    kv_precision: str | None = None,
) -> Timed:
    """Return the times of ``op`` at ``shape``, and before them those that were measured.

    A measured time is what the calibration keeps of it, the closed form times its residual: to a
    tenth of a permille, but for rows far off their neighbours, which calibrating pulls in. Where a
    shape was measured, the measured time stands and not the model's.
    """
    calibration = subject.calibration
    fits = calibration.fits(op, precision, kv_precision)
    names = OP_CLASSES[op].shape
    arrays = np.broadcast_arrays(*(np.asarray(shape[name], dtype=float) for name in names))
    asked = np.stack([array.ravel() for array in arrays], 1)
    known, known_s = _measured(subject, fits, precision, kv_precision)
    if len(known):
        taken = {tuple(row) for row in known.tolist()}
        fresh = np.array([tuple(row) not in taken for row in asked.tolist()], dtype=bool)
        asked = asked[fresh]
    asked = np.unique(asked, axis=0)
    modelled = np.zeros(0)
    if len(asked):
        found = calibration.time(
            op, precision, kv_precision=kv_precision,
            **{name: asked[:, i] for i, name in enumerate(names)},
        )  # fmt: skip
        modelled = found.median_s
    rows = np.concatenate([known, asked])
    return Timed(
        shape={name: rows[:, i] for i, name in enumerate(names)},
        seconds=np.concatenate([known_s, modelled]),
        measured=np.arange(len(rows)) < len(known),
        kernel=fits[0].kernel or "",
        framework=fits[0].framework,
        origin=subject.origin(fits[0]),
    )


def _measured(
    subject: Subject, fits: list[OpFit], precision: str, kv_precision: str | None
) -> tuple[FloatArray, FloatArray]:
    """Return measured shapes (rows) and seconds of the first kernel that has each."""
    names = OP_CLASSES[fits[0].op].shape
    rows: dict[tuple[float, ...], float] = {}
    for fit in fits:
        if (fit.precision, fit.kv_precision) != (precision, kv_precision) or not fit.sites:
            continue
        if not any(fit is one for one in subject.measured):
            continue
        at = [
            [site.key[name] if name in site.key else site.sizes[name][i] for name in names]
            for site in fit.sites
            for i in range(len(site.residuals))
        ]
        residuals = np.concatenate([np.array(site.residuals) for site in fit.sites])
        shapes = np.array(at)
        work_rates = rates_of(subject.calibration, fit)
        work = count(
            fit.op, precision, {name: shapes[:, i] for i, name in enumerate(names)}, work_rates,
            kv_precision=kv_precision,
        )  # fmt: skip
        times = seconds(work, coefficients_of(fit), work_rates) * np.exp(residuals)
        for key, time in zip(map(tuple, shapes.tolist()), times.tolist(), strict=True):
            rows.setdefault(key, time)
    if not rows:
        return np.zeros((0, len(names))), np.zeros(0)
    return np.array(list(rows)), np.array(list(rows.values()))


def rates_of(calibration: Calibration, fit: OpFit) -> Rates:
    """Return the peaks that a fit's efficiencies are relative to, and the device's caches."""
    hardware = calibration.hardware
    assert hardware.bandwidth is not None, "an operation could not be timed without"
    linked = OP_CLASSES[fit.op].kind == "collective"
    return Rates(
        flops=(fit.peak_tflops or float("inf")) * 1e12,
        bandwidth=hardware.bandwidth if linked else fit.peak_gbps * 1e9,
        link=fit.peak_gbps * 1e9 if linked else hardware.link,
        units=fit.units,
        l2_bytes=hardware.l2_bytes,
    )


def local_ops(subject: Subject, op: str) -> Iterator[dict[str, float]]:
    """Yield the distinct weights or head geometries of ``op`` over models and degrees.

    For experts both ways of spreading them are listed: tensor-parallel and expert-parallel.
    """
    site = OP_CLASSES[op].site
    seen: set[tuple[float, ...]] = set()
    load = Load(prompts=1.0, prompt_len=128.0, decodes=1.0, context=128.0)
    for model in subject.models:
        for tp in subject.degrees:
            if model.heads % tp:
                continue
            for ep in dict.fromkeys((1, tp)) if model.experts else (1,):
                if ep > max(model.experts, 1):
                    continue
                compute = compute_precision("bf16")
                ops = step_ops(
                    model, load, precision=compute, kv_precision=compute,
                    layout=Layout(tp=tp, ep=ep),
                )  # fmt: skip
                for one in ops:
                    if one.op != op:
                        continue
                    key = tuple(float(np.max(one.shape[name])) for name in site)
                    if key not in seen:
                        seen.add(key)
                        yield dict(zip(site, key, strict=True))


def peak_of(subject: Subject, precision: str) -> float | None:
    """Return the dense peak of a precision in FLOP/s, or None."""
    return subject.calibration.hardware.peak_flops.get(precision)


def catalogue_row(subject: Subject) -> Accelerator | None:
    """Return the catalogue's row of the device, or None where it has none."""
    row = load().accelerators.get(subject.calibration.hardware.catalogue_key or "")
    return None if row is None else row.per_device()
