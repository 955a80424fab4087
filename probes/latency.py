"""The latency probe: how long one load takes that the next one waits for, level by level.

A chain of pointers runs through a footprint in one random cycle, so that neither prefetching nor
parallelism helps: each load's address is the result of the load before it. Small footprints show
the first cache, larger ones the next, and beyond the last cache it is memory. Reported is
nanoseconds per load, and cycles where the device counted its clock meanwhile.

The figure is **not** what a load costs in ordinary code, which has many under way at once, and not
a bandwidth. On a GPU one thread walks: that is no load that would raise its clocks.
"""

from __future__ import annotations

from collections.abc import Iterator

from roofprobe.kernels import chase
from roofprobe.kernels.work import Work
from roofprobe.probes.session import Session
from roofprobe.records.schema import Case, Device, Options

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
