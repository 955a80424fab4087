"""How far a row moves from run to run while nothing changed, and so what counts as a change.

The samples of one run share its luck: the clock it got, what neighbours did to the memory bus that
minute, where its arrays came to lie. On a virtual machine with 2 idle cores, streams that scatter
by 1 % within a run were seen 80 % apart in two runs a minute after each other. So a change has to
be larger than a floor, in logarithms of the ratio:

    floor = max(minimum + clock + drift, 3.5 σ)

``minimum`` is the least effect that is ever told, per kind of device and family. ``clock`` is what
the row's own change of clock explains, up to the wander that is usual for such a device; ``drift``
is how far the row moved while it was sampled. σ is the spread between *these* runs, seen in the
other rows of the family: how far the rows of other kinds lie from their common median. Own kind
(the same result line) is left out, so that a single regressed kernel cannot hide in the noise
that it makes. A processor's σ comes from the 90th percentile of the deviations, since some of its
rows are disturbed and others are not; a GPU's from their median, since nobody shares its units.

Rows that move together are proof of another kind: where the whole family moved by at least the
minimum, and its rows scatter around that by less than half of it, a row that lies within 3.5 σ of
the family (and its own interval) counts by ``minimum + clock`` alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from roofprobe.records.disturbed import is_disturbed
from roofprobe.records.schema import Family, Measurement

if TYPE_CHECKING:
    import numpy as np

# The least change of a ratio that is told. A processor shares caches, memory bus and clock budget
# with neighbours: idle, ours wandered by 5 %. GPU figures are starting values, not measured yet;
# nothing under 2 % is ever a verdict. Launches and host links are the host's work on either.
_MINIMUM_CPU = 0.05
_MINIMUM_GPU: dict[Family, float] = {
    "compute": 0.02, "memory": 0.02, "latency": 0.02, "llm": 0.03, "validate": 0.03,
    "launch": 0.05, "interconnect": 0.05,
}  # fmt: skip
# Up to this change of clock is usual between two runs on one device.
_CLOCK_WANDER = {"cpu": 0.06, "gpu": 0.02}
# Percentile of the deviations that σ is taken from, and what it is of a normal distribution's σ.
_SPREAD_AT = {"cpu": (90.0, 1.645), "gpu": (50.0, 0.6745)}
SIGMAS = 3.5
_LEAST_POOL = 8  # rows of other kinds in the family; with fewer, those of the whole device count
_LEAST_DEVICE_POOL = 4
_LEAST_HALVES = 8


@dataclass(frozen=True, slots=True)
class Movement:
    """How one row moved (logarithm of the ratio of medians), and which rows are like it."""

    pair: int
    family: Family
    label: str
    effect: float


@dataclass(frozen=True, slots=True)
class Background:
    """What the rows of other kinds did meanwhile: their common shift, spread, and number."""

    centre: float = 0.0
    sigma: float = 0.0
    n: int = 0

    def moved_together(self, minimum: float, at: float) -> bool:
        """Return whether these rows moved as one; ``at`` σ is where most of them end."""
        return self.n >= _LEAST_POOL and minimum <= abs(self.centre) >= 2 * at * self.sigma


def device_class(backend: str) -> str:
    """Return ``cpu`` or ``gpu``: which constants hold for a backend."""
    return "cpu" if backend == "cpu" else "gpu"


def minimum_effect(backend: str, family: Family) -> float:
    """Return the least change that counts, as a logarithm of the ratio."""
    share = _MINIMUM_CPU if device_class(backend) == "cpu" else _MINIMUM_GPU[family]
    return math.log1p(share)


def spread_at(backend: str) -> float:
    """Return how many σ the percentile that σ is taken from lies out."""
    return _SPREAD_AT[device_class(backend)][1]


def backgrounds(rows: Sequence[Movement], backends: Sequence[str]) -> list[Background]:
    """Return for each row what the rows of other kinds did; ``backends`` are of the pairs."""
    import numpy as np

    effects = np.array([row.effect for row in rows], dtype=np.float64)
    pairs = np.array([row.pair for row in rows])
    families = np.array([row.family for row in rows])
    labels = np.array([row.label for row in rows])
    known: dict[tuple[int, str, str], Background] = {}
    found = []
    for row in rows:
        kind = (row.pair, row.family, row.label)
        if kind not in known:
            device = pairs == row.pair
            others = device & ~((families == row.family) & (labels == row.label))
            near = others & (families == row.family)
            pool = effects[near if near.sum() >= _LEAST_POOL else others]
            known[kind] = _background(pool, backends[row.pair])
        found.append(known[kind])
    return found


def _background(pool: np.ndarray, backend: str) -> Background:
    import numpy as np

    if pool.size < _LEAST_DEVICE_POOL:
        return Background()
    percentile, sigmas = _SPREAD_AT[device_class(backend)]
    centre = float(np.median(pool))
    spread = float(np.percentile(np.abs(pool - centre), percentile))
    return Background(centre, spread / sigmas, int(pool.size))


def clock_allowance(backend: str, effect: float, clock_change: float | None) -> float:
    """Return how much of ``effect`` a usual wander of the clock may explain.

    ``clock_change`` is the logarithm of B's clock over A's; a faster clock explains less time.
    """
    if clock_change is None or effect * clock_change >= 0:
        return 0.0
    return min(abs(clock_change), math.log1p(_CLOCK_WANDER[device_class(backend)]))


def is_crowded(measurements: Sequence[Measurement]) -> bool:
    """Return whether others used what was measured, in any of ``measurements``."""
    return any(map(is_disturbed, measurements))


def drift(samples: np.ndarray, halfwidth: float) -> float:
    """Return how far drift moves the median: half of what parts the halves of ``samples``.

    Only beyond what chance does. ``halfwidth`` is the relative half width of the median's interval;
    a half's is √2 as wide, the difference of two halves twice.
    """
    import numpy as np

    if samples.size < _LEAST_HALVES:
        return 0.0
    middle = samples.size // 2
    first, second = float(np.median(samples[:middle])), float(np.median(samples[middle:]))
    return max(0.0, abs(math.log(second / first)) - 2 * halfwidth) / 2
