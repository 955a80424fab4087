"""Memory latency by pointer chasing: how long one load takes that another one waits for.

Every line of a footprint holds the address of another line, and together they are one random cycle
over all of them. A single thread follows it. Each load needs the result of the one before, so there
is exactly one in flight, and

    latency (ns) = duration of a launch / its accesses

Random order defeats the prefetchers, which would fetch a regular walk ahead of time; one
cycle over all lines means that none is visited twice before all were visited once, so that a cache
smaller than the footprint has evicted a line before it comes round again. The latency against
the footprint is a staircase: one step per cache, then memory. An in-between value just above a
cache's size is a mix of hits and misses and not a level of its own.

What the number is not: the latency under load (other loads queue behind one another; this memory is
idle); the cost of a cache line in a program that has several loads in flight; nor free of address
translation, which grows with the footprint (see ``cpu_chase`` on pages). It includes the load
instruction itself. A GPU's L1 is empty when a kernel starts, so in each launch the first visit to
each line misses: some 3 % of a 128 KiB footprint's figure with the usual number of accesses.
A GPU's clock and memory clock rise only under load: warm them up by something else, since one
thread is no load.

Lines are 64 bytes on CPUs and 128 on GPUs, where one load fetches one sector of 32 bytes of its
line (64 from some memories). Each launch goes on where the last one stopped, so that launches walk
different parts of a large footprint; the caches hold their steady state only after launches have
gone once round it. Bytes are counted as one line per access.

**Exactness.** The position after any number of loads is known from the order in which the lines
were linked. The check reads all links back, which proves the single cycle, then enters the cycle
through a cell outside of it and compares the line where one launch ends. So a launch that does
nothing, follows other links or stops too early is seen, unless it leaves out whole rounds of a
small footprint; the usual number of accesses is no multiple of one.
"""

from __future__ import annotations

from functools import partial
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from roofprobe.kernels import cpu_chase, cpu_team
from roofprobe.kernels.cpu_chase import CpuWalk, Pages
from roofprobe.kernels.cycle import Integers, count_wrong_links, random_order
from roofprobe.kernels.work import Check, Target, Unsupported, Work, without_triton

Cache = Literal["l1", "l2"]

# (footprint up to, bytes; accesses). About 4 ms at 1, 4, 10, 25 and 100 ns on a CPU and at 16, 200
# and 600 ns on a GPU: at least 2 ms where a load takes half of that, at most 50 ms where it takes
# 12 times as long. GPUs get more in L1 than its latency asks for, for the misses at the start.
_USUAL_ACCESSES: dict[str, tuple[tuple[float, int], ...]] = {
    "cpu": (
        (32 << 10, 4_000_000), (1 << 20, 1_000_000), (8 << 20, 400_000), (64 << 20, 160_000),
        (float("inf"), 40_000),
    ),
    "gpu-l1": ((128 << 10, 250_000), (32 << 20, 20_000), (float("inf"), 7_000)),
    "gpu-l2": ((32 << 20, 20_000), (float("inf"), 7_000)),
}  # fmt: skip


class Walk(Protocol):
    """Linked lines and where the thread stands: ``CpuWalk`` or ``GpuWalk``."""

    base: int
    line_bytes: int

    def __call__(self) -> object:
        """Follow the links from where the last call stopped."""

    @property
    def position(self) -> int:
        """Return the address that the next load reads."""

    def enter(self, line: int) -> None:
        """Stand at the entrance, one load ahead of ``line``; no line of the cycle leads here."""

    def links(self) -> NDArray[np.int64]:
        """Return the address that each line holds (lines)."""


def prepare(
    target: Target,
    *,
    footprint_bytes: int,
    seed: int,
    accesses: int | None = None,
    pages: Pages = "default",
    cache: Cache = "l1",
) -> Work:
    """Link all lines of ``footprint_bytes`` into one random cycle and return the walk over it.

    ``accesses`` is rounded up to whole iterations of the unrolled loop; ``Work.accesses`` is the
    number that a launch does. ``pages`` can be chosen on a CPU only, and ``cache``, the nearest one
    that may answer, on a GPU only. Raises ``Unsupported`` with the reason where the device has no
    such walk, and ``ValueError`` for a footprint that is not two or more whole lines.
    """
    unsupported = unavailable(target, pages=pages, cache=cache)
    if unsupported is not None:
        raise unsupported
    line_bytes, loads = _line_and_loop(target)
    lines, rest = divmod(footprint_bytes, line_bytes)
    if rest or lines < 2:
        raise ValueError(
            f"a footprint is two or more whole lines of {line_bytes} bytes, not {footprint_bytes}"
        )
    kind = f"gpu-{cache}" if target.is_gpu else "cpu"
    accesses = whole_iterations(accesses, loads, kind, footprint_bytes)
    order = random_order(lines, seed)
    walk: Walk
    if target.is_gpu:
        from roofprobe.kernels.triton_chase import GpuWalk

        assert target.architecture is not None, target
        walk = gpu_walk = GpuWalk(
            order, accesses, cache=cache, arch=target.architecture, device=target.torch_device
        )
        kernel, assembly = "chase (triton)", gpu_walk.assembly
        conditions: dict[str, int | str | bool | None] = {"cache": cache}
    else:
        walk = cpu_walk = CpuWalk(order, accesses, pages)
        kernel, assembly = f"chase ({cpu_team.machine()})", None
        conditions = {"pages": pages, **cpu_walk.conditions()}
    return Work(
        launches=(walk,),
        flops=0,
        bytes_read=accesses * line_bytes,
        bytes_written=0,
        array_bytes=footprint_bytes,
        check=partial(check, walk, order, accesses),
        kernel=kernel,
        config={"lines": lines, "line_bytes": line_bytes, **conditions},
        assembly=assembly,
        accesses=accesses,
    )


def unavailable(
    target: Target, *, pages: Pages = "default", cache: Cache = "l1"
) -> Unsupported | None:
    """Say why ``target`` has no such walk, or return None when it can be tried."""
    if target.kind == "cpu":
        if cache != "l1":
            return Unsupported("no-cache-choice", "a CPU has no load that goes past its L1 cache")
        return None
    if not target.is_gpu or target.architecture is None:
        return Unsupported(
            "no-triton-target",
            f"Triton kernels are compiled for CUDA and ROCm GPUs; this device is a {target.kind}",
        )
    if pages != "default":
        return Unsupported("no-page-choice", "a GPU's page size is the driver's choice")
    missing = without_triton()
    if missing is not None:
        return missing
    from roofprobe.kernels import triton_chase

    return triton_chase.unavailable(target.architecture)


def access_cycles(work: Work, accesses: int = 4096) -> NDArray[np.int32]:
    """Walk on for ``accesses`` loads and return the cycles of each (accesses), on a GPU.

    They include the reading of the counter. Launch the work before, once round the footprint, so
    that the caches hold what they hold while it is timed. Raises ``Unsupported`` on a CPU.
    """
    walk = work.launches[0]
    if isinstance(walk, CpuWalk):
        raise Unsupported(
            "no-cycle-counter",
            "single accesses are timed on GPUs only: reading a CPU's counter takes longer than a "
            "load from its first caches",
        )
    from roofprobe.kernels.triton_chase import GpuWalk

    assert isinstance(walk, GpuWalk), work.kernel
    return walk.cycles(accesses)


def _line_and_loop(target: Target) -> tuple[int, int]:
    """Return the bytes of a line and the loads of a loop iteration."""
    if target.is_gpu:
        from roofprobe.kernels import triton_chase

        return triton_chase.LINE_BYTES, triton_chase.LOADS_PER_ROUND
    _, loads = cpu_team.chase()
    return cpu_chase.LINE_BYTES, loads


def whole_iterations(accesses: int | None, loads: int, kind: str, footprint_bytes: int) -> int:
    """Return ``accesses`` rounded up to iterations of ``loads``, or the usual number: an odd one.

    Footprints are mostly powers of two; an odd number of iterations is then no number of whole
    rounds, so that a launch ends elsewhere than it began.
    """
    if accesses is not None:
        if accesses < 1:
            raise ValueError(f"a launch does one access or more, not {accesses}")
        return -(-accesses // loads) * loads
    usual = next(count for limit, count in _USUAL_ACCESSES[kind] if footprint_bytes <= limit)
    return (usual // loads | 1) * loads


def check(walk: Walk, order: Integers, accesses: int) -> Check:
    """Compare every link and the line where a launch ends with what the cycle says, exactly."""
    wrong_links = count_wrong_links(order, walk.links(), walk.base, walk.line_bytes)
    problem = None
    wrong_end = 0
    if wrong_links:  # following them could lead anywhere
        problem = f"{wrong_links} of {order.size} links are not those of one cycle over all lines"
    else:
        start = order.size // 3
        walk.enter(int(order[start]))
        walk()
        # The first load leaves the entrance, so one access less is made inside the cycle.
        wanted = int(order[(start + accesses - 1) % order.size])
        if walk.position != walk.base + wanted * walk.line_bytes:
            wrong_end = 1
            problem = (
                f"after {accesses} loads the walk stands {walk.position - walk.base} bytes into "
                f"the array and not {wanted * walk.line_bytes}"
            )
    return Check(
        error=float(wrong_links + wrong_end),
        tolerance=0.0,
        measure="links that differ from the cycle, and the line where the walk ends",
        checked_elements=order.size + 1,
        problem=problem,
    )
