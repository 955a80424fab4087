"""The memory of a model's matrix products: one input, one output, and weights that go round.

In a model the input of a product has just been written by the operation before, and is still in a
cache if it fits there; the weights were last read a whole step ago. So only B goes round, in as
many copies as exceed four times the last-level cache.
"""

from __future__ import annotations

from collections.abc import Sequence

from roofprobe.kernels.operands import Arena, aligned, item_bytes
from roofprobe.kernels.rotation import sets_for
from roofprobe.kernels.rows import ComputeRow


class WeightArena(Arena):
    """An arena whose sets share A and C and have a B each."""

    @classmethod
    def bytes_for(
        cls, row: ComputeRow, shapes: Sequence[tuple[int, int, int]], cache_bytes: int | None
    ) -> int:
        """Return what an arena for all of ``shapes`` takes, scales not counted."""
        item, result = item_bytes(row)
        inputs = max(m * k for m, _, k in shapes)
        results = max(m * n for m, n, _ in shapes)
        weights = max(n * k * sets_for(int(n * k * item), cache_bytes) for _, n, k in shapes)
        return int((inputs + weights) * item + results * result)

    def sets_wanted(self, shape: tuple[int, int, int]) -> int:
        """Return how many weights of a shape make four times the last-level cache."""
        _, n, k = shape
        return sets_for(int(n * k * item_bytes(self.row)[0]), self._cache_bytes)

    def capacity(self, shape: tuple[int, int, int]) -> int:
        """Return how many weights of this shape fit; 0 where its A or C does not."""
        a, b, c = self._sizes(shape, 1)
        per_byte = 2 if self._packed else 1
        if a > self._a.numel() * per_byte or c > self._out.numel():
            return 0
        return self._b.numel() * per_byte // b

    def _sizes(self, shape: tuple[int, int, int], sets: int) -> tuple[int, int, int]:
        m, n, k = shape
        return aligned(m * k), aligned(n * k) * sets, aligned(m * n)

    def _places(self, index: int) -> tuple[int, int, int]:
        return 0, index, 0
