"""Is the device there, whole and used by nobody else, and does it give the same bits each time.

One that fell off the bus tells nothing more; a slice of a GPU (MIG) is not the whole of one, and
others on the device take their share of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.health.patient import Patient, untold
from roofprobe.records.schema import Finding, Judgement

# Backends of which something tells the health wherever they work at all.
_ALWAYS_TOLD: Final = frozenset({"cuda"})
_STATES: Final[dict[str, Judgement]] = {
    "ok": "pass", "warning": "warn", "alarm": "fail", "critical": "fail",
}  # fmt: skip
_LOST = re.compile(
    r"\bgpu-is-lost\b|\bgpu-not-found\b|\breset-required\b|GPU is lost|fallen off the bus|"
    r"device (?:is )?lost",
    re.IGNORECASE,
)


def readable(patient: Patient) -> Iterator[Finding]:
    """Judge whether the device could be asked at all, and its vendor's own word for it."""
    latest = patient.latest
    if latest is None or not _tells(patient):
        asked = patient.before is not None or patient.after is not None
        required = asked and patient.device.backend in _ALWAYS_TOLD
        if asked or patient.device.backend != "cpu":
            yield untold("RP-HEALTH", patient, "its health", "health", required=required)
        return
    state = latest.state
    if state is None:
        yield finding(
            "RP-HEALTH", "pass", f"{latest.source} told how the device is before and after the run",
            device=patient.device,
        )  # fmt: skip
        return
    judgement = _STATES.get(state.lower(), "unknown")
    yield finding(
        "RP-HEALTH", judgement, f"{latest.source} calls the device's health {state}",
        device=patient.device, required=judgement != "unknown",
    )  # fmt: skip


def lost(patient: Patient) -> Iterator[Finding]:
    """Judge whether the device stayed there to the end."""
    for why in _losses(patient):
        yield finding(
            "RP-LOST", "fail", f"the device was lost during the run: {why}", device=patient.device
        )
        return
    given_up = [
        m.reason
        for m in patient.measurements
        if m.reason is not None and m.reason.code == "device-given-up"
    ]
    if given_up:
        yield finding("RP-LOST", "unknown", given_up[0].sentence, device=patient.device)
        return
    if _tells(patient):
        yield finding("RP-LOST", "pass", "the device was there to the end", device=patient.device)


def processes(patient: Patient) -> Iterator[Finding]:
    """Judge whether others used the device."""
    if patient.device.backend == "cpu":
        return
    readings = [h for h in (patient.before, patient.after) if h is not None]
    others = dict.fromkeys(name for health in readings for name in health.other_processes)
    if others:
        listed = ", ".join(list(others)[:5]) + (" and more" if len(others) > 5 else "")
        yield finding(
            "RP-PROCESSES", "warn", f"other processes were on the device: {listed}",
            device=patient.device, figure=float(len(others)), bound=0.0, unit="processes",
        )  # fmt: skip
    elif not readings or any(
        not h.source or h.lost or "other_processes" in h.missing for h in readings
    ):
        yield untold("RP-PROCESSES", patient, "who else used the device", "other_processes")
    else:
        yield finding(
            "RP-PROCESSES", "pass", "no other process was on the device", device=patient.device
        )


def mig(patient: Patient) -> Iterator[Finding]:
    """Judge whether the device is a slice of a GPU."""
    if patient.device.backend != "cuda":
        return
    enabled, device = patient.device.limits.mig_enabled, patient.device
    if enabled is None:
        why = device.missing.get("mig_enabled") or device.missing.get("nvml") or "not told"
        sentence = f"whether the GPU is cut in slices (MIG) is not known: {why}"
        yield finding("RP-MIG", "unknown", sentence, device=device, remedy=None)
    elif enabled:
        yield finding(
            "RP-MIG", "warn", "the GPU is cut in slices (MIG): this is a part of it", device=device
        )
    else:
        yield finding("RP-MIG", "pass", "the GPU is not cut in slices (MIG)", device=device)


def persistence(patient: Patient) -> Iterator[Finding]:
    """Tell whether the driver stays loaded between programs."""
    if patient.device.backend != "cuda":
        return
    on, device = patient.device.limits.persistence_mode, patient.device
    if on is None:
        why = device.missing.get("persistence_mode") or device.missing.get("nvml") or "not told"
        sentence = f"whether the driver stays loaded between programs is not known: {why}"
        yield finding("RP-PERSISTENCE", "unknown", sentence, device=device, remedy=None)
        return
    off = "persistence mode is off: programs start slower, and counters begin anew with each"
    told = "persistence mode is on" if on else off
    yield finding("RP-PERSISTENCE", "pass", told, device=device)


def corruption(patient: Patient) -> Iterator[Finding]:
    """Tell what was repeated and compared bit for bit; what differed is RP-UNSTABLE-BITS."""
    tried = [m for m in patient.measurements if m.case.role == "stability"]
    if any(m.reason is not None and m.reason.code == "unstable-bits" for m in tried):
        return
    same = [m for m in tried if m.status == "ok"]
    if same:
        checked = sum(m.correctness.checked_elements for m in same if m.correctness)
        told = f", {checked:,} elements in all" if checked else ""
        yield finding(
            "RP-SDC", "pass",
            f"{len(same)} cases gave the same bits each time they were repeated{told}",
            device=patient.device,
        )  # fmt: skip


def _tells(patient: Patient) -> bool:
    """Return whether both ends of the run told something; absent counters are not told."""
    return all(
        health is not None
        and health.source is not None
        and (
            health.state is not None
            or any(
                getattr(health, name) not in (None, (), {})
                for name in type(health).model_fields
                if name not in ("at", "source", "state", "lost", "missing", "xids")
            )
        )
        for health in (patient.before, patient.after)
    )


def _losses(patient: Patient) -> Iterator[str]:
    """Yield where the device was found to be gone."""
    for measurement in patient.measurements:
        reason, telemetry = measurement.reason, measurement.telemetry
        case_id = measurement.case.case_id
        if reason is not None and measurement.status == "failed" and _LOST.search(reason.sentence):
            yield f"{case_id} ended with {reason.sentence}"
        if telemetry is not None and _LOST.search(telemetry.missing.get("sampling", "")):
            yield f"it stopped to answer in {case_id} ({telemetry.missing['sampling']})"
    for when, reading in (("before", patient.before), ("after", patient.after)):
        if reading is not None and reading.lost:
            yield f"{when} the run it did not answer ({reading.lost})"
