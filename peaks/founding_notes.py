"""The founding notes' table of ten accelerators, cell by cell, beside the catalogue.

The project began with a table 常见卡型参数 ("parameters of common cards"). It is kept verbatim:
where it differs from the catalogue both figures are shown, with what is known about the difference.
The founding notes are never the only source of a catalogue peak.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Final

from roofprobe.peaks.sources import CatalogueError, read_data

VERDICTS: Final = (
    "same",
    "same-rounded",
    "same-coarser",
    "differs",
    "unconfirmed",
    "notes-blank",
    "both-blank",
)
_FILE: Final = "founding_notes.toml"


@dataclass(frozen=True, slots=True)
class FoundingCell:
    """One cell: its row as titled there, our field or peak key, the text, and how it compares."""

    row: str
    field: str
    verbatim: str
    verdict: str
    remark: str = ""


@dataclass(frozen=True, slots=True)
class FoundingColumn:
    """One column of the table and the catalogue row that it describes."""

    title: str
    accelerator_key: str
    cells: tuple[FoundingCell, ...]

    def cell(self, row: str) -> FoundingCell:
        """The cell of a row title; raises `KeyError`."""
        for cell in self.cells:
            if cell.row == row:
                return cell
        raise KeyError(row)


@functools.cache
def founding_columns() -> dict[str, FoundingColumn]:
    """The ten columns by title; raises `CatalogueError` if the file is malformed."""
    data = read_data(_FILE)
    columns: dict[str, FoundingColumn] = {}
    for title, column in data["column"].items():
        cells = []
        for row, field in data["rows"].items():
            cell = column["cells"].get(row)
            if not isinstance(cell, list) or len(cell) not in (2, 3) or cell[1] not in VERDICTS:
                raise CatalogueError(_FILE, f"{title}.{row}", "must be [verbatim, verdict, remark]")
            cells.append(FoundingCell(row, field, *cell))
        columns[title] = FoundingColumn(title, column["accelerator"], tuple(cells))
    return columns


def founding_column_of(accelerator_key: str) -> FoundingColumn | None:
    """The column that describes a catalogue row, or None."""
    for column in founding_columns().values():
        if column.accelerator_key == accelerator_key:
            return column
    return None
