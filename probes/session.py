"""What a worker has open while it measures: one device, its timer, its clock, its memory."""

from __future__ import annotations

import re
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


# What CUDA, ROCm, Triton and the driver say when a context cannot be used again. Only the causes:
# torch adds the words "device-side assertions" to every error, and a call that a library refused
# ("invalid argument", "no kernel image", ..._NOT_SUPPORTED) costs nothing but itself.
_STICKY = re.compile(
    r"illegal memory access|misaligned address|unspecified launch failure|"
    r"launch timed out|device-side assert triggered|uncorrectable|\bECC error|"
    r"hardware stack error|illegal instruction|invalid program counter|"
    r"global/shared address space|(?:CUDA|HIP) error: unknown error|\bXid\b|"
    r"device (?:is )?lost|GPU is lost|"
    r"(?:cuda|hip)Error(?:IllegalAddress|MisalignedAddress|LaunchFailure|LaunchTimeOut|Assert|"
    r"ECCNotCorrectable|HardwareStackError|IllegalInstruction|InvalidPc)",
    re.IGNORECASE,
)


def is_lost(error: Exception, device: Device) -> bool:
    """Return whether the device's context is gone: after a device-side error nothing else runs.

    A call that was refused, or memory that ran out, costs nothing but itself.
    """
    text = str(error)
    if device.backend == "cpu" or "out of memory" in text.lower():
        return False
    return _STICKY.search(text) is not None
