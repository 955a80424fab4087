"""The latency probe: how long one load takes that the next one waits for, level by level.

A chain of pointers runs through a footprint in one random cycle, so that neither prefetching nor
parallelism helps: each load's address is the result of the load before it. Small footprints show
the first cache, larger ones the next, and beyond the last cache it is memory. Reported is
nanoseconds per load, and cycles where the device counted its clock meanwhile.

On a GPU some thousand loads are timed singly as well. The L2 of large GPUs is two partitions, and a
load from the far one takes half as long again: the single loads then fall into two populations,
which the mean of the chain hides.

The figure is **not** what a load costs in ordinary code, which has many under way at once, and not
a bandwidth. On a GPU one thread walks: that is no load that would raise its clocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from roofprobe.kernels import chase
from roofprobe.kernels.work import Target, Work
from roofprobe.probes.session import Session
from roofprobe.records.schema import Case, Device, Options, Population

FAMILY = "latency"
_KIB, _MIB = 1 << 10, 1 << 20
# From well within the first cache to far beyond the last; every doubling is for tier soak.
_CPU_FOOTPRINTS = (
    16 * _KIB, 128 * _KIB, 512 * _KIB, 4 * _MIB, 16 * _MIB, 64 * _MIB, 256 * _MIB,
)  # fmt: skip
_GPU_FOOTPRINTS = (
    16 * _KIB, 64 * _KIB, 512 * _KIB, 4 * _MIB, 16 * _MIB, 32 * _MIB, 64 * _MIB, 128 * _MIB,
    512 * _MIB, 1024 * _MIB,
)  # fmt: skip
_FIRST_CACHE_BYTES = 128 * _KIB  # of a GPU: loads of larger footprints skip it
_SINGLE_LOADS = 8192
# Two groups are told apart if each has a twentieth of the loads, the middle of the slower one is a
# seventh above that of the faster, and both are narrow beside their distance. A refresh of the
# memory or an interrupt holds up single loads: the outermost 1 % on each side belong to no group.
_LEAST_SHARE, _LEAST_RATIO, _LEAST_SEPARATION, _TAIL = 0.05, 1.15, 4.0, 0.01
_WALK_NS = 200  # per line, to walk once round a footprint before anything is timed


def cases(device: Device, options: Options) -> Iterator[Case]:
    """Yield the footprints, smallest first; on a CPU at tier soak in huge pages too."""
    on_cpu = device.backend == "cpu"
    footprints: tuple[int, ...] = _CPU_FOOTPRINTS if on_cpu else _GPU_FOOTPRINTS
    if options.tier == "quick":
        footprints = (footprints[0], footprints[-1])
    pages = ("default", "huge") if on_cpu and options.tier == "soak" else ("default",)
    for page in pages:
        for footprint in footprints:
            cache = "l1" if on_cpu or footprint <= _FIRST_CACHE_BYTES else "l2"
            yield Case(
                case_id=f"chase/{cache}/{page}/{footprint}",
                family="latency",
                op="chase",
                precision="none",
                route="chase",
                shape={"footprint_bytes": footprint},
                config=f"{cache}, {page} pages",
            )


def warmup_s(case: Case) -> float:
    """Return the seconds in which even a slow memory has been walked round once."""
    lines = case.shape["footprint_bytes"] / 64
    return min(2.0, 0.02 + lines * _WALK_NS * 1e-9)


def prepare(case: Case, session: Session) -> Work:
    """Make the chain of ``case``; raises ``Unsupported`` with the reason where there is none."""
    cache, pages = (case.config or "l1, default pages").split(", ")
    return chase.prepare(
        session.target,
        footprint_bytes=case.shape["footprint_bytes"],
        seed=session.seed,
        cache="l2" if cache == "l2" else "l1",
        pages="huge" if pages.startswith("huge") else "default",
    )


def single_loads(work: Work, target: Target, loads: int = _SINGLE_LOADS) -> tuple[Population, ...]:
    """Time single loads of a chase that has been walked, on a GPU; empty on a processor."""
    return populations(chase.access_cycles(work, loads)) if target.is_gpu else ()


def populations(cycles: NDArray[np.int32]) -> tuple[Population, ...]:
    """Return the one or two groups that ``cycles`` (loads,) fall into, the faster first.

    The cut is Otsu's: where the variance between both sides is greatest (IEEE Transactions on
    Systems, Man, and Cybernetics 9 (1979) 62). Where it parts nothing that is apart, there is one.
    """
    ordered = np.sort(cycles.astype(np.float64))
    tail = int(ordered.size * _TAIL)
    kept = ordered[tail : ordered.size - tail]
    if kept.size == 0:
        return ()
    left = np.arange(1, kept.size)
    sums = np.cumsum(kept)
    means = sums[:-1] / left, (sums[-1] - sums[:-1]) / (kept.size - left)
    between = left * (kept.size - left) * (means[1] - means[0]) ** 2
    if kept.size > 1:
        cut = int(np.argmax(between)) + 1
        parts = kept[:cut], kept[cut:]
        if _are_apart(*parts):
            return tuple(_population(part, part.size / kept.size) for part in parts)
    return (_population(kept, 1.0),)


def _are_apart(fast: NDArray[np.float64], slow: NDArray[np.float64]) -> bool:
    whole = fast.size + slow.size
    if min(fast.size, slow.size) < _LEAST_SHARE * whole:
        return False
    middle = np.median(fast), np.median(slow)
    within = (fast.std() * fast.size + slow.std() * slow.size) / whole
    return bool(
        middle[1] >= _LEAST_RATIO * middle[0]
        and middle[1] - middle[0] >= _LEAST_SEPARATION * within
    )


def _population(cycles: NDArray[np.float64], share: float) -> Population:
    p10, median, p90 = (float(value) for value in np.percentile(cycles, (10, 50, 90)))
    return Population(share=round(share, 4), cycles_p10=p10, cycles_median=median, cycles_p90=p90)
