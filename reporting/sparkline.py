"""A row of figures as one line of signs, for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Final

BLOCKS: Final = "▁▂▃▄▅▆▇█"
ASCII: Final = "_.-~=+*#"
LEAST_SPAN: Final = 0.05  # of the middle: noise of a percent must not look like a mountain


def sparkline(values: Sequence[float], *, width: int = 24, encoding: str = "utf-8") -> str:
    """Return one sign per value, lowest to highest; of more than ``width`` values, group medians.

    The scale spans the values, and at least 5 % of their middle, so that equal values are level.
    """
    if not values:
        return ""
    shown = list(values)
    if len(shown) > width:
        edges = [len(shown) * step // width for step in range(width + 1)]
        groups = (sorted(shown[a:b]) for a, b in pairwise(edges))
        shown = [group[len(group) // 2] for group in groups]
    low, high = min(shown), max(shown)
    middle = (low + high) / 2
    span = max(high - low, abs(middle) * LEAST_SPAN) or 1.0
    signs = BLOCKS if _writes(BLOCKS, encoding) else ASCII
    bottom = middle - span / 2
    return "".join(
        signs[min(len(signs) - 1, max(0, int((value - bottom) / span * len(signs))))]
        for value in shown
    )


def _writes(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True
