"""What was measured while others had the processor: such a figure tells of them, not of the device.

It stays in the record with its note. No sentence explains it by anything else, and nothing is
accused or praised on its account.
"""

from __future__ import annotations

from roofprobe.records.schema import NOT_ALONE, Measurement


def is_disturbed(measurement: Measurement) -> bool:
    """Return whether others were at work while it was measured, as its notes tell."""
    return any(note.code == NOT_ALONE for note in measurement.notes)
