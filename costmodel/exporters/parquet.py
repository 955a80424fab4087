"""Parquet with the types that a strict reader wants: text, 64-bit integers, 64-bit floats."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

# The word of a column's kind → DuckDB's type, which is Parquet's string, INT64, DOUBLE.
TYPES: Final = {"text": "VARCHAR", "integer": "BIGINT", "float": "DOUBLE"}


def parquet_bytes(columns: Mapping[str, tuple[str, Sequence[Any]]]) -> bytes:
    """Return a Parquet file of columns, name → (kind, values), in this order.

    A value that is missing or no number would make a reader refuse the whole table: raises
    `ValueError`.
    """
    import duckdb
    import pandas as pd

    frame: pd.DataFrame = pd.DataFrame(
        {name: list(values) for name, (_, values) in columns.items()}
    )
    if frame.isna().any().any():
        raise ValueError("a table must not have missing values")
    casts = ", ".join(
        f'CAST("{name}" AS {TYPES[kind]}) AS "{name}"' for name, (kind, _) in columns.items()
    )
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        file = Path(folder) / "table.parquet"
        connection.register("given", frame)
        connection.execute(f"COPY (SELECT {casts} FROM given) TO '{file}' (FORMAT PARQUET)")
        return file.read_bytes()
