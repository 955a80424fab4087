"""All tables of a planner's folder read together, one group per operation and kernel.

A table that cannot be read is left out and told; the others count.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from roofprobe.costmodel.op_tables import Table, read_file, read_table
from roofprobe.costmodel.points import Points
from roofprobe.costmodel.table_folders import tables_below
from roofprobe.records.errors import RoofprobeError


def read_tables(path: Path, *, gpu: str | None = None) -> Table:
    """Read an op table, or all of a planner's folder (`table_folders`); see `read_table`.

    Raises ``RoofprobeError`` (``no-tables``) and what `read_table` raises.
    """
    if not path.is_dir():
        return read_table(path, gpu=gpu)
    files, notes = tables_below(path)
    points: list[Points] = []
    first: RoofprobeError | None = None
    for file in files:
        try:
            table = read_file(file, gpu)
        except RoofprobeError as error:
            first = first or error
            notes.append(f"left out: {error.sentence}")
            continue
        points += table.points
        notes += table.notes
    if first is not None and not points:
        raise first
    return Table(merged(points), tuple(dict.fromkeys(notes)))


def merged(points: Sequence[Points]) -> tuple[Points, ...]:
    """Return one group per operation, precision, GPU and kernel, over all files; keys stay unique.

    Of a shape that two files have, the first counts.
    """
    groups: dict[tuple[str | None, ...], list[Points]] = {}
    for one in points:
        key = (one.op, one.precision, one.kv_precision, one.device, one.framework, one.kernel)
        groups.setdefault(key, []).append(one)
    return tuple(found[0] if len(found) == 1 else _together(found) for found in groups.values())


def _together(found: Sequence[Points]) -> Points:
    first = found[0]
    shape = {name: np.concatenate([one.shape[name] for one in found]) for name in first.shape}
    keys = np.stack(list(shape.values()), 1)
    _, rows = np.unique(keys, axis=0, return_index=True)
    rows = np.sort(rows)
    parts = [one.source.split("/") for one in found]
    alike = [words[0] for words in zip(*parts, strict=False) if len(set(words)) == 1]
    return Points(
        first.op, first.precision, first.kv_precision, first.device, first.framework, first.kernel,
        "/".join(alike) or f"{len(found)} files",
        {name: values[rows] for name, values in shape.items()},
        np.concatenate([one.latency_s for one in found])[rows],
    )  # fmt: skip
