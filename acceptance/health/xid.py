"""What the driver wrote into the kernel's log: NVIDIA's Xid numbers, by what they ask for.

Classes are those that NVIDIA gives with its r590 drivers, as the checks of AWS's
awsome-distributed-training (gpu-cluster-healthcheck/README.md) have them. An error that came during
the run counts at once. An older one counts while what it asks for cannot have been done: the log
goes back to the start of the host, so no restart has followed it; a reset of the GPU may have.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from roofprobe.acceptance.checks import finding
from roofprobe.acceptance.health.patient import Patient, untold
from roofprobe.records.schema import Finding, Judgement

Action = Literal["isolate", "reboot", "reset", "monitor"]

_OF_ACTION: Final[dict[Action, tuple[int, ...]]] = {
    "isolate": (54,),
    "reboot": (79, 151, 168),
    "reset": (48, 64, 74, 95, 109, 110, 119, 120, 136, 140, 143, 155, 156, 158),
    # Errors of programs, notices, and NVLink's that are watched unless they come often.
    "monitor": (
        13, 31, 43, 63, 92, 94, 121, 126, 144, 145, 146, 147, 148, 149, 150, 154,
    ),
}  # fmt: skip
ACTIONS: Final = {number: action for action, numbers in _OF_ACTION.items() for number in numbers}
_ADVICE: Final[dict[Action, str]] = {
    "isolate": "take the device out of use and hand the instance back",
    "reboot": "restart the host; if it comes back, hand the instance back",
    "reset": "reset the device (nvidia-smi --gpu-reset, when nothing runs on it) or restart the "
    "host",
    "monitor": "see `sudo dmesg | grep -i xid`, and whether more of them come",
}


def xids(patient: Patient) -> Iterator[Finding]:
    """Judge the driver errors of the device; a log that cannot be read says nothing."""
    if patient.device.backend != "cuda":
        return
    before, after = _told(patient, 0), _told(patient, 1)
    if before is None and after is None:
        yield untold("RP-XID", patient, "whether the driver met errors (Xid)", "xids")
        return
    all_of_them = after if after is not None else before or ()
    earlier = before or ()
    # A log that lost its beginning meanwhile has fewer; then nothing is known to be new.
    new = all_of_them[len(earlier) :] if all_of_them[: len(earlier)] == earlier else ()
    worst: Judgement = "pass"
    for number in dict.fromkeys((*new, *all_of_them)):
        judgement = _judged(number, number in new)
        if judgement != "pass":
            worst = "fail" if "fail" in (judgement, worst) else "warn"
            yield _finding(patient, number, judgement, number in new)
    if worst == "pass":
        told = f"none but {_listed(all_of_them)}, which need nothing" if all_of_them else "none"
        yield finding(
            "RP-XID", "pass", f"the kernel's log has no driver error of the device: {told}"
            if all_of_them else "the kernel's log has no driver error (Xid) of the device",
            device=patient.device,
        )  # fmt: skip


def _told(patient: Patient, end: int) -> tuple[int, ...] | None:
    health = (patient.before, patient.after)[end]
    return None if health is None else health.xids


def _judged(number: int, is_new: bool) -> Judgement:
    action = ACTIONS.get(number)
    if action in ("isolate", "reboot") or (action == "reset" and is_new):
        return "fail"
    if action == "monitor" and not is_new:
        return "pass"
    return "warn"


def _finding(patient: Patient, number: int, judgement: Judgement, is_new: bool) -> Finding:
    action = ACTIONS.get(number)
    when = "during the run" if is_new else "since the host started, before the run"
    meaning = {
        None: "whose meaning is not known here",
        "isolate": "after which a device is to be taken out of use",
        "reboot": "after which the host is to be restarted",
        "reset": "after which the device is to be reset",
        "monitor": "which is to be watched",
    }[action]
    return finding(
        "RP-XID", judgement, f"the driver reported Xid {number} {when}, {meaning}",
        device=patient.device, figure=float(number), unit="Xid",
        remedy=_ADVICE[action or "monitor"],
    )  # fmt: skip


def _listed(numbers: tuple[int, ...]) -> str:
    return ", ".join(f"Xid {number}" for number in dict.fromkeys(numbers))
