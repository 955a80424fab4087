"""Wait until a device is idle and cool, so that a repeat begins as the first figure should have.

Heat and someone else's work are the usual reasons for a low figure, and both pass. What the device
cannot tell is not waited for, but a short pause is always made.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from roofprobe.probes.nvml_facts import Snapshot

WARMER_C: Final = 10.0  # above the temperature before the run; hotter is not yet cool
COOL_C: Final = 50.0  # cool enough where the temperature before the run is not known
_IDLE_PERCENT: Final = 5.0
_PAUSE_S: Final = 0.25
_LEAST_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class CooledDown:
    """How long it took, the last temperature, and what was still in the way; None if nothing."""

    waited_s: float
    temperature_c: float | None = None
    in_the_way: str | None = None


def cool_down(
    moment: Callable[[], Snapshot] | None,
    most_s: float,
    cool_c: float | None = None,
    *,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> CooledDown:
    """Wait until ``moment`` tells of an idle device below ``cool_c``, ``most_s`` at most."""
    begun = clock()
    least_s = min(_LEAST_S, most_s)
    while True:
        snapshot = _asked(moment)
        waited_s = clock() - begun
        in_the_way = _in_the_way(snapshot, COOL_C if cool_c is None else cool_c)
        if (in_the_way is None and waited_s >= least_s) or waited_s >= most_s:
            return CooledDown(round(waited_s, 2), snapshot.temperature_c, in_the_way)
        sleep(min(_PAUSE_S, max(0.0, most_s - waited_s)))


def _asked(moment: Callable[[], Snapshot] | None) -> Snapshot:
    if moment is None:
        return Snapshot()
    try:
        return moment()
    except Exception as error:  # a sensor that fails must not cost the repeats
        return Snapshot(missing={"sampling": f"failed ({type(error).__name__})"})


def _in_the_way(snapshot: Snapshot, cool_c: float) -> str | None:
    if snapshot.utilisation_percent is not None and snapshot.utilisation_percent > _IDLE_PERCENT:
        return f"it is {snapshot.utilisation_percent:.0f} % busy"
    if snapshot.temperature_c is not None and snapshot.temperature_c > cool_c:
        return f"it has {snapshot.temperature_c:.0f} °C, more than {cool_c:.0f} °C"
    return None
