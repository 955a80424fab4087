"""What belongs to a run but is not in its record: its calibration, and its validation.

Both follow from the record and are files of their own in a run folder. A renderer is handed them,
so that it neither fits nor reads anything itself; absent, their parts of the report are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.schema import Run

if TYPE_CHECKING:
    from roofprobe.costmodel.calibration_file import CalibrationFile
    from roofprobe.costmodel.validation import Validation

    Read = TypeVar("Read", CalibrationFile, Validation)


@dataclass(frozen=True, slots=True)
class Beside:
    """The calibration that a run gives, and the validation of it, where there are such."""

    calibration: CalibrationFile | None = None
    validation: Validation | None = None


NOTHING = Beside()


def beside_of(folder: Path, run: Run) -> Beside:
    """Return what lies beside the record of ``run`` in its folder, read and checked.

    A file that is absent, damaged, or of another run counts as none: it may be made again from the
    record, and a report without it is whole in all else.
    """
    from roofprobe.costmodel.calibration_file import read_calibration
    from roofprobe.costmodel.validation import read_validation

    return Beside(_read(read_calibration, folder, run), _read(read_validation, folder, run))


def beside_among(documents: Mapping[str, Mapping[str, Any]], run: Run) -> Beside:
    """Return what ``beside_of`` does, from the folder's JSON documents by name."""
    from roofprobe.costmodel.calibration_file import CalibrationFile
    from roofprobe.costmodel.validation import FILE, Validation

    return Beside(
        _taken(CalibrationFile, documents.get("calibration.json"), run),
        _taken(Validation, documents.get(FILE), run),
    )


def _taken(kind: type[Read], document: Mapping[str, Any] | None, run: Run) -> Read | None:
    if document is None:
        return None
    try:
        found = kind.model_validate(document)
    except (ValidationError, RecursionError):
        return None
    return found if found.run_id == run.run_id else None


def _read(reader: Callable[[Path], Read], folder: Path, run: Run) -> Read | None:
    try:
        found = reader(folder)
    except RoofprobeError:
        return None
    return found if found.run_id == run.run_id else None
