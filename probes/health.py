"""How a device is at this moment, by whatever its vendor gives to ask.

Runs in a worker process: a driver that hangs or crashes must not take the run with it. No device
context is created, no setting is changed, and nothing raises: what is not told has its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from roofprobe.probes import amdsmi_health, cpu_health, npu_smi_health, nvml
from roofprobe.probes.kernel_log import xids_of
from roofprobe.probes.nvml_facts import NvmlUnavailable, reason_code
from roofprobe.records.schema import Device, Health


def health_of(device: Device) -> Health:
    """Return the health of ``device``; of a backend that nothing tells of, only the reason."""
    reader = _READERS.get(device.backend)
    if reader is None:
        return untold(f"not-supported (nothing is known to ask about {device.backend} devices)")
    try:
        return reader(device)
    except Exception as error:  # health never breaks a run
        return untold(f"failed ({type(error).__name__}: {error})"[:300])


def untold(reason: str, *, lost: str | None = None) -> Health:
    """Return a health of which nothing was told, and why."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    return Health(at=at, lost=lost, missing={"health": reason})


def _nvidia(device: Device) -> Health:
    """Ask NVML, and the kernel's log for driver errors of this device."""
    xids, why = xids_of(device.pci_bus_id)
    told = _counters(device)
    missing = dict(told.missing)
    if why is not None:
        missing["xids"] = why
    return told.model_copy(update={"xids": xids, "missing": missing})


def _counters(device: Device) -> Health:
    library = nvml.open_nvml()
    if isinstance(library, NvmlUnavailable):
        return untold(f"{library.code} ({library.sentence})")
    try:
        found = library.device_by_uuid(device.uuid, device.pci_bus_id)
        if isinstance(found, NvmlUnavailable):
            lost = found.sentence if reason_code(found.code) == "gpu-is-lost" else None
            return untold(f"{found.code} ({found.sentence})", lost=lost)
        return found.health()
    finally:
        library.close()


def _amd(device: Device) -> Health:
    return amdsmi_health.health_of(device.pci_bus_id)


def _ascend(device: Device) -> Health:
    return npu_smi_health.health_of(device.index)


def _processor(device: Device) -> Health:
    return cpu_health.health_of()


_READERS: Final[Mapping[str, Callable[[Device], Health]]] = MappingProxyType(
    {"cuda": _nvidia, "rocm": _amd, "npu": _ascend, "cpu": _processor}
)
