"""Is the memory well: errors that were put right or not, rows remapped, pages retired.

A corrected error now and then is normal; many of them announce worse. An uncorrected one means that
data was lost. Bad rows and pages are taken out of use at the next reset, until which the device
works on with them; spares that are used up (NVIDIA: 512 rows, or one bank's eight; 64 pages) are a
case for the vendor.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.health.patient import NOT_APPLICABLE, Patient, untold
from roofprobe.records.schema import Finding

# Ours, not yet tuned on hardware: corrected errors during one run that are more than chance.
MANY_CORRECTED = 10
# https://docs.nvidia.com/deploy/a100-gpu-mem-error-mgmt/row-remapping.html: "a maximum of 64"
MOST_RETIRED_PAGES = 64


def ecc(patient: Patient) -> Iterator[Finding]:
    """Judge the error counters of the memory."""
    limits, device = patient.device.limits, patient.device
    uncorrected = patient.last("ecc_uncorrected")
    if uncorrected is None:
        what = "whether the memory had errors"
        if limits.ecc_enabled is False:
            yield finding(
                "RP-ECC", "unknown",
                "ECC is switched off, so errors of the memory go unnoticed", device=device,
                required=False, remedy="switch ECC on where the device has it",
            )  # fmt: skip
            return
        reason = patient.why_not("ecc_uncorrected")
        # Where ECC is on there are counters, and not to see them is not to know.
        required = bool(limits.ecc_enabled) and not reason.startswith(NOT_APPLICABLE)
        yield untold("RP-ECC", patient, what, "ecc_uncorrected", required=required)
        return
    more: dict[str, Any] = {
        "device": device,
        "figure": float(uncorrected),
        "bound": 0.0,
        "unit": "errors",
    }
    grown = patient.grown("ecc_uncorrected")
    if uncorrected:
        when = f", {grown} of them during the run" if grown else ", before the run"
        yield finding(
            "RP-ECC", "fail",
            f"the memory had {uncorrected} errors that could not be corrected since the driver was "
            f"loaded{when}: data was lost", **more,
        )  # fmt: skip
        return
    lost = patient.grown("ecc_uncorrected_total")
    if lost:
        yield finding(
            "RP-ECC", "fail",
            f"{lost} errors of the memory could not be corrected during the run: data was lost",
            **more | {"figure": float(lost)},
        )  # fmt: skip
        return
    corrected = patient.grown("ecc_corrected")
    if corrected is not None and corrected > MANY_CORRECTED:
        yield finding(
            "RP-ECC", "warn",
            f"{corrected} errors of the memory were corrected during the run, more than "
            f"{MANY_CORRECTED}: it may be about to fail",
            **more | {"figure": float(corrected), "bound": float(MANY_CORRECTED)},
            remedy="watch whether they go on; many corrected errors announce uncorrected ones",
        )  # fmt: skip
        return
    told = "" if corrected is None else f" and {corrected} were corrected during the run"
    yield finding("RP-ECC", "pass", f"no error of the memory was left uncorrected{told}", **more)


def remapping(patient: Patient) -> Iterator[Finding]:
    """Judge the rows of memory that were replaced by spare ones."""
    if patient.device.backend == "cpu":
        return
    failed, pending = patient.last("remapping_failed"), patient.last("remapping_pending")
    rows = [patient.last(f"remapped_rows_{kind}") for kind in ("corrected", "uncorrected")]
    count = sum(int(row) for row in rows if row is not None)
    more: dict[str, Any] = {"device": patient.device, "figure": float(count), "unit": "rows"}
    if failed:
        yield finding(
            "RP-REMAP", "fail",
            f"a bad row of the memory could not be replaced ({count} were): no spare is left",
            **more, remedy="hand the instance back, or have the board replaced",
        )  # fmt: skip
    elif pending:
        yield finding(
            "RP-REMAP", "warn",
            f"a bad row of the memory waits to be replaced ({count} were): until the next reset "
            "it stays in use", **more,
        )  # fmt: skip
    elif failed is None or pending is None:
        fields = ("remapping_failed", "remapping_pending")
        yield untold("RP-REMAP", patient, "whether rows of the memory were replaced", *fields)
    else:
        told = f"{count} bad rows of the memory were replaced" if count else "no row was replaced"
        yield finding("RP-REMAP", "pass", f"{told}, and none waits for it", **more)


def retirement(patient: Patient) -> Iterator[Finding]:
    """Judge the pages of memory that were taken out of use."""
    if patient.device.backend == "cpu":
        return
    pages, pending = patient.last("retired_pages"), patient.last("retirement_pending")
    more: dict[str, Any] = {"device": patient.device, "unit": "pages"}
    if pages is not None:
        more |= {"figure": float(pages), "bound": float(MOST_RETIRED_PAGES)}
    if pages is not None and pages >= MOST_RETIRED_PAGES:
        yield finding(
            "RP-RETIRED", "fail",
            f"{pages} pages of the memory are out of use, all that can be", **more,
            remedy="hand the instance back, or have the board replaced",
        )  # fmt: skip
    elif pending:
        yield finding(
            "RP-RETIRED", "warn",
            "a bad page of the memory is to be taken out of use: until the next reset it stays "
            "in use", **more,
        )  # fmt: skip
    elif pages is None or pending is None:
        fields = ("retired_pages", "retirement_pending")
        yield untold("RP-RETIRED", patient, "whether pages were taken out of use", *fields)
    else:
        told = f"{pages} bad pages are out of use" if pages else "no page is out of use"
        yield finding("RP-RETIRED", "pass", f"{told}, and none waits for it", **more)
