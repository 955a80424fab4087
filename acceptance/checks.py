"""The catalogue of checks: every code that a verdict can hold, and how a finding is made.

A code names a question, not an answer: the finding says ``pass``, ``warn``, ``fail`` or
``unknown``. The questions stand in `roofprobe.acceptance.check_table`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from roofprobe.acceptance.check_table import TABLE, Check
from roofprobe.records.schema import Device, Finding, Judgement, Run

CHECKS: Final[Mapping[str, Check]] = MappingProxyType({check.code: check for check in TABLE})


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
    for name in ("figure", "bound"):
        if more.get(name) is not None and not math.isfinite(more[name]):
            more[name] = None  # what a hostile record divides by; the sentence still tells
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
