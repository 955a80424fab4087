"""The files of op tables, as frames: CSV (also .gz) and Parquet, bounded and in one form.

Whoever published a table wrote the file, so nothing in it is believed: it may unpack to more than
memory holds, name a column twice, or be no table at all.
"""

from __future__ import annotations

import glob
import io
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Final

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.reading import MIB, read_bytes

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES: Final = (".csv", ".csv.gz", ".parquet")
# The greatest published tables have some hundred thousand rows in a few MiB.
MOST_BYTES: Final = 256 * MIB  # of the file, and of the text that it unpacks to
MOST_ROWS: Final = 5_000_000
MOST_COLUMNS: Final = 1_000
_PARQUET_MEMORY: Final = "4GB"


def table_frame(path: Path) -> pd.DataFrame:
    """Return a table with its columns named without surrounding blanks, each name once.

    Raises ``RoofprobeError`` (``unreadable-table``).
    """
    name = path.name.lower()
    try:
        data = read_bytes(path, MOST_BYTES)
        if name.endswith(".parquet"):
            frame = _parquet(path)
        else:
            frame = _csv(_unpacked(data) if name.endswith(".gz") else data)
    except OSError as error:
        why = error.strerror or str(error)
        raise RoofprobeError("unreadable-table", f"cannot read {path} ({why})") from None
    except (ValueError, OverflowError, MemoryError, EOFError, zlib.error) as error:
        raise RoofprobeError(
            "unreadable-table", f"{path} is not a table that can be read ({_first_line(error)})"
        ) from None
    frame.columns = [str(column).strip() for column in frame.columns]
    repeated = sorted(set(frame.columns[frame.columns.duplicated()]))
    if repeated:
        raise RoofprobeError(
            "unreadable-table", f"{path} has the column {repeated[0][:60]!r} twice; remove one"
        )
    return frame


def _unpacked(data: bytes) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)
    text = unpacking.decompress(data, MOST_BYTES + 1)
    if len(text) > MOST_BYTES:
        raise ValueError(f"it unpacks to more than {MOST_BYTES // MIB} MiB")
    if not unpacking.eof:
        raise EOFError("it ends before its end")
    if unpacking.unused_data.strip(b"\0"):
        raise ValueError("it has more than one part; unpack it first")
    return text


def _csv(data: bytes) -> pd.DataFrame:
    import pandas as pd

    header = data[: data.find(b"\n")] if b"\n" in data else data
    if header.count(b",") >= MOST_COLUMNS:
        raise ValueError(f"it has more than {MOST_COLUMNS:,} columns")
    frame = pd.read_csv(io.BytesIO(data), low_memory=False)
    if not isinstance(frame.index, pd.RangeIndex):
        raise ValueError("its rows have more cells than its first line names")
    return frame


def _parquet(path: Path) -> pd.DataFrame:
    import duckdb

    # No extension may be fetched from the network, and a name is a name, not a pattern.
    config: dict[str, str | bool | int | float | list[str]] = {
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "memory_limit": _PARQUET_MEMORY,
    }
    try:
        with duckdb.connect(config=config) as connection:
            rows = connection.read_parquet(glob.escape(str(path)))
            if len(rows.columns) > MOST_COLUMNS:
                raise ValueError(f"it has more than {MOST_COLUMNS:,} columns")
            frame: pd.DataFrame = rows.limit(MOST_ROWS + 1).df()
    except (duckdb.Error, RuntimeError, SystemError) as error:  # the binding's own, for bad text
        raise ValueError(f"no readable Parquet: {_first_line(error)}") from None
    if len(frame) > MOST_ROWS:
        raise ValueError(f"it has more than {MOST_ROWS:,} rows")
    return frame


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
