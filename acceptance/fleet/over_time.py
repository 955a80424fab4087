"""What changes over the runs of a fleet: devices that drift, and drivers that cost speed.

A *drift* is of one device against its equals at the time: each figure is held against the median of
the devices of its kind, driver and power limit in the same thirty days, so that what changes for
all of them (another driver, a hot summer) is no drift of one. Per aspect the device's level over
time gets a slope by Theil and Sen. It counts where the interval of the slope excludes zero, where
the slope lies apart from those of the others, and where it comes to ``drift_effect`` over the time
that was seen.

A *change after a driver* is of all devices that got it: each device's last run before is held
against its first run after, so that a board is compared with itself alone; the median of those
differences has an interval by signs. Devices that kept their driver at the time, where there are
some, show what changed without it, and that is taken off.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, cast

import numpy as np

from roofprobe.acceptance.fleet.fleet_verdict import Aspect, FleetFinding, FleetOptions
from roofprobe.acceptance.fleet.present import OWNER, aspect_of
from roofprobe.acceptance.fleet.robust import (
    Array,
    Bools,
    Slopes,
    centre_of,
    median_interval,
    theil_sen,
    z_of,
)
from roofprobe.acceptance.fleet.shortfall import JUDGED
from roofprobe.records.wording import are

if TYPE_CHECKING:
    import duckdb
    import pandas as pd

_PERIOD_DAYS: Final = 30
_DAY_S: Final = 86_400.0


def read_levels(
    connection: duckdb.DuckDBPyConnection, options: FleetOptions, *, against_equals: bool
) -> pd.DataFrame:
    """Return each device's level in each run by aspect: (owner, epoch_s, driver, aspect, level, …).

    ``against_equals`` holds each figure against the median of its equals in the period; without it
    levels are medians of logarithms by themselves, to be compared within a device only.
    """
    aspects = connection.execute(
        "SELECT DISTINCT family, quantity, unit FROM metrics ORDER BY ALL"
    ).fetchall()
    connection.execute(
        "CREATE OR REPLACE TEMP TABLE aspects (family VARCHAR, quantity VARCHAR, unit VARCHAR, "
        "aspect VARCHAR)"
    )
    rows = [(*key, aspect_of(*key)) for key in aspects]
    rows = [row for row in rows if row[-1] in JUDGED]
    if not rows:
        rows = [("", "", "", "compute")]
    connection.executemany("INSERT INTO aspects VALUES (?, ?, ?, ?)", rows)
    connection.execute(
        f"""
        CREATE OR REPLACE TEMP TABLE figures AS
        SELECT {OWNER} AS owner, host, device_id, epoch(m.started_at) AS epoch_s, sku, driver,
            power_limit_w, method_version, metric, a.aspect,
            floor(epoch(m.started_at) / {_PERIOD_DAYS * _DAY_S}) AS period,
            ln(value) * CASE better WHEN 'lower' THEN -1 ELSE 1 END AS log
        FROM metrics m JOIN aspects a USING (family, quantity, unit) WHERE value > 0
        """
    )
    source, held = "figures f", "log"
    if against_equals:
        held = "log - middle"
        keys = ("sku", "driver", "power_limit_w", "method_version", "metric", "period")
        same = " AND ".join(f"f.{key} IS NOT DISTINCT FROM e.{key}" for key in keys)
        source += (
            f" JOIN (SELECT {', '.join(keys)}, median(log) AS middle FROM figures "
            f"GROUP BY ALL HAVING count(*) >= {options.least_peers}) e ON {same}"
        )
    return connection.execute(
        f"""
        SELECT f.owner, any_value(f.host) AS host, any_value(f.device_id) AS device_id, f.epoch_s,
            any_value(f.sku) AS sku, any_value(f.driver) AS driver,
            any_value(f.power_limit_w) AS power_limit_w,
            any_value(f.method_version) AS method_version, f.aspect,
            median({held}) AS level, count(*) AS n_metrics
        FROM {source} GROUP BY f.owner, f.epoch_s, f.aspect ORDER BY f.owner, f.aspect, f.epoch_s
        """
    ).df()


def has_history(connection: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Return the most runs that a device has, and the most drivers."""
    found = connection.execute(
        f"SELECT max(n), max(drivers) FROM (SELECT count(DISTINCT started_at) AS n, "
        f"count(DISTINCT driver) AS drivers FROM devices GROUP BY {OWNER})"
    ).fetchone()
    return (int(found[0] or 0), int(found[1] or 0)) if found else (0, 0)


def drifts(connection: duckdb.DuckDBPyConnection, options: FleetOptions) -> list[FleetFinding]:
    """Return the devices that get worse against their equals."""
    if has_history(connection)[0] < options.least_drift_runs:
        return []
    frame = read_levels(connection, options, against_equals=True)
    series = frame.groupby(["owner", "aspect"], sort=False).ngroup().to_numpy()
    if not series.size:
        return []
    place = frame.groupby(["owner", "aspect"], sort=False).cumcount().to_numpy()
    heads = frame.drop_duplicates(["owner", "aspect"]).reset_index(drop=True)
    shape = int(series.max()) + 1, int(place.max()) + 1
    times, levels = np.full(shape, np.nan), np.full(shape, np.nan)
    times[series, place] = frame["epoch_s"].to_numpy() / _DAY_S
    levels[series, place] = frame["level"].to_numpy()
    enough = np.isfinite(levels).sum(axis=1) >= options.least_drift_runs
    slopes = theil_sen(times, levels)
    span = np.nanmax(times, axis=1) - np.nanmin(times, axis=1)
    return _drifting(heads, slopes, span, times, enough, options)


def _drifting(
    heads: pd.DataFrame, slopes: Slopes, span: Array, times: Array, enough: Bools,
    options: FleetOptions,
) -> list[FleetFinding]:  # fmt: skip
    by_owner: dict[str, FleetFinding] = {}
    aspects = heads["aspect"].to_numpy()
    skus = heads["sku"].to_numpy()
    for aspect, sku in sorted(set(zip(aspects, skus, strict=True))):
        inside = enough & (aspects == aspect) & (skus == sku) & np.isfinite(slopes.slope)
        if inside.sum() < options.least_peers:
            continue
        centre = centre_of(slopes.slope[inside])
        z = z_of(slopes.slope - centre.median, centre.scale)
        total = slopes.slope * span
        bad = inside & (z <= -options.z) & (slopes.high < 0)
        bad &= total <= np.log1p(-options.drift_effect)
        for row in np.flatnonzero(bad).tolist():
            made = _drift(heads, row, aspect, slopes, span, times, float(z[row]), int(inside.sum()))
            owner = heads["owner"][row]
            known = by_owner.get(owner)
            if known is None or (made.effect or 0) < (known.effect or 0):
                by_owner[owner] = made
    return list(by_owner.values())


def _drift(
    heads: pd.DataFrame, row: int, aspect: Aspect, slopes: Slopes, span: Array, times: Array,
    z: float, n_peers: int,
) -> FleetFinding:  # fmt: skip
    def total(slope: float) -> float:
        return float(np.expm1(slope * span[row]))

    began = _moment(float(np.nanmin(times[row])) * _DAY_S)
    runs = int(np.isfinite(times[row]).sum())
    effect = total(float(slopes.slope[row]))
    return FleetFinding(
        code="drift", judgement="warn", scope="device", sku=heads["sku"][row],
        host=heads["host"][row], device_id=heads["device_id"][row], aspect=aspect, effect=effect,
        effect_low=total(float(slopes.low[row])), effect_high=total(float(slopes.high[row])),
        z=z if np.isfinite(z) else None, n_peers=n_peers, since=began,
        n_metrics=int(heads["n_metrics"][row]),
        sentence=f"{aspect} fell by {-effect:.1%} against its equals over {span[row]:.0f} days and "
        f"{runs} runs (95 % interval {-total(float(slopes.high[row])):.1%} to "
        f"{-total(float(slopes.low[row])):.1%})",
        remedy="watch it in the next run; look at its temperature, dust and remapped rows",
    )  # fmt: skip


def stayed(
    connection: duckdb.DuckDBPyConnection, finding: FleetFinding, options: FleetOptions
) -> FleetFinding:
    """Return a warning about one figure as a fail where the device's run before had it too.

    That is a run of the same driver, power limit and way of measuring, in which the figure was
    below the median of now by ``fail_effect`` at least, as it is now.
    """
    if finding.metric is None or finding.median is None:
        return finding
    if finding.effect is None or finding.effect > -options.fail_effect:
        return finding
    row = connection.execute(
        """
        WITH own AS (
            SELECT started_at, driver, power_limit_w, method_version, value, better FROM metrics
            WHERE host = ? AND device_id = ? AND metric = ? ORDER BY started_at DESC LIMIT 2
        )
        SELECT b.value, b.better, b.started_at FROM own a JOIN own b
            ON b.started_at < a.started_at AND a.driver IS NOT DISTINCT FROM b.driver
            AND a.power_limit_w IS NOT DISTINCT FROM b.power_limit_w
            AND a.method_version = b.method_version
        """,
        [finding.host, finding.device_id, finding.metric],
    ).fetchone()
    if row is None:
        return finding
    value, better, at = row
    speed = finding.median / value if better == "lower" else value / finding.median
    if speed > 1 - options.fail_effect:
        return finding
    return finding.model_copy(
        update={
            "judgement": "fail",
            "since": at.isoformat(),
            "sentence": f"{finding.sentence}; so it was in its run of {at:%F}: it stays",
            "remedy": "see probe show for this figure on the host; if nothing there explains it, "
            "have the device replaced",
        }
    )


def driver_changes(
    connection: duckdb.DuckDBPyConnection, options: FleetOptions
) -> list[FleetFinding]:
    """Return the drivers after which devices of a kind got faster or slower."""
    if has_history(connection)[1] < 2:
        return []
    frame = read_levels(connection, options, against_equals=False)
    keys = ["owner", "aspect"]
    before = frame.groupby(keys, sort=False)[
        ["driver", "level", "power_limit_w", "method_version", "n_metrics"]
    ].shift(1)
    frame = frame.assign(**{f"{name}_before": before[name] for name in before.columns})
    alike = (
        frame["level_before"].notna()
        & (frame["n_metrics"] == frame["n_metrics_before"])
        & (frame["method_version"] == frame["method_version_before"])
        & (frame["power_limit_w"].fillna(0) == frame["power_limit_w_before"].fillna(0))
    )
    pairs = frame[alike].copy()
    pairs["change"] = pairs["level"] - pairs["level_before"]
    changed = pairs[pairs["driver"] != pairs["driver_before"]]
    worst: dict[tuple[str, str, str], FleetFinding] = {}
    for key, part in changed.groupby(["sku", "driver_before", "driver", "aspect"], sort=True):
        sku, old, new, aspect = cast("tuple[str, str, str, Aspect]", key)
        first, last = part["epoch_s"].min() - _DAY_S, part["epoch_s"].max() + _DAY_S
        kept = pairs[
            (pairs["sku"] == sku) & (pairs["aspect"] == aspect)
            & (pairs["driver"] == pairs["driver_before"])
            & pairs["epoch_s"].between(first, last)
        ]  # fmt: skip
        found = _change(sku, old, new, aspect, part, kept["change"].to_numpy(), options)
        if found is not None:
            known = worst.get((sku, old, new))
            if known is None or abs(found.effect or 0) > abs(known.effect or 0):
                worst[sku, old, new] = found
    return list(worst.values())


def _change(
    sku: str, old: str, new: str, aspect: Aspect, part: pd.DataFrame, kept: Array,
    options: FleetOptions,
) -> FleetFinding | None:  # fmt: skip
    changes = part["change"].to_numpy()
    base = float(np.median(kept)) if kept.size >= options.least_peers else 0.0
    middle, low, high = (value - base for value in median_interval(changes))
    if abs(np.expm1(middle)) < options.change_effect or low <= 0 <= high:
        return None
    effect = float(np.expm1(middle))
    slower = effect < 0
    since = _moment(float(part["epoch_s"].min()))
    word = "slower" if slower else "faster"
    control = f"; {kept.size} that kept theirs are the control" if base else ""
    return FleetFinding(
        code="change-after-driver", judgement="warn" if slower else "pass", scope="sku", sku=sku,
        aspect=aspect, effect=effect, effect_low=float(np.expm1(low)),
        effect_high=float(np.expm1(high)), n_devices=len(part),
        hosts=tuple(sorted(set(part["host"]))[:100]), attribute=f"driver={new}", since=since,
        sentence=f"After driver {old} became {new}, {are(len(part), 'device')} {abs(effect):.1%} "
        f"{word} in {aspect} than they were (99.9 % interval {np.expm1(low):+.1%} to "
        f"{np.expm1(high):+.1%}{control})",
        remedy="hold the new driver back, or compare the kernels of both" if slower else None,
    )  # fmt: skip


def _moment(epoch_s: float) -> str:
    return datetime.fromtimestamp(epoch_s, UTC).replace(tzinfo=None).isoformat(timespec="seconds")
