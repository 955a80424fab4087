"""What belongs to a run but is not in its record: its calibration, and its validation.

Both follow from the record and are files of their own in a run folder. A renderer is handed them,
so that it neither fits nor reads anything itself; absent, their parts of the report are left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roofprobe.costmodel.calibration_file import CalibrationFile
    from roofprobe.costmodel.validation import Validation


@dataclass(frozen=True, slots=True)
class Beside:
    """The calibration that a run gives, and the validation of it, where there are such."""

    calibration: CalibrationFile | None = None
    validation: Validation | None = None


NOTHING = Beside()
