"""Which of two modes of one kind is what the kind reaches, where the clock sets them apart.

Counting does not tell: a hall that is too warm may hold most of a fleet. What is recorded often
does. A clock has a highest value, that the driver states of each device (or else the datasheet's
boost clock); power and heat take from it and nothing adds to it. Where the faster mode runs at
most at what the slower one is allowed, at the same power limit, it shows what such devices reach,
and the slower one is kept below that, however many they are. Where the faster mode lies above
that, or the power limits differ, or one of both limits is not recorded, it is not told.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from roofprobe.acceptance.fleet.present import Present
from roofprobe.acceptance.fleet.robust import median_of
from roofprobe.peaks.catalogue import load

Rows = np.ndarray[Any, np.dtype[np.intp]]
_MOST_OF_A_HOST: Final = 0.75  # of its devices, so that it counts as a whole
_NEARLY_ALL: Final = 0.9  # of the slower devices, on such hosts
_TOLERANCE: Final = 0.02  # of a clock or power limit, as between the limits of equal devices
_LEAST_GAP: Final = 0.01  # between the modes' clocks, so that they are two


@dataclass(frozen=True, slots=True)
class Clocks:
    """The clocks of two modes in the metric where they differ most, MHz.

    ``allowed_mhz`` is the highest that the slower mode may run at, ``allowed_by`` what says so.
    ``undecided`` is why nothing tells which mode is right; None where the slower one is below it.
    """

    metric: str
    low_mhz: float
    high_mhz: float
    allowed_mhz: float | None
    allowed_by: str
    undecided: str | None

    @property
    def limited(self) -> bool:
        """Whether the slower mode may not run as fast as the other one does."""
        return self.allowed_mhz is not None and self.high_mhz > self.allowed_mhz * (1 + _TOLERANCE)


def clocks_of(present: Present, sku: str, low: Rows, high: Rows) -> Clocks | None:
    """Return the clocks of the rows of two modes; None where no metric tells them apart."""
    gaps = []
    for at, metric in enumerate(present.metrics):
        if metric.aspect != "clock" or metric.better != "higher":
            continue
        mine, others = (_middle(present.logs[rows, at]) for rows in (low, high))
        if mine is not None and others is not None:
            gaps.append((others - mine, metric.metric, float(np.exp(mine)), float(np.exp(others))))
    if not gaps or max(gaps)[0] < _LEAST_GAP:
        return None
    _, name, low_mhz, high_mhz = max(gaps)
    own, boost = _recorded(present, "max_sm_clock_mhz", low), _boost_mhz(sku)
    allowed, by = (own, "their highest clock") if own else (boost, "the datasheet's boost clock")
    return Clocks(
        name, low_mhz, high_mhz, allowed, by,
        _undecided(present, low, high, high_mhz, own, boost),
    )  # fmt: skip


def _undecided(
    present: Present, low: Rows, high: Rows, high_mhz: float, own: float | None, boost: float | None
) -> str | None:
    mine, others = (_recorded(present, "power_limit_w", rows) for rows in (low, high))
    if mine is None or others is None:
        return "no power limit is recorded"
    if mine < others * (1 - _TOLERANCE):
        return "their power limits differ"
    allowed = own or boost
    if allowed is None:
        return "no highest clock is recorded, nor known of the kind"
    if high_mhz <= allowed * (1 + _TOLERANCE):
        return None
    if own is None:
        return "the faster ones run above the datasheet's boost clock"
    if boost is None or own >= boost * (1 - _TOLERANCE):
        return "the faster ones run above the highest clock of the others"
    return None


def _boost_mhz(sku: str) -> float | None:
    row = load().accelerators.get(sku)
    return None if row is None else row.boost_clock_mhz


def _recorded(present: Present, column: str, rows: Rows) -> float | None:
    if column not in present.devices:
        return None
    return _middle(present.devices[column].to_numpy(dtype=float)[rows])


def _middle(values: np.ndarray[Any, np.dtype[np.float64]]) -> float | None:
    told = values[np.isfinite(values)]
    return median_of(told) if 2 * told.size > values.size else None


def of_whole_hosts(present: Present, rows: Rows, low: np.ndarray[Any, np.dtype[np.bool_]]) -> bool:
    """Return whether nearly all of the ``low`` rows stand on hosts that are all in it."""
    hosts = present.devices.host.to_numpy()[rows]
    _, of_host = np.unique(hosts, return_inverse=True)
    sizes, slow = np.bincount(of_host), np.bincount(of_host, weights=low)
    whole = (sizes >= 2) & (slow >= _MOST_OF_A_HOST * sizes)
    return bool(whole[of_host[low]].mean() >= _NEARLY_ALL)
