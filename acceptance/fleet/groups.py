"""Findings about many devices at once: batches that differ, hosts that are slow as a whole, racks.

What all devices of a host have in common is said once of the host, and what several hosts have in
common once of the fleet, so that a rack whose air is too warm is one thing to look at.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from statistics import NormalDist
from typing import Final, cast

import numpy as np

from roofprobe.acceptance.fleet.criteria import ASPECTS, Batch, Held
from roofprobe.acceptance.fleet.fleet_verdict import (
    Cause,
    DeviceVerdict,
    FleetFinding,
    FleetOptions,
)
from roofprobe.acceptance.fleet.present import Present
from roofprobe.acceptance.fleet.robust import centre_of, z_of
from roofprobe.acceptance.fleet.shortfall import FALSE_SHARE
from roofprobe.records.schema import Judgement
from roofprobe.records.wording import are, plural

_MOST_OF_A_HOST: Final = 0.75
_LEAST_DEVICES: Final = 3
_LEAST_HOSTS: Final = 2
_LEAST_LAUNCHES: Final = 0.1  # processors of one fleet may well differ by a few percent
_ASK: Final = (
    "compare board revisions, firmware and settings of both; ask the provider which was ordered"
)


def host_findings(
    present: Present, held: Held, devices: Sequence[DeviceVerdict], options: FleetOptions
) -> list[FleetFinding]:
    """Return hosts whose devices are nearly all slow, and hosts that launch slowly."""
    found = list(_slow_launches(present, held, options))
    sizes = Counter(present.devices.host)
    slow: dict[str, list[FleetFinding]] = {}
    for device in devices:
        shortfall = next((f for f in device.findings if f.code == "slow"), None)
        if shortfall is not None:
            slow.setdefault(device.host, []).append(shortfall)
    for host, findings in sorted(slow.items()):
        size = sizes[host]
        if size < _LEAST_DEVICES or len(findings) < _MOST_OF_A_HOST * size:
            continue
        cause = Counter(f.cause for f in findings).most_common(1)[0][0]
        attribute, since = _driver_of(findings)
        middle = float(np.median([f.effect or 0.0 for f in findings]))
        found.append(
            FleetFinding(
                code="slow-host", judgement="fail" if middle <= -options.fail_effect else "warn",
                scope="host", sku=findings[0].sku, host=host, hosts=(host,),
                n_devices=len(findings), cause=cause, effect=middle, aspect=findings[0].aspect,
                sentence=f"{len(findings)} of {size} devices are {-middle:.1%} below their equals"
                f"{_why(cause, attribute, since)}",
                attribute=attribute, since=since, remedy=_remedy(cause, attribute),
            )
        )  # fmt: skip
    return found


def _driver_of(findings: Sequence[FleetFinding]) -> tuple[str | None, str | None]:
    """Return the driver that sets all of a host's slow devices apart, and since when."""
    told = {(finding.attribute, finding.since) for finding in findings}
    attribute, since = next(iter(told))
    return (attribute, since) if len(told) == 1 and attribute is not None else (None, None)


def _slow_launches(present: Present, held: Held, options: FleetOptions) -> list[FleetFinding]:
    levels = held.level[:, ASPECTS.index("launch")]
    frame = present.devices[["host", "sku"]].assign(level=levels).dropna()
    if frame.empty:
        return []
    hosts = frame.groupby(["sku", "host"], sort=True)["level"].median()
    found = []
    for sku, part in hosts.groupby(level=0):
        values = part.to_numpy()
        if values.size < options.least_peers:
            continue
        centre = centre_of(values)
        needed = max(options.z, NormalDist().inv_cdf(1 - FALSE_SHARE / 2))
        z = z_of(values - centre.median, centre.scale)
        bad = (z <= -needed) & (values - centre.median <= np.log1p(-_LEAST_LAUNCHES))
        for at in np.flatnonzero(bad).tolist():
            _, host = cast("tuple[str, str]", part.index[at])
            effect = float(np.expm1(values[at] - centre.median))
            found.append(
                FleetFinding(
                    code="slow-launches", judgement="warn", scope="host", sku=str(sku), host=host,
                    hosts=(host,), aspect="launch", cause="host", effect=effect,
                    z=float(z[at]) if np.isfinite(z[at]) else None, n_peers=int(values.size),
                    sentence=f"kernels are launched at {1 + effect:.0%} of the pace of "
                    f"{values.size} hosts with such devices: the processor, not the GPUs",
                    remedy="compare its processor, its governor and what else runs on it",
                )
            )  # fmt: skip
    return found


def group_findings(
    present: Present, held: Held, about_hosts: Sequence[FleetFinding], options: FleetOptions
) -> list[FleetFinding]:
    """Return batches that differ, and slow hosts that have one cause."""
    once: dict[tuple[object, ...], Batch] = {}
    for batch in held.batches:  # a group that is pooled sees the batches of its peers again
        once.setdefault((batch.group.sku, batch.attribute, batch.value, batch.aspect), batch)
    found = [
        _most_throttle(batch, options) if batch.throttled else _batch(present, batch, options)
        for batch in once.values()
        if batch.most or not batch.throttled  # a smaller part that throttles is told by host
    ]
    found += _modes(held)
    found += _racks(about_hosts)
    found += _power_limits(present)
    return found


def _batch(present: Present, batch: Batch, options: FleetOptions) -> FleetFinding:
    effect = float(np.expm1(batch.effect))
    group, count = batch.group, len(batch.rows)
    hosts = sorted(set(present.devices.host.to_numpy()[batch.rows]))
    word = f"{abs(effect):.1%} {'slower' if effect < 0 else 'faster'} in {batch.aspect}"
    judgement: Judgement = "fail" if effect <= -options.fail_effect else "warn"
    remedy = _ASK
    if batch.attribute is not None:
        code = "variant"
        sentence = (
            f"{count:,} devices of {group.sku} with {batch.attribute} {batch.value} are {word} "
            f"than {batch.n_others:,} others: a variant, held against itself from here on"
        )
    else:
        code = "bimodal"
        told, remedy = _modes_told(batch)
        sentence = (
            f"{group.sku} has two kinds: {count:,} devices are {word} than {batch.n_others:,} "
            f"others (Ashman's D {batch.ashman_d:.1f}), {told}"
        )
    return FleetFinding(
        code=code, judgement=judgement, scope="sku", sku=group.sku,
        aspect=batch.aspect, effect=effect, n_devices=count, n_peers=batch.n_others,
        attribute=f"{batch.attribute}={batch.value}" if batch.attribute else None,
        hosts=tuple(hosts[:100]), sentence=sentence, cause="clock" if batch.clock else None,
        remedy=remedy,
    )  # fmt: skip


def _most_throttle(batch: Batch, options: FleetOptions) -> FleetFinding:
    """Return that the larger part of a kind runs below what the others show it can reach."""
    clocks, effect = batch.clocks, float(np.expm1(batch.effect))
    assert clocks is not None
    assert clocks.allowed_mhz is not None
    if clocks.limited:
        cause = f"a highest clock of {clocks.allowed_mhz:,.0f} MHz is set for them"
        remedy = "see who lowered their highest clock (nvidia-smi -q -d CLOCK) and set it back"
    else:
        cause = (
            f"{clocks.allowed_by} is {clocks.allowed_mhz:,.0f} MHz and their power limit that of "
            "the others, so that power, heat or a locked clock of their place keeps them below"
        )
        remedy = (
            "look at the cooling, power supply, throttle reasons and locked clocks of these hosts, "
            "then repeat their runs"
        )
    return FleetFinding(
        code="most-throttle", judgement="fail" if effect <= -options.fail_effect else "warn",
        scope="sku", sku=batch.group.sku, aspect=batch.aspect, cause="clock", effect=effect,
        n_devices=len(batch.rows), n_peers=batch.n_others, metric=clocks.metric,
        figure=clocks.low_mhz, median=clocks.high_mhz, unit="MHz",
        sentence=f"most devices of {batch.group.sku}, {len(batch.rows):,}, are {-effect:.1%} "
        f"slower in {batch.aspect} than the {batch.n_others:,} others, at {clocks.low_mhz:,.0f} "
        f"MHz where those run at {clocks.high_mhz:,.0f} ({clocks.metric}): {cause}; the others "
        "show what such devices reach, and all are held against them",
        remedy=remedy,
    )  # fmt: skip


def _modes_told(batch: Batch) -> tuple[str, str]:
    """Return what is known of two modes that nothing recorded tells apart, and what to do."""
    where = "they fill whole hosts" if batch.whole_hosts else "on hosts that have both"
    if batch.clock:
        why = batch.clocks.undecided if batch.clocks is not None else None
        untold = f"; which of both such devices should reach is not told: {why}" if why else ""
        return (
            f"at a lower clock; {where}: power, heat or a clock limit, not two kinds of boards"
            f"{untold}",
            "look at the cooling, power supply, throttle reasons and clock limits of these hosts, "
            "then repeat their runs",
        )
    if batch.whole_hosts:
        return (
            f"at the same clock; {where}, and neither board nor driver tells them apart",
            "look at what these hosts have in common: settings, firmware, neighbours; then at "
            "board revisions",
        )
    return "and neither board nor driver tells them apart", _ASK


def _modes(held: Held) -> list[FleetFinding]:
    """Return, per group, the metrics that have two modes of their own."""
    found = []
    by_group: dict[tuple[object, ...], list[int]] = {}
    for at, criterion in enumerate(held.criteria):
        if criterion.modes and criterion.aspect not in ("energy", "heat", "launch"):
            key = (criterion.sku, criterion.driver, criterion.power_limit_w, criterion.variant)
            by_group.setdefault(key, []).append(at)
    for members in by_group.values():
        criteria = [held.criteria[at] for at in members]
        first = criteria[0]
        low, high = first.modes
        names = ", ".join(criterion.metric for criterion in criteria[:3])
        found.append(
            FleetFinding(
                code="bimodal", judgement="warn", scope="sku", sku=first.sku,
                aspect=first.aspect, metric=first.metric, n_metrics=len(criteria),
                n_peers=first.n, figure=low.centre, median=high.centre, unit=first.unit,
                attribute=first.variant,
                sentence=f"{plural(len(criteria), 'metric')} of {first.sku} with two modes "
                f"({names}): "
                f"{low.share:.0%} of devices around {low.centre:.4g}, the others around "
                f"{high.centre:.4g} {first.unit}",
                remedy="compare versions of drivers and libraries of both kinds of host",
            )
        )  # fmt: skip
    return found


def _racks(about_hosts: Sequence[FleetFinding]) -> list[FleetFinding]:
    """Return causes that several slow hosts have in common."""
    found = []
    by_cause: dict[tuple[Cause | None, str | None], list[FleetFinding]] = {}
    for finding in about_hosts:
        if finding.code == "slow-host":
            by_cause.setdefault((finding.cause, finding.attribute), []).append(finding)
    for (cause, attribute), members in by_cause.items():
        if len(members) < _LEAST_HOSTS:
            continue
        hosts = [finding.host or "" for finding in members]
        effect = float(np.median([finding.effect or 0.0 for finding in members]))
        found.append(
            FleetFinding(
                code="throttling-hosts" if (cause, attribute) == ("clock", None) else "slow-hosts",
                judgement="fail" if any(f.judgement == "fail" for f in members) else "warn",
                scope="fleet", hosts=tuple(hosts), cause=cause, effect=effect,
                n_devices=sum(finding.n_devices or 0 for finding in members),
                sentence=f"{len(hosts)} whole hosts are {-effect:.1%} below their equals"
                f"{_why(cause, attribute)}",
                attribute=attribute, remedy=_remedy(cause, attribute),
            )
        )  # fmt: skip
    return found


def _power_limits(present: Present) -> list[FleetFinding]:
    """Return power limits below what nearly all devices of the kind have."""
    found = []
    frame = present.devices[["sku", "host", "power_limit_w"]].dropna()
    for sku, part in frame.groupby("sku", sort=True):
        counts = part.power_limit_w.value_counts()
        usual = float(counts.index[0])
        if counts.iloc[0] < 0.8 * len(part):
            continue
        lower = part[part.power_limit_w < 0.98 * usual]
        for limit, members in lower.groupby("power_limit_w", sort=True):
            hosts = sorted(set(members.host))
            found.append(
                FleetFinding(
                    code="power-limit", judgement="warn", scope="sku", sku=str(sku),
                    hosts=tuple(hosts[:100]), n_devices=len(members),
                    figure=float(cast("float", limit)), bound=usual, unit="W", cause="clock",
                    effect=float(cast("float", limit)) / usual - 1,
                    sentence=f"{are(len(members), 'device')} limited to {limit:g} W where "
                    f"{counts.iloc[0]:,} others have {usual:g} W",
                    remedy="see who lowered it (nvidia-smi -q -d POWER) and set it back",
                )
            )  # fmt: skip
    return found


def _why(cause: Cause | None, attribute: str | None = None, since: str | None = None) -> str:
    if attribute is not None:
        when = f" since {since[:10]}" if since else ""
        return f", and have another driver than those ({attribute.partition('=')[2]}{when})"
    if cause == "clock":
        return " at a lower clock: power or heat of the place or a clock limit, not the devices"
    return ""


def _remedy(cause: Cause | None, attribute: str | None = None) -> str:
    if attribute is not None:
        return "give it the driver of the others and repeat its run, before anything is replaced"
    if cause == "clock":
        return (
            "look at the cooling, power supply and clock limits of these hosts, then repeat their "
            "runs"
        )
    return "look at what these hosts have in common: settings, driver, neighbours"
