"""Folders of op tables, as planners keep them: which files are tables, and what their paths tell.

**aiconfigurator** (``systems/``, one of its system's folders, or any folder below):
``data/<system>/<kind>/<framework>/<version>/<table>.parquet``. The latency of these files is in
milliseconds though their column says only ``latency``; sizes of messages are in elements.

**InferSim** (``bench_data/`` or the folder above it): ``gemm/<device>/data.csv``,
``{mha,mla}/{prefill,decode}/<device>/<heads>-….csv``, ``grouped_gemm/{prefill,decode}/<device>/``
``data.csv``; the operation, the device and the head geometry are in the path alone.

A table that is known but not modelled (modules that contain their projections, dispatch, sparse
attention) is left out, and told.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from roofprobe.records.errors import RoofprobeError

# aiconfigurator's tables that are read.
AIC_TABLES: Final = (
    "gemm_perf", "context_attention_perf", "generation_attention_perf", "moe_perf",
    "custom_allreduce_perf", "nccl_perf",
)  # fmt: skip
_BENCH: Final = ("gemm", "grouped_gemm", "mha", "mla")
_MOST_FILES: Final = 20_000
_MOST_ENTRIES: Final = 500_000  # of all kinds; a folder with more is no planner's


@dataclass(frozen=True, slots=True)
class TableFile:
    """A table with the columns that its path stands for (where the file has none of that name)."""

    path: Path
    columns: Mapping[str, str] = field(default_factory=dict)
    latency: str | None = None


def tables_below(folder: Path) -> tuple[list[TableFile], list[str]]:
    """Return the tables of a folder, and a sentence about those that are not modelled.

    Raises ``RoofprobeError`` (``no-tables``) where the folder has none.
    """
    found: list[TableFile] = []
    others: set[str] = set()
    for path in sorted(_files(folder)):
        if path.suffix == ".parquet":
            if path.stem in AIC_TABLES:
                found.append(table_file(path))
            elif path.stem.endswith("_perf"):
                others.add(path.stem)
        elif (columns := _bench_columns(path)) is not None:
            found.append(TableFile(path, columns))
    if not found:
        raise RoofprobeError(
            "no-tables",
            f"{folder} is neither a run nor a folder of op tables: it has no run.json, no "
            f"aiconfigurator table ({', '.join(AIC_TABLES)}.parquet) and no bench_data of InferSim",
        )
    notes = []
    if others:
        notes.append(f"{folder.name}: tables of kinds not modelled ({', '.join(sorted(others))})")
    return found, notes


def _files(folder: Path) -> list[Path]:
    """Return the CSV and Parquet files below a folder; links to folders are not followed.

    Raises ``RoofprobeError`` (``no-tables``) for a folder that is too large to be one of tables.
    """
    found: list[Path] = []
    entries = 0
    for root, folders, names in os.walk(folder):
        entries += len(folders) + len(names)
        found += [Path(root, name) for name in names if name.endswith((".parquet", ".csv"))]
        if entries > _MOST_ENTRIES or len(found) > _MOST_FILES:
            raise RoofprobeError(
                "no-tables",
                f"{folder} has more than {_MOST_FILES:,} tables or {_MOST_ENTRIES:,} files, which "
                "no planner's folder has; name the folder with the tables",
            )
    return found


def table_file(path: Path) -> TableFile:
    """Return a table named by its file: aiconfigurator's have their unit and system in the path."""
    if path.stem not in AIC_TABLES:
        return TableFile(path)
    parts = path.resolve().parts
    columns = {"source": "/".join(parts[-6:])}
    if "data" in parts[:-1]:
        columns["system"] = parts[len(parts) - 1 - parts[::-1].index("data") + 1]
    return TableFile(path, columns, latency="latency_ms")


def _bench_columns(path: Path) -> dict[str, str] | None:
    """Return what the path of an InferSim table tells, or None where it is none."""
    parts = path.parts
    for kind in _BENCH:
        if kind not in parts[:-1]:
            continue
        at = len(parts) - 1 - parts[::-1].index(kind)
        rest = parts[at + 1 : -1]
        phase = () if kind == "gemm" else rest[:1]
        if len(rest) != len(phase) + 1 or (phase and phase[0] not in ("prefill", "decode")):
            continue
        columns = {"table": "/".join((kind, *phase)), "system": rest[-1],
                   "source": "/".join(parts[at:])}  # fmt: skip
        if path.stem != "data":
            columns["shape_key"] = path.stem
        return columns
    return None
