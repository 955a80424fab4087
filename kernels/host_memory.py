"""Host memory for transfers: where its pages lie, and whether the driver may reach it directly.

A page of memory belongs to the NUMA node of the CPU that first writes to it. A buffer beside a GPU,
or far from it, is therefore made by a thread that stays on CPUs of the wanted node while it touches
the pages. The pages are fresh from the system: an allocator would hand out old ones, placed by
whoever had them before. Only then are they pinned, which keeps them where they are and lets the
GPU's copy engine read them without a detour. Pageable memory goes through a buffer of the driver's
and is copied twice; what that reaches says as much about the host's cores as about the link.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from roofprobe.kernels.work import Unsupported

Pin = Callable[[int, int], Callable[[], object]]
"""Pins (address, size) for the device and returns what undoes it."""
PagesOn = Callable[[int], Mapping[int, int]]
"""Tells how many pages of the mapping at an address lie on which node; empty when untold."""

_PLACED_SHARE = 0.95
_TOUCHED = 0xA5


@dataclass(frozen=True, slots=True)
class Place:
    """A place for host memory: ``near`` or ``far`` from a device, by its node's CPUs.

    Without CPUs nothing is bound and the system chooses.
    """

    name: str = "any"
    node: int | None = None
    cpus: frozenset[int] = frozenset()


ANYWHERE = Place()


@contextmanager
def on_cpus(cpus: frozenset[int]) -> Iterator[None]:
    """Keep the calling thread on ``cpus``, then give it back those it had; empty binds nothing.

    Other threads of the process stay where they are. Raises ``Unsupported`` where the process may
    use none of them (a container's CPU set).
    """
    if not cpus:
        yield
        return
    before = os.sched_getaffinity(0)
    usable = cpus & before
    if not usable:
        raise Unsupported(
            "numa-cpus",
            "this process may run on none of the CPUs of the wanted NUMA node",
            "start it with the CPUs of all nodes",
        )
    os.sched_setaffinity(0, usable)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


class HostBuffer:
    """Bytes of host memory at a place; ``tensor`` is uint8 and lives as long as this object.

    Whoever launches with the tensor keeps the buffer: when it goes, its memory is unpinned.
    """

    def __init__(
        self,
        size_bytes: int,
        place: Place = ANYWHERE,
        pin: Pin | None = None,
        pages_on: PagesOn | None = None,
    ) -> None:
        """Map, touch and pin ``size_bytes``; raises ``Unsupported`` where that does not succeed."""
        import torch

        pages = mmap.mmap(-1, size_bytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # Also keeps the system from joining this mapping with others, whose pages lie elsewhere.
        pages.madvise(mmap.MADV_DONTDUMP)
        self.tensor = torch.frombuffer(pages, dtype=torch.uint8)
        address = self.tensor.data_ptr()
        with on_cpus(place.cpus):
            ctypes.memset(address, _TOUCHED, size_bytes)
            unpin = pin(address, size_bytes) if pin is not None else None
        if unpin is not None:
            weakref.finalize(self, unpin)
        if place.node is not None and pages_on is not None:
            _expect_pages(pages_on(address), place.node)


def _expect_pages(counted: Mapping[int, int], node: int) -> None:
    total = sum(counted.values())
    share = counted.get(node, 0) / total if total else 1.0
    if share < _PLACED_SHARE:
        raise Unsupported(
            "numa-placement",
            f"only {share:.0%} of the pages came to lie on NUMA node {node}",
            "free memory on that node, or lift the process's memory policy",
        )
