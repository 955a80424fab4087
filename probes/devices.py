"""Find devices, open them, watch them: one list for the whole host.

``discover`` asks each backend for its devices and adds what NVML and the catalogue know: power and
clock limits, bus width, PCI id, other processes, and which accelerator of the catalogue this is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

from roofprobe.peaks.match import identify
from roofprobe.probes.backends import (
    AcceleratorBackend,
    Backend,
    CpuBackend,
    CudaBackend,
    available_backends,
)
from roofprobe.probes.caches import with_catalogue
from roofprobe.probes.nvml import Nvml, NvmlDevice, open_nvml
from roofprobe.probes.nvml_facts import NvmlUnavailable
from roofprobe.probes.telemetry import CpuSource, Sampler, Source
from roofprobe.probes.waiting import Waiting
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Device, Limits, Telemetry


def discover(backends: Sequence[Backend] | None = None) -> tuple[Device, ...]:
    """Return all devices of the host, accelerators first, the CPU last."""
    found = available_backends() if backends is None else backends
    devices = [backend.describe(index) for backend in found for index in range(backend.count())]
    nvml = open_nvml() if any(device.backend == "cuda" for device in devices) else None
    return tuple(
        _enriched(device, nvml if device.backend == "cuda" else None) for device in devices
    )


def select(devices: Sequence[Device], wanted: str) -> tuple[Device, ...]:
    """Return the devices that ``--device`` names.

    ``auto``: all accelerators, or the CPU where there is none; ``all``: the CPU too; else a
    comma-separated list of ``cpu``, ``cuda:0``, ``cuda`` or UUIDs. Raises ``RoofprobeError``
    (``unknown-device``) that lists what there is.
    """
    if wanted == "all":
        return tuple(devices)
    if wanted == "auto":
        accelerators = tuple(device for device in devices if device.backend != "cpu")
        return accelerators or tuple(devices)
    chosen: list[Device] = []
    for name in (part.strip() for part in wanted.split(",")):
        matches = [device for device in devices if _is_called(device, name)]
        if not matches or not name:
            known = ", ".join(f"{device.torch_device} ({device.name})" for device in devices)
            raise RoofprobeError(
                "unknown-device",
                f"there is no device {name!r} on this host; there is: {known}",
            )
        chosen += [device for device in matches if device not in chosen]
    return tuple(chosen)


def backend_of(device: Device) -> Backend:
    """Return the backend that drives ``device``."""
    if device.backend == "cpu":
        return CpuBackend()
    if device.backend in ("cuda", "rocm"):
        return CudaBackend()
    return AcceleratorBackend(device.backend)


def telemeter_of(device: Device) -> SamplerTelemeter:
    """Return what watches ``device`` (NVML for NVIDIA, the system for the CPU) and our threads."""
    return SamplerTelemeter(source_of(device), Waiting(one=device.backend != "cpu"))


def source_of(device: Device) -> CpuSource | NvmlDevice | None:
    """Return what can be asked about this moment of ``device``; None where nothing can."""
    if device.backend == "cpu":
        return CpuSource()
    if device.backend == "cuda":
        nvml = open_nvml()
        if isinstance(nvml, Nvml):
            handle = nvml.device_by_uuid(device.uuid, device.pci_bus_id)
            if isinstance(handle, NvmlDevice):
                return handle
    return None


class SamplerTelemeter:
    """Runs a background sampler around each case and keeps what it saw, and how threads waited."""

    def __init__(self, source: Source | None, waiting: Waiting | None = None) -> None:
        """Sample ``source`` and count by ``waiting``; None watches nothing."""
        self._source, self._waiting = source, waiting
        self._summary: Telemetry | None = None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Sample until the context closes."""
        self._summary = None
        seen: dict[str, Any] = {}
        if self._source is None:
            with self._threads(seen):
                yield
        else:
            with Sampler(self._source) as sampler, self._threads(seen):
                yield
            seen = {**asdict(sampler.summary()), **seen}
        if seen:
            self._summary = Telemetry.model_validate(seen)

    @contextmanager
    def _threads(self, seen: dict[str, Any]) -> Iterator[None]:
        """Add to ``seen`` how many threads waited until the context closes, where that is told."""
        if self._waiting is None:
            yield
            return
        self._waiting.begin()
        yield
        waited = self._waiting.threads()
        if waited is not None:
            seen["waiting_threads"] = round(waited, 4)

    def summary(self) -> Telemetry | None:
        """Return what the last context saw."""
        return self._summary


def _is_called(device: Device, name: str) -> bool:
    names = {device.device_id, device.torch_device, device.backend}
    names |= {device.torch_device.split(":")[0]}
    if device.uuid:
        names |= {device.uuid, device.uuid.removeprefix("GPU-")}
    return name.lower() in {known.lower() for known in names}


def _enriched(device: Device, nvml: Nvml | NvmlUnavailable | None) -> Device:
    """Add what NVML tells of an NVIDIA GPU, and which row of the catalogue the device is."""
    if device.backend == "cpu":
        return device
    if isinstance(nvml, NvmlUnavailable):
        device = device.model_copy(update={"missing": {**device.missing, "nvml": nvml.sentence}})
    elif nvml is not None:
        device = _with_nvml(device, nvml)
    match = identify(
        name=device.name,
        pci_id=device.pci_id,
        pci_subsystem_id=device.pci_subsystem_id,
        memory_gib=device.memory_bytes / 2**30 if device.memory_bytes else None,
        unit_count=device.unit_count,
    )
    return device.model_copy(
        update={
            "caches": with_catalogue(device, match.accelerator),
            "catalogue_key": match.accelerator.key if match.accelerator else None,
            "identity": match.contradiction or match.reason,
        }
    )


def _with_nvml(device: Device, nvml: Nvml) -> Device:
    handle = nvml.device_by_uuid(device.uuid, device.pci_bus_id)
    if isinstance(handle, NvmlUnavailable):
        missing = {**device.missing, "nvml": handle.sentence}
        return device.model_copy(update={"missing": missing})
    identity, limits, processes = handle.identity(), handle.limits(), handle.processes()
    return device.model_copy(
        update={
            "pci_bus_id": identity.pci_bus_id or device.pci_bus_id,
            "pci_id": identity.pci_device_id,
            "pci_subsystem_id": identity.pci_subsystem_id,
            "driver": identity.driver_version,
            "limits": Limits(**{name: getattr(limits, name) for name in Limits.model_fields}),
            "other_processes": tuple(
                f"{process.name or 'process'} ({process.pid}, {process.kind})"
                for process in processes.others
            ),
            "missing": {**device.missing, **identity.missing, **limits.missing},
        }
    )
