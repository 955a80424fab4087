"""How the 4-bit integer tensor instructions lay their operands over the lanes of a warp.

PTX ISA, "Matrix fragments for mma.m16n8k64" and "… for mma.m8n8k32": lane l holds row l div 4 of
A, and eight consecutive numbers of it that begin at 8 · (l mod 4), the first in the lowest bits of
a 32-bit register. Of B it holds the column l div 4 in the same way. The larger instruction has
further registers: rows 8 further down, and numbers 32 further along k. Of C a lane holds row
l div 4 and the columns 2 · (l mod 4) and the next; the larger instruction also the row 8 further
down.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

LANES = 32
Integers = NDArray[np.int64]


def pack_a(values: Integers) -> NDArray[np.int32]:
    """Return A (8 or 16 rows, k of 32 or 64), −8 to 7, as (registers, 32 lanes)."""
    words = _words(values)  # (row group, k half, lane)
    return words.transpose(1, 0, 2).reshape(-1, LANES)


def pack_b(values: Integers) -> NDArray[np.int32]:
    """Return B (columns, k of 32 or 64) as (registers, 32 lanes), 8 columns per instruction."""
    return _words(values).reshape(-1, LANES)


def lane_sums(tile: Integers) -> Integers:
    """Return the sum of all accumulators of each lane (32,) for C (8 or 16 rows, columns)."""
    rows, columns = tile.shape
    by_lane = tile.reshape(rows // 8, 8, columns // 8, 4, 2)
    return np.asarray(by_lane.sum(axis=(0, 2, 4)).reshape(LANES))


def _words(values: Integers) -> NDArray[np.int32]:
    rows, k = values.shape
    eights = (values & 0xF).reshape(rows // 8, 8, k // 32, 4, 8)
    words = (eights << (4 * np.arange(8))).sum(axis=-1)  # (row group, row, k half, eight)
    by_lane = words.transpose(0, 2, 1, 3).reshape(rows // 8, k // 32, LANES)
    return np.asarray(by_lane.astype(np.uint32).view(np.int32))
