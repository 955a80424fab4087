"""How many copies of an operand go round, so that each launch finds it in memory, not in a cache.

A model's layers have weights and caches of their own: between two uses of the same ones all others
pass through the caches. What goes round here is at least four times the last-level cache, the rule
of McCalpin's STREAM for the size of arrays. What the operation before has just written stays where
it is, as it does in a model.
"""

from __future__ import annotations

from roofprobe.kernels.work import Unsupported

CACHE_MULTIPLE = 4
MOST_SETS = 512  # as many launches as a sample may have: more would not go round


def sets_for(set_bytes: int, cache_bytes: int | None) -> int:
    """Return how many sets of ``set_bytes`` make four times the last-level cache; 1 to 512."""
    wanted = CACHE_MULTIPLE * (cache_bytes or 0)
    return max(1, min(MOST_SETS, -(-wanted // max(1, set_bytes))))


def require_room(needed_bytes: int, limit_bytes: int | None) -> None:
    """Raise ``Unsupported`` (``memory``) where operands of so many bytes may not be taken."""
    if limit_bytes is not None and needed_bytes > limit_bytes:
        raise Unsupported(
            "memory",
            f"the operands need {needed_bytes / 2**30:.1f} GiB and {limit_bytes / 2**30:.1f} GiB "
            "may be used",
            "free memory on the device, or choose a smaller tier",
        )


def sets_within(
    set_bytes: int, cache_bytes: int | None, limit_bytes: int | None, *, beside_bytes: int = 0
) -> int:
    """Return :func:`sets_for`, or as many as fit into ``limit_bytes`` with what lies beside them.

    Raises ``Unsupported`` (``memory``) where not even one fits.
    """
    require_room(set_bytes + beside_bytes, limit_bytes)
    wanted = sets_for(set_bytes, cache_bytes)
    if limit_bytes is None:
        return wanted
    return min(wanted, max(1, (limit_bytes - beside_bytes) // max(1, set_bytes)))
