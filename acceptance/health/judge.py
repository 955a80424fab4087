"""Do the device's own counters say that it is well, before and after the work.

Passive: a device can be slow without any of these signs. What a device does not tell is unknown,
never fine, and leaves the verdict alone where it cannot be told at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

from roofprobe.acceptance.health.device import (
    corruption,
    lost,
    mig,
    persistence,
    processes,
    readable,
)
from roofprobe.acceptance.health.heat import temperature, throttling
from roofprobe.acceptance.health.links import nvlink, pcie
from roofprobe.acceptance.health.memory import ecc, remapping, retirement
from roofprobe.acceptance.health.patient import Patient, patients_of
from roofprobe.acceptance.health.xid import xids
from roofprobe.records.schema import Finding, Run

_CHECKS: Final[tuple[Callable[[Patient], Iterator[Finding]], ...]] = (
    readable, lost, ecc, remapping, retirement, xids, throttling, temperature, processes, mig,
    persistence, pcie, nvlink, corruption,
)  # fmt: skip
_SAID_ONCE: Final = frozenset({"RP-HEALTH", "RP-LOST"})


def health(run: Run) -> Iterator[Finding]:
    """Yield the answer to each health check of each device.

    Where nothing told anything, that is one answer, and not the same one to each check.
    """
    for patient in patients_of(run):
        for found in (found for check in _CHECKS for found in check(patient)):
            if patient.latest or found.judgement != "unknown" or found.code in _SAID_ONCE:
                yield found
