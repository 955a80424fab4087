"""The clock that a device really ran at, counted by the device itself around each sample.

Drivers report clocks as they were set or averaged, tens of milliseconds late. A processor can count
its own cycles: a GPU stores each SM's cycle counter and the global timer before and after a
sample; a CPU times a chain of dependent one-cycle additions. The quotient is the true clock, by
which a rate can be normalised: the same silicon at another power limit gives another rate, but the
same operations per cycle.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from roofprobe.records.schema import Device

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Clock(Protocol):
    """Counts cycles from ``begin`` to ``end`` of each sample, and tells the clocks afterwards.

    Between samples a reading is only enqueued: waiting for it and computing with it would let the
    device rest.
    """

    def clear(self) -> None:
        """Forget the samples so far."""
        ...

    def begin(self) -> None:
        """Note the counters before the work."""
        ...

    def end(self) -> None:
        """Note the counters after the work."""
        ...

    def clocks_mhz(self) -> tuple[float, ...]:
        """Wait, and return the mean clock in MHz of each sample for which it can be told."""
        ...


class NoClock:
    """A device that cannot count its cycles."""

    def clear(self) -> None:
        """Do nothing."""

    def begin(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Do nothing."""

    def clocks_mhz(self) -> tuple[float, ...]:
        """Return none."""
        return ()


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
        self._found_mhz: list[float] = []

    def clear(self) -> None:
        """Forget the clocks so far, not when the last was taken."""
        self._found_mhz.clear()

    def begin(self) -> None:
        """Do nothing: the chain is run after the work, while the core is still as busy clocked."""

    def end(self) -> None:
        """Run the chain, unless it ran a moment ago."""
        if self._now() - self._last < self._LEAST_INTERVAL_S:
            return
        self._found_mhz.append(self._clock_mhz(self._DURATION_US))
        self._last = self._now()

    def clocks_mhz(self) -> tuple[float, ...]:
        """Return the clocks that were taken."""
        return tuple(self._found_mhz)


class GpuClock:
    """Every SM's cycle counter over the device's timer, read in the stream around each sample.

    The two readings are kernels of a few microseconds outside of the timed events; several
    programs per SM are launched, so that nearly every SM is seen both times. Each sample has a
    place of its own on the device; only when all are taken are they copied to the host.
    """

    _PROGRAMS_PER_UNIT = 4
    _PLACES = 512  # 13 MB for 132 SMs; a case seldom has more samples

    def __init__(self, device: Device) -> None:
        """Compile the kernel and read once; raises what Triton raises where it cannot."""
        from roofprobe.kernels import triton_clock

        assert device.architecture is not None, device
        programs = self._PROGRAMS_PER_UNIT * (device.unit_count or 1)
        self._convert = triton_clock.clocks_mhz
        # (place, before or after, program, column)
        self._readings = triton_clock.make_readings(
            (self._PLACES, 2, programs), device.torch_device
        )
        self._read = [
            tuple(triton_clock.launcher(readings, device.architecture) for readings in place)
            for place in self._readings
        ]
        self._taken = 0
        self._copied: list[NDArray[np.int64]] = []
        self.begin()

    def clear(self) -> None:
        """Forget the readings so far."""
        self._taken = 0
        self._copied.clear()

    def begin(self) -> None:
        """Enqueue the reading before the work."""
        if self._taken == self._PLACES:
            self._copy()
        self._read[self._taken][0]()

    def end(self) -> None:
        """Enqueue the reading after the work."""
        self._read[self._taken][1]()
        self._taken += 1

    def clocks_mhz(self) -> tuple[float, ...]:
        """Wait, and return for each sample the median over all SMs, where any was seen twice."""
        self._copy()
        found = [self._convert(read[:, 0], read[:, 1]) for read in self._copied]
        return tuple(mhz for part in found for mhz in part.tolist() if not math.isnan(mhz))

    def _copy(self) -> None:
        self._copied.append(self._readings[: self._taken].to("cpu", copy=True).numpy())
        self._taken = 0


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
