"""The notes of a measurement as they are told now, whatever older records hold.

Two notes were once written that say less than they seem: how well a time is known beside a table of
rates, and what a cache may keep of arrays that are small on purpose.
"""

from __future__ import annotations

from typing import Final

from roofprobe.records.noise import noise_retold
from roofprobe.records.schema import Case, Measurement, Note

CACHE_RESIDUE: Final = "cache-residue"  # the code of the note that a cache may keep what is moved


def is_sized_for_caches(case: Case) -> bool:
    """Say whether a stream's size is one of those by which caches are measured on purpose."""
    return case.role == "curve" or case.level is not None


def notes_of(m: Measurement) -> tuple[Note, ...]:
    """Return the notes that hold of what is shown of a measurement."""
    on_purpose = is_sized_for_caches(m.case)
    return tuple(
        note for note in noise_retold(m).notes if not (on_purpose and note.code == CACHE_RESIDUE)
    )
