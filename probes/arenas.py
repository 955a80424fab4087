"""The operands' memory of the compute probe: one arena at a time, kept from case to case.

Allocating and filling costs more than most measurements. Cases of one row follow each other, so the
last arena is kept and serves every shape that fits into it with enough sets of buffers; whoever
needs the memory for something else asks for it to be dropped first.
"""

from __future__ import annotations

from collections.abc import Callable

from roofprobe.kernels.operands import Arena
from roofprobe.kernels.rows import ComputeRow
from roofprobe.kernels.work import Target

Shape = tuple[int, int, int]
_SHARE_OF_FREE = 1 / 3
WORTH_RELEASING_BYTES = 64 << 20  # below: collecting garbage takes a tenth of a second


class Arenas:
    """Keeps the last arena; ``free_bytes`` and ``release`` are the device's."""

    def __init__(self, free_bytes: Callable[[], int | None], release: Callable[[], None]) -> None:
        """Hold nothing yet."""
        self._free_bytes = free_bytes
        self._release = release
        self._arena: Arena | None = None
        self._key: tuple[object, ...] = ()

    def get(
        self,
        row: ComputeRow,
        target: Target,
        shapes: tuple[Shape, ...],
        *,
        cache_bytes: int | None,
        pattern: str,
        seed: int,
        limit_bytes: int | None = None,
        kind: type[Arena] = Arena,
    ) -> Arena:
        """Return an arena that holds ``shapes``, a new one where the last does not.

        A new one may use ``limit_bytes``, or a third of the free memory where none are given;
        ``kind`` says what goes round in it.
        Raises ``Unsupported`` (``memory``) when that is too little for one set.
        """
        key = (kind, row.name, target, cache_bytes, pattern, seed)
        if self._arena is not None and key == self._key and self._holds(shapes):
            return self._arena
        self.drop()
        self._arena = kind(
            row,
            target,
            shapes,
            cache_bytes=cache_bytes,
            limit_bytes=self.share() if limit_bytes is None else limit_bytes,
            pattern=pattern,
            seed=seed,
        )
        self._key = key
        return self._arena

    def room(self) -> int | None:
        """Give all memory back and return the bytes that the next arena may use, if known.

        Who chooses shapes by the memory asks here first: what is free while an old arena is kept
        depends on what ran before.
        """
        self._arena = None
        self._release()
        return self.share()

    def share(self) -> int | None:
        """Return the bytes that a new arena may use, if the free memory is told."""
        free = self._free_bytes()
        return None if free is None else int(free * _SHARE_OF_FREE)

    def drop(self) -> None:
        """Give the memory back to the device; a small arena's goes back by itself."""
        large = self._arena is not None and self._arena.nbytes > WORTH_RELEASING_BYTES
        self._arena = None
        if large:
            self._release()

    def _holds(self, shapes: tuple[Shape, ...]) -> bool:
        arena = self._arena
        assert arena is not None
        return all(
            arena.capacity(shape) >= min(arena.limit_sets, arena.sets_wanted(shape))
            for shape in shapes
        )
