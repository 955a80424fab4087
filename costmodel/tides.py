"""Tides: how many copies of a system a day needs when the load rises and falls.

A load profile is requests per second by hour (any number of equal slots). Each slot needs whole
copies; a system that cannot shrink keeps the most that any slot needs. What it then holds idle is
what scaling with the tide saves, less the cold starts: a copy that comes up in a slot is paid for
while it loads its weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from roofprobe.costmodel.sizing import copies_for_load
from roofprobe.records.errors import RoofprobeError

_DAY_S = 86_400.0


@dataclass(frozen=True, slots=True)
class Tide:
    """Copies by slot of a day, and GPU-hours fixed at the peak and following the load."""

    copies: tuple[int, ...]
    peak_copies: int
    fixed_gpu_hours: float
    following_gpu_hours: float

    @property
    def saved_share(self) -> float:
        """The share of GPU-hours that following the load saves."""
        return 1 - self.following_gpu_hours / self.fixed_gpu_hours


def tide(
    requests_per_second: Sequence[float],
    *,
    copy_requests_per_second: float,
    gpus_per_copy: int,
    cold_start_s: float = 0.0,
    least_copies: int = 1,
) -> Tide:
    """Return the copies that a day's profile needs; the profile repeats.

    ``copy_requests_per_second`` is what one copy serves (`plan`'s ``requests_per_second``). Raises
    ``RoofprobeError`` (``bad-profile``) for loads that are no numbers from 0.
    """
    if not requests_per_second or not all(
        math.isfinite(load) and load >= 0 for load in requests_per_second
    ):
        raise RoofprobeError(
            "bad-profile", "A load profile must be requests per second from 0, at least one slot."
        )
    copies = tuple(
        max(
            least_copies,
            copies_for_load(copy_requests_per_second, 1.0, wanted_requests_per_second=load),
        )
        for load in requests_per_second
    )
    slot_s = _DAY_S / len(copies)
    started = sum(
        max(0, now - before) for before, now in zip((copies[-1], *copies), copies, strict=False)
    )
    hours = gpus_per_copy / 3600
    return Tide(
        copies=copies,
        peak_copies=max(copies),
        fixed_gpu_hours=max(copies) * _DAY_S * hours,
        following_gpu_hours=(sum(copies) * slot_s + started * cold_start_s) * hours,
    )
