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
    Check(
        "RP-HEALTH",
        "health",
        "Could the device be asked how it is, before and after the run?",
        "fail",
        True,
        "the library or tool of the device's vendor",
        "`probe doctor` says why NVML does not answer; amdsmi and npu-smi come with the drivers of "
        "AMD and Ascend",
    ),
    Check(
        "RP-LOST",
        "health",
        "Was the device there to the end?",
        "fail",
        True,
        "it answers after the run, and no case ended because it did not",
        "see the kernel's log; restart the host, or hand the instance back",
    ),
    Check(
        "RP-ECC",
        "health",
        "Did the memory have errors?",
        "fail",
        False,
        "no uncorrected error since the driver was loaded; up to 10 corrected ones during the run",
        "reset the device; if errors come back, hand the instance back",
    ),
    Check(
        "RP-REMAP",
        "health",
        "Are bad rows of the memory replaced?",
        "fail",
        False,
        "no replacement failed, none is pending",
        "reset the device (nvidia-smi --gpu-reset, when nothing runs on it) or restart the host",
    ),
    Check(
        "RP-RETIRED",
        "health",
        "Are bad pages of the memory out of use?",
        "fail",
        False,
        "fewer than the 64 that can be, none is pending",
        "reset the device (nvidia-smi --gpu-reset, when nothing runs on it) or restart the host",
    ),
    Check(
        "RP-XID",
        "health",
        "Did the driver report errors of the device?",
        "fail",
        False,
        "NVIDIA's classes of Xid numbers: isolate, reboot, reset, monitor",
        "see `sudo dmesg | grep -i xid`",
    ),
    Check(
        "RP-THROTTLE",
        "health",
        "Was the device slowed down?",
        "fail",
        False,
        "the hardware held it back for less than 1 % of the time measured",
        "see to cooling and power supply; on a rented host, hand the instance back",
    ),
    Check(
        "RP-TEMPERATURE",
        "health",
        "How near did it come to the temperature at which it slows down?",
        "warn",
        False,
        "5 °C below the device's own threshold",
        "see to its cooling",
    ),
    Check(
        "RP-PROCESSES",
        "health",
        "Was it alone on the device?",
        "warn",
        False,
        "no process of others before or after the run",
        "end the other work and repeat",
    ),
    Check(
        "RP-MIG",
        "health",
        "Is it the whole GPU?",
        "warn",
        False,
        "MIG is off",
        "hold the figures against the slice, or ask for the whole GPU",
    ),
    Check(
        "RP-PERSISTENCE",
        "health",
        "Does the driver stay loaded between programs?",
        "pass",
        False,
        "persistence mode",
        "nvidia-smi --persistence-mode=1, as root",
    ),
    Check(
        "RP-PCIE-REPLAY",
        "health",
        "Did PCIe have to send again?",
        "warn",
        False,
        "up to 10 packets during the run",
        "reseat the board or its riser; on a rented host, hand the instance back",
    ),
    Check(
        "RP-NVLINK-ERRORS",
        "health",
        "Do all NVLinks work?",
        "fail",
        False,
        "as many up as before the run; up to 100 errors during it",
        "see `nvidia-smi nvlink --status` and `--errorcounters`",
    ),
    Check(
        "RP-SDC",
        "health",
        "Was work repeated and its bits compared?",
        "pass",
        False,
        "bit for bit the first result; a difference is RP-UNSTABLE-BITS",
        "run with the family compute, or with --tier soak",
    ),
    Check(
        "RP-UNSTABLE",
        "absolute",
        "Did a figure fall short once, and not when it was repeated?",
        "warn",
        True,
        "the median of at least 3 repeats on the idle, cooled device",
        "run again; what comes and goes is load of others, heat, or a defect that begins",
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
