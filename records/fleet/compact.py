"""Small parts made into one: a merge every night leaves hundreds, and each costs a reader a look.

What counts is copied into a new part; the log entry that adds it drops the old ones. Their files
stay for those who are reading them, and go when a later compaction finds them dropped for a day.
"""

from __future__ import annotations

import tempfile
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from roofprobe.records.fleet.dataset import PARTS, Entry, Fleet, Part, State, urls
from roofprobe.records.fleet.extract import TABLES
from roofprobe.records.fleet.query import connect, copy_to_parquet

MOST_PARTS: Final = 100
SMALL_RUNS: Final = 1000  # a part of fewer runs is worth rewriting
# What is asked for together lies together, so that a reader skips the rest.
_ORDER: Final = {
    "runs": "started_at, host",
    "devices": "sku, started_at, host",
    "metrics": "sku, metric, started_at",
}
KEPT: Final = timedelta(days=1)


def compact(fleet: Fleet, state: State, *, most_parts: int = MOST_PARTS) -> bool:
    """Make one part of the small ones, where there are more than ``most_parts`` of them.

    Return whether that was done; it is not where another merge wrote to the log meanwhile.
    """
    small = {name: part for name, part in state.parts.items() if part.runs < SMALL_RUNS}
    if len(small) <= most_parts:
        return False
    from roofprobe import __version__

    name = uuid.uuid4().hex[:16]
    counts, size = {}, 0
    only = State(parts=small, excluded=state.excluded)
    with tempfile.TemporaryDirectory(prefix="roofprobe-compact-") as scratch:
        with connect(fleet, only) as connection:
            for table in TABLES:
                path = Path(scratch) / f"{name}.{table}.parquet"
                sql = f"SELECT * REPLACE ('{name}' AS part) FROM {table} ORDER BY {_ORDER[table]}"
                counts[table] = copy_to_parquet(connection, sql, path)
                size += path.stat().st_size
        for table in TABLES:
            fleet.store.add(
                f"{PARTS}/{name}.{table}.parquet", Path(scratch) / f"{name}.{table}.parquet"
            )
    entry = Entry(
        at=datetime.now(UTC).isoformat(timespec="seconds"),
        by=f"roofprobe {__version__}",
        parts=(Part(name=name, bytes=size, **counts),),
        dropped_parts=tuple(small),
    )
    if not fleet.commit(entry, state.version + 1):
        return False
    _remove_old(fleet, state)
    state.apply(entry)
    return True


def _remove_old(fleet: Fleet, state: State) -> None:
    """Remove files of parts that were dropped so long ago that nobody reads them now."""
    until = datetime.now(UTC) - KEPT
    for part, at in state.dropped.items():
        if datetime.fromisoformat(at) < until:
            for table in TABLES:
                fleet.store.remove(urls([part], table)[0])
