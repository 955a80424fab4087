"""A fleet's present in figures: each device's latest run, against the medians of its like.

These are the numbers that pictures of a fleet are made of; who is judged how is decided elsewhere.
An *effect* is the share by which a figure is better (above 0) or worse than the median of equal
devices, whichever direction is better. All sums are made by DuckDB, so that a fleet of ten thousand
devices costs a few thousand rows here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import duckdb

BINS: Final = 36
_FENCE: Final = 4.0  # quartile ranges beyond the quartiles that a picture reaches
_MARGIN: Final = 0.004  # of the median: the least half width of a picture
MOST_MARKS: Final = 40
# What a batch of devices may have apart from its like; a criterion's variant names one of them.
_ATTRIBUTES: Final = (
    "name", "architecture", "driver", "runtime", "pci_id", "pci_subsystem_id", "memory_bytes",
    "unit_count", "max_sm_clock_mhz", "power_limit_w",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Median:
    """What devices of a group reach; None of ``driver``, ``power_limit_w``, ``variant`` is any."""

    sku: str
    driver: str | None
    power_limit_w: float | None
    method_version: int
    variant: str | None
    metric: str
    median: float
    bound: float


@dataclass(frozen=True, slots=True)
class Mark:
    """A device whose figure is worse than the bound of its group."""

    host: str
    position: int
    value: float
    effect: float


@dataclass(frozen=True, slots=True)
class Spread:
    """How the devices of one kind lie in one metric.

    ``bins`` are counts in equal steps from ``low`` to ``high``; what lies beyond counts in the
    first or last. ``quantiles`` are the least, 5 %, 25 %, 50 %, 75 %, 95 % and the greatest.
    """

    sku: str
    metric: str
    unit: str
    better: str
    n: int
    quantiles: tuple[float, ...]
    low: float
    high: float
    bins: tuple[int, ...]
    n_beyond: int
    marks: tuple[Mark, ...]


@dataclass(frozen=True, slots=True)
class Cell:
    """The worst device of a host in one metric."""

    position: int
    value: float
    unit: str
    effect: float


@dataclass(frozen=True, slots=True)
class Day:
    """The median of some devices' figures on one day, by one method."""

    day: date
    value: float
    n: int
    driver: str | None
    method_version: int


def prepare(
    connection: duckdb.DuckDBPyConnection, medians: Sequence[Median], window_days: float | None
) -> None:
    """Make the tables of figures and of effects that the rest reads, on the connection.

    Of each device its latest run counts, where that began within ``window_days`` of the newest one;
    of a metric measured by several methods the newest method.
    """
    since = "true"
    if window_days is not None:
        since = (
            "started_at >= (SELECT max(started_at) FROM devices) "
            f"- INTERVAL ({window_days * 86400:.0f}) SECOND"
        )
    # devices that are alike in all that a criterion may ask for are a few combinations
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE pictured_devices AS WITH latest AS ("
        f"SELECT *, [{', '.join(_told(column) for column in _ATTRIBUTES)}] AS attributes "
        f"FROM devices d WHERE {since} "
        "QUALIFY row_number() OVER (PARTITION BY host, device_id ORDER BY started_at DESC, digest)"
        " = 1) "
        "SELECT part, digest, host, device_id, position, attributes, "
        "dense_rank() OVER (ORDER BY sku, attributes) AS alike FROM latest"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE pictured AS "
        "WITH figures AS (SELECT m.sku, m.metric, m.unit, m.better, m.host, m.device_id, "
        "d.position, m.value, m.method_version, m.driver, m.power_limit_w, d.alike FROM metrics m "
        "JOIN pictured_devices d ON d.part = m.part AND d.digest = m.digest "
        "AND d.device_id = m.device_id), "
        "newest AS (SELECT sku, metric, max(method_version) AS method_version FROM figures "
        "GROUP BY ALL) "
        "SELECT * FROM figures SEMI JOIN newest USING (sku, metric, method_version)"
    )
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE pictured_medians "
        "(sku VARCHAR, driver VARCHAR, power_limit_w DOUBLE, "
        "method_version INTEGER, variant VARCHAR, metric VARCHAR, median DOUBLE, bound DOUBLE)"
    )
    if medians:
        _insert(connection, medians)
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE pictured_effects AS "
        "WITH groups AS (SELECT DISTINCT p.sku, p.driver, p.power_limit_w, p.method_version, "
        "p.alike, d.attributes FROM pictured p "
        "JOIN (SELECT DISTINCT alike, attributes FROM pictured_devices) d USING (alike)), "
        "best AS (SELECT g.* EXCLUDE (attributes), c.metric, "
        "max_by(struct_pack(median, bound), 4 * (c.variant IS NOT NULL)::INT "
        "+ 2 * (c.driver IS NOT NULL)::INT + (c.power_limit_w IS NOT NULL)::INT) AS c "
        "FROM groups g JOIN pictured_medians c ON c.sku = g.sku "
        "AND c.method_version = g.method_version AND c.median <> 0 "
        "AND (c.driver IS NULL OR c.driver = g.driver) "
        "AND (c.power_limit_w IS NULL OR c.power_limit_w = g.power_limit_w) "
        "AND (c.variant IS NULL OR list_contains(g.attributes, c.variant)) GROUP BY ALL) "
        "SELECT p.sku, p.metric, p.unit, p.better, p.host, p.position, p.value, "
        "(p.value / b.c.median - 1) * if(p.better = 'higher', 1, -1) AS effect, "
        "if(p.better = 'higher', p.value < b.c.bound, p.value > b.c.bound) AS beyond "
        "FROM pictured p JOIN best b ON b.alike = p.alike AND b.metric = p.metric "
        "AND b.method_version = p.method_version AND b.driver IS NOT DISTINCT FROM p.driver "
        "AND b.power_limit_w IS NOT DISTINCT FROM p.power_limit_w"
    )


def _told(column: str) -> str:
    return f"'{column}=' || d.{column}::VARCHAR"


def _insert(connection: duckdb.DuckDBPyConnection, medians: Sequence[Median]) -> None:
    import pandas as pd

    fields = ("sku", "driver", "power_limit_w", "method_version", "variant", "metric", "median",
              "bound")  # fmt: skip
    frame = pd.DataFrame(
        {
            name: pd.Series([getattr(each, name) for each in medians], dtype=object)
            for name in fields
        }
    )
    connection.register("told_medians", frame)
    connection.execute("INSERT INTO pictured_medians SELECT * FROM told_medians")
    connection.unregister("told_medians")


def spreads(connection: duckdb.DuckDBPyConnection) -> tuple[Spread, ...]:
    """Return how each kind lies in each metric, after `prepare`."""
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE pictured_spans AS "
        "WITH q AS (SELECT sku, metric, any_value(unit) unit, "
        "any_value(better) better, count(*) n, "
        "quantile_cont(value, [0, 0.05, 0.25, 0.5, 0.75, 0.95, 1]) q FROM pictured GROUP BY ALL) "
        "SELECT *, "
        f"greatest(q[1], q[3] - {_FENCE} * (q[5] - q[3]) - {_MARGIN} * abs(q[4])) AS low, "
        f"least(q[7], q[5] + {_FENCE} * (q[5] - q[3]) + {_MARGIN} * abs(q[4])) AS high FROM q"
    )
    step = f"if(high > low, floor((value - low) / (high - low) * {BINS}), {BINS // 2})"
    counts: dict[tuple[str, str], list[int]] = {}
    for sku, metric, place, count in connection.execute(
        f"SELECT sku, metric, greatest(0, least({BINS - 1}, {step}))::INT AS place, count(*) "
        "FROM pictured JOIN pictured_spans USING (sku, metric) GROUP BY ALL"
    ).fetchall():
        counts.setdefault((sku, metric), [0] * BINS)[place] = count
    marks: dict[tuple[str, str], list[Mark]] = {}
    beyond: dict[tuple[str, str], int] = {}
    for sku, metric, n, *mark in connection.execute(
        "SELECT sku, metric, count(*) OVER (PARTITION BY sku, metric), host, position, value, "
        "effect FROM pictured_effects WHERE beyond QUALIFY row_number() OVER "
        f"(PARTITION BY sku, metric ORDER BY effect, host, position) <= {MOST_MARKS} "
        "ORDER BY sku, metric, effect, host, position"
    ).fetchall():
        marks.setdefault((sku, metric), []).append(Mark(*mark))
        beyond[sku, metric] = n
    rows = connection.execute(
        "SELECT sku, metric, unit, better, n, q, low, high FROM pictured_spans ORDER BY sku, metric"
    ).fetchall()
    return tuple(
        Spread(
            sku, metric, unit, better, n, tuple(quantiles), low, high,
            tuple(counts[sku, metric]), beyond.get((sku, metric), 0),
            tuple(marks.get((sku, metric), ())),
        )
        for sku, metric, unit, better, n, quantiles, low, high in rows
    )  # fmt: skip


def worst_by_host(
    connection: duckdb.DuckDBPyConnection, metrics: Sequence[str], most: int
) -> tuple[tuple[str, dict[str, Cell]], ...]:
    """Return the worst device of each host in each of ``metrics``, the worst hosts first.

    Only ``most`` hosts are told, ordered by the worst of what is told. Call it after `prepare`.
    """
    rows = connection.execute(
        "WITH cells AS (SELECT host, metric, min(effect) AS effect, "
        "arg_min(struct_pack(position, value, unit), effect) AS worst FROM pictured_effects "
        "WHERE metric IN (SELECT unnest(?::VARCHAR[])) GROUP BY host, metric), "
        "hosts AS (SELECT host, min(effect) AS least FROM cells GROUP BY host "
        "ORDER BY least, host LIMIT ?) "
        "SELECT host, metric, worst.position, worst.value, worst.unit, effect "
        "FROM cells JOIN hosts USING (host) ORDER BY least, host",
        [list(metrics), most],
    ).fetchall()
    found: dict[str, dict[str, Cell]] = {}
    for host, metric, *cell in rows:
        found.setdefault(host, {})[metric] = Cell(*cell)
    return tuple(found.items())


def n_hosts(connection: duckdb.DuckDBPyConnection) -> int:
    """Return how many hosts have a figure that can be held against others."""
    (count,) = connection.execute("SELECT count(DISTINCT host) FROM pictured_effects").fetchall()[0]
    return int(count)


def by_day(
    connection: duckdb.DuckDBPyConnection, metric: str, *, device_id: str | None = None,
    host: str | None = None, hosts: Sequence[str] = (), sku: str | None = None,
) -> tuple[Day, ...]:  # fmt: skip
    """Return the median of a metric by day (UTC) and method, of what the conditions leave."""
    conditions, values = ["metric = ?"], list[Any]([metric])
    for condition, value in (
        ("device_id = ?", device_id), ("host = ?", host), ("sku = ?", sku),
        ("host IN (SELECT unnest(?::VARCHAR[]))", list(hosts) or None),
    ):  # fmt: skip
        if value is not None:
            conditions.append(condition)
            values.append(value)
    rows = connection.execute(
        "SELECT started_at::DATE AS day, median(value), count(*), mode(driver), method_version "
        f"FROM metrics WHERE {' AND '.join(conditions)} GROUP BY day, method_version "
        "ORDER BY day, method_version",
        values,
    ).fetchall()
    return tuple(Day(*row) for row in rows)
