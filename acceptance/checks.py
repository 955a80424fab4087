"""The catalogue of checks: every code that a verdict can hold, in one table.

A code names a question, not an answer: the finding says ``pass``, ``warn``, ``fail`` or
``unknown``. Codes are stable; they are what people filter and alert on. ``docs/checks.md`` is
written from this table.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final

from roofprobe.records.schema import Device, Finding, Judgement, Layer, Run


@dataclass(frozen=True, slots=True)
class Check:
    """One question that is asked of every run, and what may be answered.

    ``required``: an ``unknown`` answer makes the device's verdict unknown, since not run is not
    OK. ``worst`` is the worst judgement that it may give. ``bound`` says where the bound comes
    from, ``remedy`` what to do when it does not pass.
    """

    code: str
    layer: Layer
    title: str
    worst: Judgement
    required: bool
    bound: str
    remedy: str


_TABLE: Final = (
    Check(
        "RP-COMPLETE",
        "integrity",
        "Was everything measured that was planned?",
        "unknown",
        True,
        "the plan of the run",
        "go on with `probe all --resume`, or run it again with more time",
    ),
    Check(
        "RP-NOT-MEASURED",
        "integrity",
        "Did a case end without a result?",
        "warn",
        True,
        "each planned case ends in a figure or in a reason that lies in the case itself",
        "see the reason, and the log beside the record",
    ),
    Check(
        "RP-WRONG-RESULT",
        "integrity",
        "Are results right?",
        "fail",
        True,
        "a reference of higher precision, with the tolerance of the format",
        "repeat; a device that computes wrongly must not be used",
    ),
    Check(
        "RP-UNSTABLE-BITS",
        "integrity",
        "Does the same work give the same bits?",
        "fail",
        True,
        "bit for bit the first result",
        "repeat; silent data corruption is a defect of the device",
    ),
    Check(
        "RP-INVALID",
        "integrity",
        "Are all figures physically possible?",
        "unknown",
        True,
        "pins x clock, and units x rate x highest clock",
        "do not use the figure; please report the run",
    ),
    Check(
        "RP-KERNEL-FALLBACK",
        "integrity",
        "Did the kernel run that the row stands for?",
        "warn",
        False,
        "the name of the kernel",
        "the figure is that kernel's; look for a route or a version of the library that has the "
        "right one",
    ),
    Check(
        "RP-SLOW-FALLBACK",
        "integrity",
        "Is each narrower format faster than the wider one?",
        "warn",
        False,
        "the wider format's figure in the same run",
        "see which kernel ran, and update torch or the library that was called",
    ),
    Check(
        "RP-COMPUTE",
        "absolute",
        "Does each precision reach what this device should?",
        "fail",
        True,
        "a share of the derived peak at the highest clock",
        "see clocks, throttle reasons and other processes, and repeat",
    ),
    Check(
        "RP-BANDWIDTH",
        "absolute",
        "Does memory deliver what this device should?",
        "fail",
        True,
        "a share of the derived bandwidth",
        "see ECC, other processes and throttle reasons, and repeat",
    ),
)
CHECKS: Final[Mapping[str, Check]] = MappingProxyType({check.code: check for check in _TABLE})


def finding(
    code: str,
    judgement: Judgement,
    sentence: str,
    *,
    device: Device | None = None,
    **more: Any,
) -> Finding:
    """Return the answer to a check of the catalogue; a `KeyError` for a code that is not there.

    A remedy is the check's own unless given, and absent where the check passes.
    """
    check = CHECKS[code]
    more.setdefault("remedy", None if judgement == "pass" else check.remedy)
    more.setdefault("required", check.required)
    if device is not None:
        more |= {"device_id": device.device_id, "device": label_of_device(device)}
    return Finding(code=code, judgement=judgement, layer=check.layer, sentence=sentence, **more)


def device_of(run: Run, device_id: str) -> Device | None:
    """Return a device of the run, or None where the record does not have it."""
    return next((each for each in run.devices if each.device_id == device_id), None)


def label_of_device(device: Device) -> str:
    """Name a device so that people find it: what it is, its index, UUID and PCI bus id."""
    if device.backend == "cpu":
        return device.name
    parts = (device.uuid, device.pci_bus_id)
    return f"{device.torch_device} ({', '.join(part for part in parts if part) or device.name})"
