"""What a worker has open while it measures: one device, its timer, its clock, its memory."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from roofprobe.kernels.work import Target
from roofprobe.probes.arenas import Arenas
from roofprobe.probes.backends import Backend, target_of
from roofprobe.probes.clocks import Clock
from roofprobe.probes.timers import Timer
from roofprobe.records.schema import Device, Telemetry


class Telemeter(Protocol):
    """Watches the device around a case."""

    def watch(self) -> AbstractContextManager[None]:
        """Return a context that samples while it is open."""
        ...

    def summary(self) -> Telemetry | None:
        """Return what the last context saw."""
        ...


@dataclass(frozen=True, slots=True)
class Session:
    """An opened device and everything that measuring on it needs; ``seed`` fills the operands."""

    device: Device
    backend: Backend
    timer: Timer
    telemeter: Telemeter
    clock: Clock
    arenas: Arenas
    seed: int

    @property
    def target(self) -> Target:
        """Return what kernels need to know of the device."""
        return target_of(self.device)

    @classmethod
    def on(
        cls,
        device: Device,
        backend: Backend,
        telemeter: Telemeter,
        clock: Clock,
        *,
        timer: Timer | None = None,
        seed: int = 0,
    ) -> Session:
        """Open ``device`` through ``backend``; ``timer`` replaces the backend's own."""
        return cls(
            device=device,
            backend=backend,
            timer=timer or backend.timer(device.index),
            telemeter=telemeter,
            clock=clock,
            arenas=Arenas(lambda: backend.free_memory_bytes(device.index), backend.release),
            seed=seed,
        )


def is_lost(error: Exception, device: Device) -> bool:
    """Return whether the device's context is gone: after a device-side error nothing else runs.

    A call that a library refused, or memory that ran out, costs nothing but itself.
    """
    if device.backend == "cpu":
        return False
    text = str(error)
    if "CUDA error" not in text and "HIP error" not in text and "device lost" not in text.lower():
        return False
    refused = ("out of memory", "STATUS_NOT_SUPPORTED", "STATUS_INVALID_VALUE")
    return not any(words in text for words in refused)
