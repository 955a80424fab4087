"""Drivers of one kind of device beside each other: medians of their groups, without any history.

Each driver's devices are held against themselves, so that a driver which costs all of them speed
would go unseen. Here the groups' medians are held against those of the driver that most devices
have. Boards are not the same on both sides, as they are before and after an update (`over_time`):
what is found is a difference between groups, and the sentence says so.

A driver that too few devices have for a group is held against the others. Where such a device falls
short, its driver is what sets it apart, and comes before the device (`suspect_drivers`).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from roofprobe.acceptance.fleet.criteria import Held
from roofprobe.acceptance.fleet.fleet_verdict import (
    Aspect,
    Criterion,
    FleetFinding,
    FleetOptions,
)
from roofprobe.acceptance.fleet.present import OWNER, Present
from roofprobe.acceptance.fleet.shortfall import JUDGED

if TYPE_CHECKING:
    import duckdb

_SHORT: Final = ("slow", "slow-metric")
REMEDY: Final = (
    "give it the driver of its equals and repeat the run; look at the device only if it stays"
)


def drivers_apart(
    criteria: Sequence[Criterion], known: Sequence[FleetFinding], options: FleetOptions
) -> list[FleetFinding]:
    """Return drivers whose devices are slower, or faster, than those of the usual driver.

    ``known`` are changes after an update, which say the same better.
    """
    groups: dict[tuple[Any, ...], dict[str, list[Criterion]]] = defaultdict(
        lambda: defaultdict(list)
    )
    for each in criteria:
        if each.driver is not None and not each.pooled and each.variant is None:
            key = each.sku, each.power_limit_w, each.method_version
            groups[key][each.driver].append(each)
    told = {(finding.sku, finding.attribute) for finding in known}
    found = []
    for (sku, _, _), by_driver in groups.items():
        usual = max(by_driver, key=lambda name: by_driver[name][0].n)
        for driver, own in by_driver.items():
            attribute = f"driver={driver}"
            if driver == usual or (sku, attribute) in told or (sku, f"driver={usual}") in told:
                continue
            finding = _apart(own, by_driver[usual], attribute, options)
            if finding is not None:
                found.append(finding)
    return found


def suspect_drivers(
    connection: duckdb.DuckDBPyConnection, present: Present, held: Held,
    by_device: dict[int, list[FleetFinding]],
) -> None:  # fmt: skip
    """Say of what falls short with a driver that its equals do not have which, and since when."""
    drivers = present.devices.driver.to_numpy(dtype=object)
    short = {row for row, found in by_device.items() if any(each.code in _SHORT for each in found)}
    for group in held.groups:
        rows = sorted(short.intersection(group.rows.tolist()))
        if not rows or not group.pooled:
            continue
        counts = Counter(each for each in drivers[group.peers] if isinstance(each, str))
        usual, count = counts.most_common(1)[0] if counts else ("", 0)
        for row in rows:
            own = drivers[row]
            if not isinstance(own, str) or own == usual or 2 * count <= len(group.peers):
                continue
            since, before = _changed(connection, present, row)
            when = f" since {since:%F}, after {before}" if since else ""
            by_device[row] = [
                each if each.code not in _SHORT else each.model_copy(
                    update={
                        "attribute": f"driver={own}",
                        "since": since.isoformat() if since else each.since,
                        "sentence": f"{each.sentence}; it has driver {own}{when}, where "
                        f"{count:,} of its {len(group.peers):,} equals have {usual}",
                        "remedy": REMEDY,
                    }
                )
                for each in by_device[row]
            ]  # fmt: skip


def _changed(
    connection: duckdb.DuckDBPyConnection, present: Present, row: int
) -> tuple[Any, str | None]:
    """Return when a device was first seen with its driver, and its driver before; else nothing."""
    device = present.devices.iloc[row]
    found = connection.execute(
        f"""
        SELECT started_at, before FROM (
            SELECT started_at, driver, lag(driver) OVER (ORDER BY started_at) AS before
            FROM devices WHERE {OWNER} = ?
        ) WHERE driver = ? AND before <> driver ORDER BY started_at DESC LIMIT 1
        """,
        [device.owner, device.driver],
    ).fetchone()
    return found if found is not None else (None, None)


def _apart(
    own: Sequence[Criterion], usual: Sequence[Criterion], attribute: str, options: FleetOptions
) -> FleetFinding | None:
    theirs = {each.metric: each for each in usual}
    by_aspect: dict[Aspect, list[tuple[float, Criterion]]] = defaultdict(list)
    for each in own:
        other = theirs.get(each.metric)
        if other is None or each.aspect not in JUDGED:
            continue
        sign = 1 if each.better == "higher" else -1
        gap = sign * float(np.log(each.median / other.median))
        error = np.hypot(each.scale / np.sqrt(each.n), other.scale / np.sqrt(other.n)) * 1.2533
        if abs(gap) > options.z * error:
            by_aspect[each.aspect].append((gap, each))
    gaps = {
        aspect: float(np.median([gap for gap, _ in members]))
        for aspect, members in by_aspect.items()
        if 2 * len(members) >= sum(c.aspect == aspect for c in own)
    }
    if not gaps:
        return None
    aspect = max(gaps, key=lambda each: abs(gaps[each]))
    effect = float(np.expm1(gaps[aspect]))
    if abs(effect) < options.change_effect:
        return None
    first, other = own[0], usual[0]
    slower = effect < 0
    return FleetFinding(
        code="driver-apart", judgement="warn" if slower else "pass", scope="sku", sku=first.sku,
        aspect=aspect, effect=effect, n_devices=first.n, n_peers=other.n, attribute=attribute,
        n_metrics=len(by_aspect[aspect]),
        sentence=f"{first.n} devices with driver {first.driver} are {abs(effect):.1%} "
        f"{'slower' if slower else 'faster'} in {aspect} than {other.n} others with "
        f"{other.driver}: a difference between groups of boards",
        remedy="give some boards the other driver and measure them again: then a board is held "
        "against itself" if slower else None,
    )  # fmt: skip
