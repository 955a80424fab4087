"""The clock that a device really ran at, counted by the device itself around each sample.

Drivers report clocks as they were set or averaged, tens of milliseconds late. A processor can count
its own cycles: a GPU stores each SM's cycle counter and the global timer before and after a
sample; a CPU times a chain of dependent one-cycle additions. The quotient is the true clock, by
which a rate can be normalised: the same silicon at another power limit gives another rate, but the
same operations per cycle.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Protocol

from roofprobe.records.schema import Device


class Clock(Protocol):
    """Counts cycles from ``begin`` to ``end``."""

    def begin(self) -> None:
        """Note the counters before the work."""
        ...

    def end(self) -> float | None:
        """Return the mean clock since ``begin`` in MHz, or None where it cannot be told."""
        ...


class NoClock:
    """A device that cannot count its cycles."""

    def begin(self) -> None:
        """Do nothing."""

    def end(self) -> float | None:
        """Return None."""
        return None


class CpuClock:
    """The core clock of the measuring thread, right after a sample, every 50 ms at most.

    The chain of additions takes 0.1 ms, so that it costs the samples nothing; other cores of a
    loaded processor run at the same clock or close to it.
    """

    _DURATION_US = 100
    _LEAST_INTERVAL_S = 0.05

    def __init__(
        self, clock_mhz: Callable[[float], float], now: Callable[[], float] = time.monotonic
    ) -> None:
        """Measure with ``clock_mhz``, which takes microseconds and returns MHz."""
        self._clock_mhz = clock_mhz
        self._now = now
        self._last = float("-inf")

    def begin(self) -> None:
        """Do nothing: the chain is run after the work, while the core is still as busy clocked."""

    def end(self) -> float | None:
        """Return the clock, or None when it was taken a moment ago."""
        if self._now() - self._last < self._LEAST_INTERVAL_S:
            return None
        mhz = self._clock_mhz(self._DURATION_US)
        self._last = self._now()
        return mhz


class GpuClock:
    """Every SM's cycle counter over the device's timer, read in the stream around each sample.

    The two readings are kernels of a few microseconds outside of the timed events; several
    programs per SM are launched, so that nearly every SM is seen both times.
    """

    _PROGRAMS_PER_UNIT = 4

    def __init__(self, device: Device) -> None:
        """Compile the kernel and read once; raises what Triton raises where it cannot."""
        from roofprobe.kernels import triton_clock

        assert device.architecture is not None, device
        programs = self._PROGRAMS_PER_UNIT * (device.unit_count or 1)
        self._mhz = triton_clock.clock_mhz
        self._readings = [
            triton_clock.make_readings(programs, device.torch_device) for _ in range(2)
        ]
        self._read = [
            triton_clock.launcher(readings, device.architecture) for readings in self._readings
        ]
        self.begin()

    def begin(self) -> None:
        """Enqueue the reading before the work."""
        self._read[0]()

    def end(self) -> float | None:
        """Enqueue the reading after the work, wait, and return the median over all SMs."""
        self._read[1]()
        before, after = (readings.cpu().numpy() for readings in self._readings)
        return self._mhz(before, after)


def clock_of(device: Device) -> Clock:
    """Return how ``device`` counts its cycles; a device that cannot is no error."""
    try:
        if device.backend == "cpu":
            from roofprobe.kernels import cpu_team

            cpu_team.clock_mhz(CpuClock._DURATION_US)
            return CpuClock(cpu_team.clock_mhz)
        if device.backend == "cuda":
            return GpuClock(device)
    except Exception as error:  # a clock is worth having, but no measurement
        print(f"no cycle counter: {type(error).__name__}: {error}", file=sys.stderr)
    return NoClock()
