"""A fleet's tables in DuckDB: views over its Parquet parts, without what no longer counts.

The database is in memory and ends with its connection; the parts are only read. DuckDB keeps no
file of its own, since a second process could not open it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.fleet.dataset import Fleet, State, urls
from roofprobe.records.fleet.extract import TABLES, columns

if TYPE_CHECKING:
    import duckdb

MEMORY_LIMIT: Final = "1GB"  # beyond it DuckDB spills to its temporary folder
_ROW_GROUP: Final = 122_880  # rows, DuckDB's own


@contextmanager
def connect(fleet: Fleet, state: State | None = None) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield a connection with the views ``runs``, ``devices`` and ``metrics`` of a fleet.

    Raises ``RoofprobeError`` (``damaged-fleet``) where a part is missing or broken.
    """
    import duckdb

    state = state if state is not None else fleet.state()
    connection = duckdb.connect(":memory:")
    try:
        connection.execute(f"SET memory_limit='{MEMORY_LIMIT}'")
        filesystem = fleet.store.filesystem()
        if filesystem is not None:
            connection.register_filesystem(filesystem)
        connection.execute("CREATE TABLE excluded (part VARCHAR, digest VARCHAR)")
        if state.excluded:
            connection.executemany("INSERT INTO excluded VALUES (?, ?)", list(state.excluded))
        for table in TABLES:
            connection.execute(f"CREATE VIEW {table} AS {_view(fleet, state, table)}")
        yield connection
    except duckdb.IOException as error:
        raise RoofprobeError(
            "damaged-fleet",
            f"a part of the fleet {fleet.store.where} is missing or broken "
            f"({str(error).splitlines()[0]}); restore it, or merge the runs anew",
        ) from error
    finally:
        connection.close()


def _view(fleet: Fleet, state: State, table: str) -> str:
    if not state.parts:
        nothing = ", ".join(f"NULL::{kind} AS {name}" for name, kind in columns(table).items())
        return f"SELECT {nothing} WHERE false"
    files = ", ".join(_quoted(fleet.store.url(name)) for name in urls(state.parts, table))
    # by name: parts of another release may have columns more or less
    return (
        f"SELECT * FROM read_parquet([{files}], union_by_name=true) t WHERE NOT EXISTS "
        "(SELECT 1 FROM excluded x WHERE x.part = t.part AND x.digest = t.digest)"
    )


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def write_parquet(
    path: Path, types: Mapping[str, str], values: Mapping[str, Sequence[Any]]
) -> None:
    """Write a table, given by columns, as one Parquet file."""
    import duckdb
    import pandas as pd

    frame = pd.DataFrame({name: pd.Series(values[name], dtype=object) for name in types})
    casts = ", ".join(f"CAST({name} AS {kind}) AS {name}" for name, kind in types.items())
    with duckdb.connect(":memory:") as connection:
        connection.register("frame", frame)
        copy_to_parquet(connection, f"SELECT {casts} FROM frame", path)


def copy_to_parquet(connection: duckdb.DuckDBPyConnection, sql: str, path: Path) -> int:
    """Write what ``sql`` selects as one Parquet file; return the number of rows."""
    (row,) = connection.execute(
        f"COPY ({sql}) TO {_quoted(str(path))} "
        f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP})"
    ).fetchall()
    return int(row[0])
