"""Which measurements others disturbed: every page and every verdict counts them here.

A case that was skipped or failed has no figure that could be wrong, so it is none of those among
which the disturbed are counted. Such a figure tells of others, not of the device: it stays in the
record with its note, no sentence explains it by anything else, and nothing is accused or praised
on its account.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from roofprobe.records.schema import NOT_ALONE, Measurement


@dataclass(frozen=True, slots=True)
class Disturbed:
    """The measurements during which others used what was measured, of so many with a figure."""

    members: tuple[Measurement, ...]
    measured: int

    def __len__(self) -> int:
        """Return how many were disturbed."""
        return len(self.members)


def is_disturbed(measurement: Measurement) -> bool:
    """Say whether others used what was measured while this was measured."""
    return any(note.code == NOT_ALONE for note in measurement.notes)


def disturbed_of(measurements: Iterable[Measurement]) -> Disturbed:
    """Return those of the valid ``measurements`` that others disturbed."""
    valid = [m for m in measurements if m.status == "ok"]
    return Disturbed(tuple(m for m in valid if is_disturbed(m)), len(valid))


def share_taken(measurement: Measurement) -> float | None:
    """Return the share that others took; infinite where the note has no figure, None without."""
    shares = [n.figures.get("share", math.inf) for n in measurement.notes if n.code == NOT_ALONE]
    return max(shares, default=None)
