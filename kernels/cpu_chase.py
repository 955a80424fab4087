"""A linked buffer in the processor's memory, and one thread that follows the links.

The links are absolute addresses, so that one plain load is all there is between two lines: no
address is computed, and the load-to-use latency of the first cache is seen as it is (4 or 5 cycles
on current cores).

**Pages.** Every load also needs its page's translation. With pages of 4 KiB the second-level TLB
covers some 6 to 16 MiB; beyond that each access of a random walk adds a page-table walk, and the
figure is that of memory plus translation, as a program with ordinary pages sees it. Pages of 2 MiB
multiply the reach by up to 512. They are asked for (``MADV_HUGEPAGE``) and may be refused or
granted in part, and a system may give them unasked, so what the mapping really holds is read back
from ``/proc/self/smaps``.

The walk runs in the thread that launches it, wherever the scheduler has put it. On a host with
several memory nodes it sees local memory only if that thread stays on the node where it prepared.
"""

from __future__ import annotations

import contextlib
import mmap
import re
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from roofprobe.kernels import cpu_team
from roofprobe.kernels.cycle import Integers, links

Pages = Literal["default", "huge"]

LINE_BYTES = 64
HUGE_PAGE_BYTES = 2 << 20
_WORD_BYTES = 8


class CpuWalk:
    """The lines of a footprint linked into a cycle; each call follows ``accesses`` links."""

    def __init__(self, order: Integers, accesses: int, pages: Pages) -> None:
        """Map the buffer, link its lines in ``order`` and stand at the first one."""
        self.line_bytes = LINE_BYTES
        self._loop, loads = cpu_team.chase()
        assert accesses % loads == 0, (accesses, loads)
        self._iterations = accesses // loads
        self._buffer = PageBuffer(order.size * LINE_BYTES, pages)
        self.base = self._buffer.address
        # One line of its own: the position, and the entrance in front of the cycle.
        self._state = np.zeros(16, dtype=np.int64)
        self._first_words()[:] = links(order, self.base, LINE_BYTES)
        self._state[0] = self.base + LINE_BYTES * int(order[0])

    def __call__(self) -> None:
        """Follow the links from where the last call stopped."""
        self._loop(int(self._state.ctypes.data), self._iterations)

    @property
    def position(self) -> int:
        """Return the address that the next load reads."""
        return int(self._state[0])

    def enter(self, line: int) -> None:
        """Stand at the entrance, one load ahead of ``line``; no line of the cycle leads here."""
        self._state[8] = self.base + LINE_BYTES * line
        self._state[0] = int(self._state[8:].ctypes.data)

    def links(self) -> NDArray[np.int64]:
        """Return the address that each line holds (lines)."""
        return self._first_words().copy()

    def conditions(self) -> dict[str, int | str | bool | None]:
        """Return what the latency depends on beside the footprint: the pages."""
        huge = self._buffer.huge_bytes()
        return {
            "page_bytes": mmap.PAGESIZE,
            "huge_page_bytes": huge,
            "huge_pages_granted": None if huge is None else huge >= self._buffer.mapped_bytes,
        }

    def _first_words(self) -> NDArray[np.int64]:
        words = self._buffer.bytes.view(np.int64).reshape(-1, LINE_BYTES // _WORD_BYTES)
        first: NDArray[np.int64] = words[:, 0]
        return first


class PageBuffer:
    """Zeroed memory that starts on a huge page's boundary and is a mapping of its own.

    ``bytes`` is what was asked for; with huge pages the mapping is rounded up to whole ones.
    """

    def __init__(self, size_bytes: int, pages: Pages) -> None:
        """Map ``size_bytes`` and ask for ``pages``; no page is touched yet."""
        unit = HUGE_PAGE_BYTES if pages == "huge" else mmap.PAGESIZE
        self.mapped_bytes = -(-size_bytes // unit) * unit
        # Room to align, and at least one page on either side that is never touched.
        self._map = mmap.mmap(
            -1,
            self.mapped_bytes + 2 * HUGE_PAGE_BYTES,
            flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
        )
        everything = np.frombuffer(self._map, dtype=np.uint8)
        start = int(everything.ctypes.data)
        offset = -(start + mmap.PAGESIZE) % HUGE_PAGE_BYTES + mmap.PAGESIZE
        self.address = start + offset
        self.bytes: NDArray[np.uint8] = everything[offset:][:size_bytes]
        # Linux joins neighbouring mappings of the same kind. One that is left out of core dumps,
        # which nobody would miss there, stays apart, and smaps counts its pages alone.
        self._advise(mmap.MADV_DONTDUMP, offset)
        if pages == "huge":
            self._advise(mmap.MADV_HUGEPAGE, offset)

    def huge_bytes(self) -> int | None:
        """Return how much of the mapping lies on huge pages; None where Linux does not say."""
        try:
            text = Path("/proc/self/smaps").read_text()
        except OSError:
            return None
        return anonymous_huge_bytes(text, self.address)

    def _advise(self, advice: int, offset: int) -> None:
        with contextlib.suppress(OSError):  # a kernel built without it; the pages are read back
            self._map.madvise(advice, offset, self.mapped_bytes)


def anonymous_huge_bytes(smaps: str, address: int) -> int | None:
    """Return ``AnonHugePages`` of the mapping that starts at ``address``, in bytes."""
    mapping = re.search(
        rf"^0*{address:x}-[0-9a-f]+ (?:.*\n)(?:[A-Z]\w+:.*\n)*?AnonHugePages:\s*(\d+) kB",
        smaps,
        re.MULTILINE,
    )
    return int(mapping[1]) * 1024 if mapping else None
