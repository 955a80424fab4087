"""What a fleet remembers: the figures of a metric over time, and any question asked in SQL.

Figures are those of the views ``metrics``, ``devices`` and ``runs``. A series is one metric of one
device. A GPU's UUID is the same wherever it is put, so its series goes on when it moves to another
host; what has no UUID (``cpu``, ``cuda:0``) is a device of its host only. Figures measured by
different methods do not compare, so a change is told only between equal ``method_version``.
"""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, Final

from roofprobe.records.errors import RoofprobeError
from roofprobe.records.fleet.batches import Rebuild
from roofprobe.records.fleet.dataset import Fleet, Refused, State
from roofprobe.records.fleet.merge import merge
from roofprobe.records.fleet.query import connect
from roofprobe.records.fleet.store import open_store

if TYPE_CHECKING:
    import duckdb

MOST_NEAR: Final = 8
_UUID: Final = "(device_id LIKE 'GPU-%' OR device_id LIKE 'MIG-%')"


@dataclass(frozen=True, slots=True)
class Opened:
    """A fleet that is being read; ``refused`` are runs of a folder that could not be taken in."""

    where: str
    fleet: Fleet
    state: State
    connection: duckdb.DuckDBPyConnection
    refused: tuple[Refused, ...]


@dataclass(frozen=True, slots=True)
class MetricLine:
    """One metric that the fleet knows, and how much of it."""

    metric: str
    unit: str
    n_figures: int
    n_devices: int
    first_at: datetime
    last_at: datetime


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which figures are asked for; None asks for all. ``gpu`` is a UUID or the start of one."""

    metric: str
    gpu: str | None = None
    sku: str | None = None
    host: str | None = None
    since: date | None = None


@dataclass(frozen=True, slots=True)
class Point:
    """One figure and what it was measured under; times are UTC."""

    started_at: datetime
    host: str
    value: float
    ci_low: float | None
    ci_high: float | None
    n: int | None
    driver: str | None
    power_limit_w: float | None
    method_version: int
    roofprobe: str
    torch: str | None
    simulated: str | None


@dataclass(frozen=True, slots=True)
class Series:
    """The figures of one metric of one device, the oldest first."""

    metric: str
    unit: str
    better: str
    device_id: str
    position: int
    name: str
    sku: str
    points: tuple[Point, ...]

    def effect(self, number: int, against: int) -> float | None:
        """Return by what share point ``number`` is better (or worse, below 0) than another.

        None where they were measured by different methods, or the other is zero.
        """
        one, other = self.points[number], self.points[against]
        if one.method_version != other.method_version or other.value == 0:
            return None
        change = one.value / other.value - 1
        return change if self.better == "higher" else -change

    @property
    def first_of_method(self) -> int:
        """Return the first point that was measured as the last one was, and all between."""
        last = self.points[-1].method_version
        for number in range(len(self.points) - 1, -1, -1):
            if self.points[number].method_version != last:
                return number + 1
        return 0


@dataclass(frozen=True, slots=True)
class Selected:
    """What a SELECT returned. ``more`` says that it has further rows, which were not fetched."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    more: bool


@contextmanager
def opened(
    source: str, rebuild: Rebuild | None = None, *,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Iterator[Opened]:  # fmt: skip
    """Yield the fleet at ``source``; a folder of runs is merged into one that ends with this.

    Raises ``RoofprobeError`` (``no-fleet``, ``nothing-to-merge``, ``damaged-fleet``, …).
    """
    fleet = Fleet(open_store(source))
    state = fleet.state()
    if state.version:
        with connect(fleet, state) as connection:
            yield Opened(source, fleet, state, connection, ())
        return
    if "://" in source:
        raise RoofprobeError(
            "no-fleet",
            f"there is no fleet at {source}; make one with: probe fleet merge RUNS --out {source}",
        )
    if not Path(source).exists():
        raise RoofprobeError(
            "no-fleet",
            f"there is nothing at {source}; name a fleet, or a folder that holds runs",
        )
    with TemporaryDirectory(prefix="roofprobe-history-") as folder:
        merged = merge([source], folder, rebuild=rebuild, progress=progress)
        fleet = Fleet(open_store(folder))
        state = fleet.state()
        with connect(fleet, state) as connection:
            yield Opened(source, fleet, state, connection, merged.refused)


def simulated_in(found: Opened) -> tuple[str, ...]:
    """Return the sentences of records that nobody measured."""
    rows = found.connection.execute(
        "SELECT DISTINCT simulated FROM runs WHERE simulated IS NOT NULL ORDER BY simulated"
    ).fetchall()
    return tuple(str(row[0]) for row in rows)


def standing_refused(found: Opened) -> tuple[Refused, ...]:
    """Return the files that merges refused and that were not merged in a better state since."""
    sources = {row[0] for row in found.connection.execute("SELECT source FROM runs").fetchall()}
    return tuple(each for each in found.state.refused.values() if each.source not in sources)


def metrics_in(connection: duckdb.DuckDBPyConnection) -> tuple[MetricLine, ...]:
    """Return all metrics of a fleet by name."""
    rows = connection.execute(
        "SELECT metric, any_value(unit), count(*), count(DISTINCT (host, device_id)), "
        "min(started_at), max(started_at) FROM metrics GROUP BY metric ORDER BY metric"
    ).fetchall()
    return tuple(MetricLine(*row) for row in rows)


def matching(pattern: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return the names that ``pattern`` means: the one of that name, else a glob, else a part.

    Case does not matter. Raises ``RoofprobeError`` (``unknown-metric``) that lists near names.
    """
    wanted = " ".join(pattern.split()).casefold()
    folded = {name: name.casefold() for name in names}
    for means in (
        lambda name: name == wanted,
        lambda name: fnmatch.fnmatchcase(name, wanted),
        lambda name: wanted in name,
        lambda name: all(word in name.split() for word in wanted.split()),
    ):
        found = tuple(name for name in names if means(folded[name]))
        if found and wanted:
            return found
    shown = _near(wanted, folded)
    hint = f"near it: {'; '.join(shown)}" if shown else "`probe history` lists those that there are"
    raise RoofprobeError("unknown-metric", f"no metric is called {pattern!r}; {hint}")


def _near(wanted: str, folded: Mapping[str, str]) -> list[str]:
    """Return names that look like what was wanted, or that have words which do."""
    near = set(difflib.get_close_matches(wanted, folded.values(), MOST_NEAR, cutoff=0.6))
    words = {word for name in folded.values() for word in name.split()}
    meant = [difflib.get_close_matches(word, words, 2, cutoff=0.7) for word in wanted.split()]
    return [
        name
        for name, text in folded.items()
        if text in near
        or (meant and all(any(each in text.split() for each in word) for word in meant))
    ][:MOST_NEAR]


def history(connection: duckdb.DuckDBPyConnection, wanted: Wanted) -> tuple[Series, ...]:
    """Return the series that are ``wanted``, by metric, then device.

    Raises ``RoofprobeError`` (``unknown-metric``, ``no-figures``).
    """
    names = matching(wanted.metric, [line.metric for line in metrics_in(connection)])
    conditions = ["m.metric IN (SELECT unnest(?::VARCHAR[]))"]
    values: list[Any] = [list(names)]
    for text, condition in (
        (wanted.gpu, "starts_with(lower(m.device_id), lower(?))"),
        (wanted.sku, "(m.sku = ? OR d.name = ?)"),
        (wanted.host, "m.host = ?"),
    ):
        if text is not None:
            conditions.append(condition)
            values += [text] * condition.count("?")
    if wanted.since is not None:
        conditions.append("m.started_at >= ?::TIMESTAMP")
        values.append(wanted.since.isoformat())
    rows = connection.execute(
        "SELECT m.metric, m.device_id, "
        f"CASE WHEN {_UUID.replace('device_id', 'm.device_id')} THEN '' ELSE m.host END AS place, "
        "m.unit, m.better, d.position, d.name, m.sku, m.started_at, m.host, m.value, m.ci_low, "
        "m.ci_high, m.n, m.driver, m.power_limit_w, m.method_version, r.roofprobe, r.torch, "
        "r.simulated "
        "FROM metrics m JOIN devices d ON d.part = m.part AND d.digest = m.digest "
        "AND d.device_id = m.device_id JOIN runs r ON r.part = m.part AND r.digest = m.digest "
        f"WHERE {' AND '.join(conditions)} "
        "ORDER BY m.metric, place, m.device_id, m.started_at, m.host, m.digest",
        values,
    ).fetchall()
    if not rows:
        raise RoofprobeError("no-figures", f"{names[0]} has no figure {_told(connection, wanted)}")
    series = []
    for _, group in groupby(rows, key=lambda row: row[:3]):
        points = list(group)
        metric, device_id, _, unit, better, position, name, sku = points[-1][:8]
        series.append(
            Series(
                metric, unit, better, device_id, position, name, sku,
                tuple(Point(*row[8:]) for row in points),
            )
        )  # fmt: skip
    return tuple(series)


def _told(connection: duckdb.DuckDBPyConnection, wanted: Wanted) -> str:
    """Say which condition leaves nothing, and what there is instead."""
    told = []
    for text, word, column in (
        (wanted.gpu, "of a GPU", "device_id"),
        (wanted.sku, "of the kind", "sku"),
        (wanted.host, "of the host", "host"),
    ):
        if text is None:
            continue
        known = [
            row[0]
            for row in connection.execute(f"SELECT DISTINCT {column} FROM devices").fetchall()
        ]
        near = difflib.get_close_matches(text, known, 4, cutoff=0.4) or sorted(known)[:4]
        told.append(f"{word} {text!r} (there are {len(known)}, such as {', '.join(near)})")
    if wanted.since is not None:
        told.append(f"since {wanted.since.isoformat()}")
    return " ".join(told) or "in this fleet"


def select(found: Opened, sql: str, *, most: int | None = None) -> Selected:
    """Return what one SELECT says of the views ``runs``, ``devices`` and ``metrics``.

    Nothing but the fleet's own parts can be read from it, and nothing written: DuckDB's access to
    files, the network and extensions is closed for good on this connection. Raises
    ``RoofprobeError`` (``bad-sql``).
    """
    import duckdb

    connection = found.connection
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise _bad(error) from error
    if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
        kinds = " and ".join(str(s.type).rpartition(".")[2] for s in statements) or "nothing"
        raise RoofprobeError(
            "bad-sql", f"--sql takes exactly one SELECT statement, and this is {kinds}"
        )
    close(found)
    try:
        answer = connection.execute(statements[0])
        columns = tuple(str(column[0]) for column in answer.description or ())
        rows = answer.fetchall() if most is None else answer.fetchmany(most + 1)
    except duckdb.IOException:
        raise
    except duckdb.Error as error:
        raise _bad(error) from error
    return Selected(columns, tuple(rows[:most]), most is not None and len(rows) > most)


def close(found: Opened) -> None:
    """Let the connection read the fleet's parts and nothing else, from now on."""
    from roofprobe.records.fleet.dataset import urls
    from roofprobe.records.fleet.extract import TABLES

    paths = [
        found.fleet.store.url(name) for table in TABLES for name in urls(found.state.parts, table)
    ]
    listed = ", ".join("'" + path.replace("'", "''") + "'" for path in paths)
    for setting in (
        f"allowed_paths=[{listed}]",
        "autoinstall_known_extensions=false",
        "autoload_known_extensions=false",
        "python_enable_replacements=false",
        "enable_external_access=false",
        "lock_configuration=true",
    ):
        found.connection.execute(f"SET {setting}")


def _bad(error: Exception) -> RoofprobeError:
    lines = [line.strip() for line in str(error).splitlines() if line.strip(" ^")]
    return RoofprobeError("bad-sql", f"cannot answer --sql: {' '.join(lines)[:600]}")
