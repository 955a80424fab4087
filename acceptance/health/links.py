"""Are its links well: what PCIe and NVLink had to send again, and links that went down."""

from __future__ import annotations

from collections.abc import Iterator

from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.health.patient import Patient, untold
from roofprobe.records.schema import Finding

# Ours, not yet tuned on hardware: single repeats are what links are made to survive.
MANY_REPLAYS = 10
MANY_LINK_ERRORS = 100


def pcie(patient: Patient) -> Iterator[Finding]:
    """Judge what the link to the host had to send again during the run."""
    if patient.device.backend == "cpu":
        return
    replays = patient.grown("pcie_replays")
    if replays is None:
        yield untold("RP-PCIE-REPLAY", patient, "how often PCIe sent again", "pcie_replays")
        return
    many = replays > MANY_REPLAYS
    yield finding(
        "RP-PCIE-REPLAY", "warn" if many else "pass",
        f"PCIe had to send {replays} packets again during the run"
        + (": the link is disturbed" if many else ""),
        device=patient.device, figure=float(replays), bound=float(MANY_REPLAYS), unit="packets",
    )  # fmt: skip


def nvlink(patient: Patient) -> Iterator[Finding]:
    """Judge links that went down during the run, and the errors of those that are up."""
    if patient.device.backend != "cuda":
        return
    before, after = (h.nvlink_active if h else None for h in (patient.before, patient.after))
    if before is not None and after is not None and after < before:
        yield finding(
            "RP-NVLINK-ERRORS", "fail",
            f"{before - after} of {before} NVLinks went down during the run", device=patient.device,
            figure=float(after), bound=float(before), unit="links",
        )  # fmt: skip
        return
    errors = patient.grown("nvlink_errors")
    if before is None or after is None or errors is None:
        fields = ("nvlink_errors", "nvlink_active")
        yield untold("RP-NVLINK-ERRORS", patient, "whether NVLinks had errors", *fields)
        return
    many = errors > MANY_LINK_ERRORS
    yield finding(
        "RP-NVLINK-ERRORS", "warn" if many else "pass",
        f"{after} NVLinks are up and had {errors} errors during the run", device=patient.device,
        figure=float(errors), bound=float(MANY_LINK_ERRORS), unit="errors",
    )  # fmt: skip
