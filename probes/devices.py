"""Find devices, open them, watch them: one list for the whole host.

``discover`` asks each backend for its devices and adds what NVML and the catalogue know: power and
clock limits, bus width, PCI id, other processes, and which accelerator of the catalogue this is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from roofprobe.probes.backends import AcceleratorBackend, Backend, CpuBackend, CudaBackend
from roofprobe.probes.backends import available_backends as available_backends
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Device, Telemetry


def discover(backends: Sequence[Backend] | None = None) -> tuple[Device, ...]:
    """Return all devices of the host, accelerators first, the CPU last."""
    found = available_backends() if backends is None else backends
    devices = [
        backend.describe(index) for backend in found for index in range(backend.count())
    ]
    return tuple(_enriched(device) for device in devices)


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
            known = ", ".join(
                f"{device.torch_device} ({device.name})" for device in devices
            )
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
    """Return what watches ``device``: NVML for NVIDIA, the system for the CPU, else nothing."""
    from roofprobe.probes import telemetry
    from roofprobe.probes.nvml import Nvml, open_nvml

    if device.backend == "cpu":
        return SamplerTelemeter(telemetry.CpuSource())
    if device.backend == "cuda":
        nvml = open_nvml()
        if isinstance(nvml, Nvml):
            handle = nvml.device_by_uuid(device.uuid or "", pci_bus_id=device.pci_bus_id)
            if handle is not None:
                return SamplerTelemeter(handle)
    return SamplerTelemeter(None)


class SamplerTelemeter:
    """Runs a background sampler around each case and keeps what it saw."""

    def __init__(self, source: object | None) -> None:
        """Sample ``source``; None watches nothing."""
        self._source = source
        self._summary: Telemetry | None = None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Sample until the context closes."""
        self._summary = None
        if self._source is None:
            yield
            return
        from dataclasses import asdict

        from roofprobe.probes.telemetry import Sampler

        with Sampler(self._source) as sampler:  # type: ignore[arg-type]
            yield
        self._summary = Telemetry.model_validate(asdict(sampler.summary()))

    def summary(self) -> Telemetry | None:
        """Return what the last context saw."""
        return self._summary


def _is_called(device: Device, name: str) -> bool:
    names = {device.device_id, device.torch_device, device.backend}
    names |= {device.torch_device.split(":")[0]}
    if device.uuid:
        names |= {device.uuid, device.uuid.removeprefix("GPU-")}
    return name.lower() in {known.lower() for known in names}


def _enriched(device: Device) -> Device:
    return device
