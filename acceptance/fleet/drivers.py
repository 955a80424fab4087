"""Drivers of one kind of device beside each other: medians of their groups, without any history.

Each driver's devices are held against themselves, so that a driver which costs all of them speed
would go unseen. Here the groups' medians are held against those of the driver that most devices
have. Boards are not the same on both sides, as they are before and after an update (`over_time`):
what is found is a difference between groups, and the sentence says so.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from roofprobe.acceptance.fleet.fleet_verdict import (
    Aspect,
    Criterion,
    FleetFinding,
    FleetOptions,
)
from roofprobe.acceptance.fleet.shortfall import JUDGED


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
