"""From runs and op tables to ``calibration.json``: read, choose, check, fit.

Several GPUs may stand in one table; each becomes a device of the file. Of several frameworks one is
taken per operation: the one that was asked for, else the one with the most rows of that operation
(all its precisions together; of equals the one with the most rows of all operations), because
mixing engines would describe none. Its kernels are fitted
each for itself; where they share an operation and precision (a library that switches kernels with
m), the one that was measured nearest answers.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import numpy as np

from roofprobe import __version__
from roofprobe.costmodel import forms
from roofprobe.costmodel.calibration_file import (
    CalibrationFile,
    DeviceCalibration,
    OpFit,
    Provenance,
)
from roofprobe.costmodel.fit import Settings, calibrate_points, count_points
from roofprobe.costmodel.hardware import accelerator_of, datasheet_device, hardware_of
from roofprobe.costmodel.op_tables import is_table
from roofprobe.costmodel.points import Points
from roofprobe.costmodel.run_calibration import device_of, points_of
from roofprobe.costmodel.table_sets import read_tables
from roofprobe.peaks.catalogue import load
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.runfolder import read_run
from roofprobe.records.schema import Run

# A datasheet is no bound (clocks boost, caches serve), but no row beats it by this much.
_TOO_FAST: Final = 0.7
# A table whose best row is this far from the roofline, and slower than a millisecond, has its unit
# wrong by 1000: real kernels that are this far off are those that take microseconds.
_TOO_SLOW: Final = 50.0
_SLOW_S: Final = 1e-3
_LARGEST_L2: Final = 256e6  # bytes; what may be a cache's where its size is not known
_LEAST_ROWS: Final = 3
MOST_ROWS: Final = 800
_RUN: Final = "run "  # how the sources of our own runs begin
_RUN_SETTINGS: Final = Settings(splits=6)  # a run must not spend its time on fitting


@dataclass(frozen=True, slots=True)
class Outcome:
    """A calibration with sentences about what was left out."""

    file: CalibrationFile
    notes: tuple[str, ...]


def calibrate(
    sources: Sequence[Path],
    *,
    gpu: str | None = None,
    framework: str | None = None,
    progress: Callable[[str], None] = lambda _: None,
    settings: Settings | None = None,
    read: Callable[[Path], Run] = read_run,
) -> Outcome:
    """Calibrate every device of ``sources``: runs, op tables, or planners' folders of tables.

    ``gpu`` names the only GPU wanted, and that of tables which do not tell; ``framework`` an engine
    by the beginning of its name; ``read`` reads one run. Raises ``RoofprobeError`` with what
    is wrong and what to do.
    """
    wanted = accelerator_of(gpu).key if gpu else None
    notes: list[str] = []
    devices: dict[str, DeviceCalibration] = {}
    points: dict[str, list[Points]] = defaultdict(list)
    for path in sources:
        if is_table(path):
            table = read_tables(path, gpu=wanted)
            notes += table.notes
            for one in table.points:
                key = one.device
                devices.setdefault(key, datasheet_device(load()[key].per_device()))
                points[key].append(one)
        else:
            run = read(path)
            if run.simulated is not None:
                notes.append(f"nothing in {path} was measured: {run.simulated}")
            for device in run.devices:
                known = devices[device.device_id] = device_of(run, device)
                notes += [f"{known.name}: {note}" for note in known.notes]
                notes += _disturbed(known)
                points[device.device_id] += points_of(run, device)
    if wanted is not None:
        devices = {k: d for k, d in devices.items() if wanted in (k, d.catalogue_key)}
        if not devices:
            raise RoofprobeError(
                "unknown-device", f"no source has timings of {gpu}; leave --gpu away to see all"
            )
    file = CalibrationFile(
        created_at=datetime.now(UTC).replace(microsecond=0).isoformat(), roofprobe=__version__
    )
    return _fitted(file, devices, points, framework, notes, progress, settings or Settings())


def calibration_of_run(run: Run) -> CalibrationFile:
    """Return the calibration of a run by itself; operations that cannot be fitted are left out."""
    devices = {device.device_id: device_of(run, device) for device in run.devices}
    points = {device.device_id: list(points_of(run, device)) for device in run.devices}
    file = CalibrationFile(
        method_version=run.method_version,
        run_id=run.run_id,
        created_at=run.finished_at,
        roofprobe=__version__,
    )
    return _fitted(file, devices, points, None, [], lambda _: None, _RUN_SETTINGS).file


def _fitted(
    file: CalibrationFile,
    devices: dict[str, DeviceCalibration],
    points: dict[str, list[Points]],
    framework: str | None,
    notes: list[str],
    progress: Callable[[str], None],
    settings: Settings,
) -> Outcome:
    done = []
    provenance: dict[str, Provenance] = {}
    for key, device in devices.items():
        ops: list[OpFit] = []
        for one in _chosen(points[key], framework, notes):
            progress(f"{device.name}: {one.describe()}")
            fit = _fit(one, device, notes, settings)
            if fit is not None:
                ops.append(fit)
                held = provenance.get(one.source)
                rows = len(one) + (held.rows or 0 if held else 0)
                provenance[one.source] = _provenance(one, rows, settings)
        done.append(device.model_copy(update={"ops": tuple(ops)}))
    document = file.model_copy(
        update={"devices": tuple(done), "provenance": tuple(provenance.values())}
    )
    return Outcome(document, tuple(dict.fromkeys(notes)))


def _provenance(points: Points, rows: int, settings: Settings) -> Provenance:
    run = points.source.startswith(_RUN)
    return Provenance(
        key=points.source,
        origin="run" if run else "op-table",
        title=points.source if run else f"op table {points.source}",
        locator=points.source,
        method=f"roofprobe {__version__}: least squares on ln t (soft-L1), kriging of residuals, "
        f"conformal by site; {settings.splits} splits, seed {settings.seed}",
        rows=rows,
    )


def _disturbed(device: DeviceCalibration) -> tuple[str, ...]:
    """Say of how many launches the time is only an upper bound, where it is of any."""
    many = len(device.launch_disturbed)
    if not many:
        return ()
    return (
        f"{device.name}: others had the processor during {many} of {len(device.launch_us)} "
        "launches, so those times are too long; repeat on an idle host",
    )


def _chosen(found: list[Points], framework: str | None, notes: list[str]) -> list[Points]:
    """Return the points of one framework per operation; the most complete where none is named."""
    rows: dict[str, Counter[str]] = defaultdict(Counter)
    overall: Counter[str] = Counter()
    for one in found:
        rows[one.op][_engine(one)] += len(one)
        overall[_engine(one)] += len(one)
    if framework is not None:
        names = sorted({name for counts in rows.values() for name in counts if name})
        if not any(_is(name, framework) for name in names):
            raise RoofprobeError(
                "unknown-framework",
                f"no source has timings of framework {framework!r}; there are "
                f"{', '.join(names) or 'none that are named'}",
            )
    kept = []
    for op, counts in rows.items():
        asked = [name for name in counts if framework is not None and _is(name, framework)]
        best = asked[0] if asked else max(counts, key=lambda name: (counts[name], overall[name]))
        if framework is not None and not asked:
            notes.append(f"{op}: {framework} has no rows, so {best or 'the only source'} counts")
        others = [name or "a source without a name" for name in counts if name != best]
        if others:
            notes.append(
                f"{op}: {best or 'rows without a framework'} counts, not {', '.join(others)}"
            )
        kept += [one for one in found if one.op == op and _engine(one) == best]
    return kept


def _engine(points: Points) -> str:
    return points.framework or ""


def _is(name: str, framework: str) -> bool:
    return name.casefold().startswith(framework.casefold())


def rates_of(device: DeviceCalibration, points: Points) -> forms.Rates | None:
    """Return the peaks that an operation is held against, or None where one is not known."""
    hardware = hardware_of(device)
    row = forms.OP_CLASSES[points.op]
    arithmetic = row.kind not in ("elementwise", "collective")
    flops = float("inf")
    if arithmetic:
        flops = hardware.peak_flops.get(forms.FORMATS[points.precision].peak, 0.0)
    if not flops or hardware.bandwidth is None:
        return None
    if row.kind == "collective" and hardware.link is None:
        return None
    return forms.Rates(flops, hardware.bandwidth, hardware.link, hardware.units, hardware.l2_bytes)


def _fit(
    points: Points, device: DeviceCalibration, notes: list[str], settings: Settings
) -> OpFit | None:
    rates = rates_of(device, points)
    if rates is None:
        notes.append(f"{points.describe()}: no peak of {device.name} is known, so it is left out")
        return None
    try:
        kept = plausible(points, rates, notes)
    except RoofprobeError as error:
        if not points.source.startswith(_RUN):
            raise
        notes.append(error.sentence)  # a run keeps what it measured; its file must be written
        return None
    if len(kept) < _LEAST_ROWS:
        notes.append(f"{points.describe()}: {len(kept)} rows are too few to fit, so it is left out")
        return None
    return calibrate_points(thinned(kept, notes), rates, points.source, settings)


def thinned(points: Points, notes: list[str]) -> Points:
    """Return at most `MOST_ROWS` rows, the same ones each time, and tell.

    What fitting costs grows with the cube of the rows, what it gains hardly at all: a closed form
    is as good from eight weights as from 190.
    """
    if len(points) <= MOST_ROWS:
        return points
    rows = np.random.default_rng(0).permutation(len(points))[:MOST_ROWS]
    notes.append(
        f"{points.describe()} of {points.source}: {MOST_ROWS:,} of {len(points):,} rows are taken"
    )
    return points.take(np.sort(rows))


def plausible(points: Points, rates: forms.Rates, notes: list[str]) -> Points:
    """Return the rows that physics allows; raises where the whole table has a wrong unit.

    A row far below max(F/P, B/W) is a wrong unit, a wrong format, or a cache; alone it is left out
    and told. Raises ``RoofprobeError`` (``impossible-times``).
    """
    cached = rates if rates.l2_bytes else replace(rates, l2_bytes=_LARGEST_L2)
    bound = forms.bound_s(count_points(points, rates), cached)
    ratio = points.latency_s / np.maximum(bound, 1e-12)
    what = f"{points.describe()} of {points.source}"
    if np.median(ratio) < _TOO_FAST:
        raise RoofprobeError(
            "impossible-times",
            f"{what}: half of the rows are more than {1 / float(np.median(ratio)):.3g} times "
            "faster than the datasheet's peak allows; the unit of the times, the number format or "
            "the GPU is wrong (latency_ms and latency_us are told by the column's name)",
        )
    if ratio.min() > _TOO_SLOW and points.latency_s.min() > _SLOW_S:
        raise RoofprobeError(
            "impossible-times",
            f"{what}: even the best row takes {ratio.min():.3g} times what the datasheet's peak "
            "allows; the times seem to be in another unit than the column's name says "
            "(microseconds written as latency_ms?)",
        )
    fast = ratio < _TOO_FAST
    if fast.any():
        notes.append(f"{what}: {int(fast.sum())} rows faster than the peak allows are left out")
        return points.take(~fast)
    return points
