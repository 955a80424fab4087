"""One random cycle over the lines of an array, as links from line to line.

A random permutation read as a cycle, each line leading to the one after it, is what Sattolo's
algorithm draws: one of the (lines − 1)! cycles over all lines, each with the same chance. A random
*mapping* of lines to lines would not do: it falls into several cycles, and a walk would stay in
one of unknown length.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.integer]


def random_order(lines: int, seed: int) -> Integers:
    """Return the lines in the order of a random cycle (lines); the last one leads to the first."""
    order: Integers = np.arange(lines, dtype=np.int32 if lines <= 2**31 else np.int64)
    np.random.default_rng(seed).shuffle(order)
    return order


def links(order: Integers, base: int, line_bytes: int) -> NDArray[np.int64]:
    """Return the address that each line of an array at ``base`` must hold (lines)."""
    addresses = np.empty(order.size, dtype=np.int64)
    addresses[order] = _following(order, base, line_bytes)
    return addresses


def count_wrong_links(order: Integers, found: NDArray[np.int64], base: int, line_bytes: int) -> int:
    """Return how many lines do not lead to their successor, or are not exactly once in ``order``.

    None means one cycle over all lines: each is in the order once, and leads to the next in it.
    """
    visits = np.bincount(order, minlength=order.size)
    wrong = found[order] != _following(order, base, line_bytes)
    return int((visits != 1).sum() + wrong.sum())


def _following(order: Integers, base: int, line_bytes: int) -> NDArray[np.int64]:
    """Return the address of the line after each one of ``order``."""
    following: NDArray[np.int64] = np.roll(order, -1).astype(np.int64)
    following *= line_bytes
    following += base
    return following
