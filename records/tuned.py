"""What earlier runs found out about our own kernels: the best configuration of each stream.

A sweep over configurations costs a minute and its outcome hardly changes on the same kind of
device, so it is made once: later runs into the same folder start from the winner, which is named
with the run that found it. Another device, architecture, driver or compiler is another question.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.runfolder import LATEST, RUN_FILE, read_run
from roofprobe.records.schema import Device, Environment, Run

_RUNS_LOOKED_AT = 12


def with_tuned(
    devices: Sequence[Device], out: Path, environment: Environment
) -> tuple[Device, ...]:
    """Return ``devices``, GPUs with the winners of the newest runs in ``out`` that compared any."""
    if all(device.backend == "cpu" for device in devices):
        return tuple(devices)
    runs = _runs(out)
    return tuple(_with_tuned(device, runs, environment) for device in devices)


def _runs(out: Path) -> list[Run]:
    """Return the newest readable runs in ``out``; a damaged one has nothing to say."""
    files = sorted(
        (file for file in out.glob(f"*/{RUN_FILE}") if file.parent.name != LATEST), reverse=True
    )
    runs = []
    for file in files[:_RUNS_LOOKED_AT]:
        try:
            runs.append(read_run(file))
        except RoofprobeError:
            continue
    return runs


def _with_tuned(device: Device, runs: Sequence[Run], environment: Environment) -> Device:
    for run in runs:
        if run.environment.triton != environment.triton:
            continue
        for known in run.devices:
            if not _alike(known, device):
                continue
            best, found_by = winners(run, known.device_id), run.run_id
            if not best:  # a run that started from winners hands them on
                best, found_by = known.tuned_streams, known.tuned_by or run.run_id
            if best:
                return device.model_copy(update={"tuned_streams": best, "tuned_by": found_by})
    return device


def _alike(known: Device, device: Device) -> bool:
    """Whether both are of one kind, for which the same configuration wins."""
    return all(
        getattr(known, name) == getattr(device, name)
        for name in ("backend", "name", "architecture", "unit_count", "memory_bytes", "driver")
    )


def winners(run: Run, device_id: str) -> dict[str, str]:
    """Return kernel → name of its fastest Triton configuration, where several were compared."""
    rates: dict[str, dict[str, float]] = {}
    compared = set()
    for m in run.measurements:
        case = m.case
        if m.device_id != device_id or m.status != "ok" or m.rate is None:
            continue
        if (case.family, case.route, case.precision) != ("memory", "triton", "fp32"):
            continue
        name = (m.kernel_config or {}).get("name")
        if case.level is None and case.role in ("anchor", "tune") and isinstance(name, str):
            rates.setdefault(case.op, {})[name] = m.rate.median
            compared |= {case.op} if case.role == "tune" else set()
    return {op: max(found, key=found.__getitem__) for op, found in rates.items() if op in compared}
