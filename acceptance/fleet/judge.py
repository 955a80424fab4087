"""The verdict of a fleet: read its present, hold each device against its equals, look back, sum up.

A device is ``fail`` where anything of it is; else ``unknown`` where it was not measured whole, or
nothing tells what it should reach; else ``warn``; else ``pass``. A host is as good as its worst
device. What the run itself found stays: a device that failed its own checks fails here, however
well it compares.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import numpy as np

from roofprobe.acceptance.fleet.criteria import Held, hold
from roofprobe.acceptance.fleet.drivers import drivers_apart, suspect_drivers
from roofprobe.acceptance.fleet.expected import (
    ORDER,
    duplicate_ids,
    expected_devices,
    missing_devices,
    missing_hosts,
    told_counts,
    worst_first,
)
from roofprobe.acceptance.fleet.fleet_verdict import (
    DeviceVerdict,
    FleetFinding,
    FleetOptions,
    FleetSource,
    FleetVerdict,
    HostVerdict,
    SkuSummary,
)
from roofprobe.acceptance.fleet.groups import group_findings, host_findings
from roofprobe.acceptance.fleet.identity import unlike
from roofprobe.acceptance.fleet.over_time import drifts, driver_changes, stayed
from roofprobe.acceptance.fleet.present import Present, read_present
from roofprobe.acceptance.fleet.shortfall import RETEST, Flags, flags_of, shortfalls
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.fleet.dataset import Fleet, State
from roofprobe.records.fleet.query import connect
from roofprobe.records.schema import Judgement
from roofprobe.records.wording import plural

if TYPE_CHECKING:
    import duckdb

_JUDGEMENTS: Final[tuple[Judgement, ...]] = ("fail", "unknown", "warn", "pass")
_COMMON: Final = 0.9  # of its equals have a metric: then a device lacks it
_NAMED: Final = 3


def judge_fleet(fleet: Fleet, options: FleetOptions | None = None) -> FleetVerdict:
    """Return the verdict of a fleet; raises ``RoofprobeError`` (``empty-fleet``, …)."""
    state = fleet.state()
    with connect(fleet, state) as connection:
        return fleet_verdict(
            connection, options or FleetOptions(), where=fleet.store.where, state=state
        )


def fleet_verdict(
    connection: duckdb.DuckDBPyConnection, options: FleetOptions, *, where: str = "",
    state: State | None = None,
) -> FleetVerdict:  # fmt: skip
    """Return the verdict of the fleet behind `roofprobe.records.fleet.query.connect`.

    ``state`` tells of files that were refused. Raises ``RoofprobeError`` (``empty-fleet``).
    """
    present = read_present(connection, options.window_days)
    if not len(present.devices):
        raise RoofprobeError(
            "empty-fleet", f"the fleet {where} holds no run; merge some with probe fleet merge"
        )
    held = hold(present, options)
    flags = flags_of(present, held, options)
    expected = expected_devices(present, options)
    missing, past = missing_devices(connection, present, expected)
    duplicates = duplicate_ids(connection)
    by_device = _device_findings(present, held, flags, options)
    _look_again(connection, by_device, options)
    suspect_drivers(connection, present, held, by_device)
    _add_from_outside(present, by_device, [*drifts(connection, options), *duplicates])
    devices = _devices(present, flags, by_device, past)
    about_hosts = [*missing_hosts(connection, present, options), *missing, *duplicates,
                   *host_findings(present, held, devices, options)]  # fmt: skip
    hosts, host_counts = _hosts(present, devices, about_hosts, expected, options, past)
    changes = driver_changes(connection, options)
    findings = worst_first(
        [
            *group_findings(present, held, about_hosts, options),
            *changes,
            *drivers_apart(held.criteria, changes, options),
            *_refused(state),
            *about_hosts,
        ]
    )
    counts = Counter(device.judgement for device in devices)
    counts["pass"] = len(present.devices) - len(past) - len(devices)
    judgement = worst_of(
        [*(f.judgement for f in findings), *(d.judgement for d in devices), "pass"]
    )
    source = _source(connection, where, state)
    return FleetVerdict(
        judgement=judgement, generated_from=source, options=options,
        skus=_skus(present, devices, past), criteria=tuple(held.criteria),
        device_counts=_counts(counts), host_counts=_counts(host_counts),
        devices=tuple(devices), hosts=tuple(hosts), findings=tuple(findings),
        summary=_summary(judgement, source, counts, _n_hosts(present, past), findings),
    )  # fmt: skip


def worst_of(judgements: Iterable[str]) -> Judgement:
    """Return the judgement that the others cannot mend."""
    return min((cast("Judgement", j) for j in judgements), key=_JUDGEMENTS.index)


def _device_findings(
    present: Present, held: Held, flags: Flags, options: FleetOptions
) -> dict[int, list[FleetFinding]]:
    """Return what is found about each device, by row: its figures, what it is, its own run."""
    found: dict[int, list[FleetFinding]] = {}
    others = unlike(present, held, options)
    for row in flags.devices.tolist():
        if others.get(row) is None or others[row].code != "wrong-sku":
            found.setdefault(row, []).extend(shortfalls(present, held, flags, row, options))
    for row, finding in others.items():
        found.setdefault(row, []).append(finding)
    for row in held.alone.tolist():
        found.setdefault(row, []).append(_few_peers(present, row, options))
    for row, lacking in _lacking(present, held):
        found.setdefault(row, []).append(_not_measured(present, row, lacking))
    frame = present.devices
    for row, (judgement, status) in enumerate(zip(frame.judgement, frame.status, strict=True)):
        if judgement != "pass":
            found.setdefault(row, []).append(_own(present, row))
        if status != "complete":
            found.setdefault(row, []).append(
                _about(present, row, "incomplete-run", "unknown",
                       "its run was not finished",
                       f"finish it on {present.devices.host.iloc[row]}: probe all --out RUNS "
                       "--resume, where RUNS is the folder that its run folder lies in")
            )  # fmt: skip
    return found


def _look_again(
    connection: duckdb.DuckDBPyConnection, by_device: dict[int, list[FleetFinding]],
    options: FleetOptions,
) -> None:  # fmt: skip
    """Hold figures that fall short alone against the device's run before."""
    for findings in by_device.values():
        findings[:] = [
            stayed(connection, each, options) if each.remedy == RETEST else each
            for each in findings
        ]


def _about(
    present: Present, row: int, code: str, judgement: str, sentence: str, remedy: str | None,
    **more: Any,
) -> FleetFinding:  # fmt: skip
    device = present.devices.iloc[row]
    return FleetFinding(
        code=code, judgement=cast("Judgement", judgement), scope="device", sku=device.sku,
        host=device.host, device_id=device.device_id, position=int(device.position),
        sentence=sentence, remedy=remedy, **more,
    )  # fmt: skip


def _few_peers(present: Present, row: int, options: FleetOptions) -> FleetFinding:
    return _about(
        present, row, "few-peers", "unknown",
        f"fewer than {options.least_peers} devices of its kind and way of measuring are in the "
        "fleet: nothing tells what it should reach beside them",
        "merge more runs of such devices; its own verdict is in probe check",
    )  # fmt: skip


def _lacking(present: Present, held: Held) -> Iterable[tuple[int, list[int]]]:
    """Yield devices without metrics that nearly all of their equals have."""
    told = np.isfinite(present.logs)
    for group in held.groups:
        common = np.flatnonzero(told[group.peers].mean(axis=0) >= _COMMON)
        lacks = ~told[np.ix_(group.rows, common)]
        for at in np.flatnonzero(lacks.any(axis=1)):
            yield int(group.rows[at]), common[lacks[at]].tolist()


def _not_measured(present: Present, row: int, lacking: list[int]) -> FleetFinding:
    names = [present.metrics[at].metric for at in lacking]
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return _about(
        present, row, "missing-metric", "unknown",
        f"nothing tells of {', '.join(names[:_NAMED])}{more}, which its equals have",
        "see in probe show why they were skipped or failed", metric=names[0],
        n_metrics=len(names),
    )  # fmt: skip


def _own(present: Present, row: int) -> FleetFinding:
    device = present.devices.iloc[row]
    try:
        told = json.loads(device.findings)
        sentence = "; ".join(f"{each['code']}: {each['sentence']}" for each in told[:_NAMED])
    except (ValueError, TypeError, KeyError):
        sentence = ""
    return _about(
        present, row, "own-verdict", device.judgement,
        f"its own run judges it {device.judgement}" + (f" ({sentence})" if sentence else ""),
        "see probe check RUN",
    )  # fmt: skip


def _add_from_outside(
    present: Present, by_device: dict[int, list[FleetFinding]], found: Sequence[FleetFinding]
) -> None:
    """Give findings that were made from the tables to the devices that they are about."""
    if not found:
        return
    row_of = {
        key: row
        for row, key in enumerate(zip(present.devices.host, present.devices.device_id, strict=True))
    }
    for finding in found:
        for host in finding.hosts or (finding.host,):
            row = row_of.get((host, finding.device_id))
            if row is not None:
                position = int(present.devices.position.iloc[row])
                of_device = finding.model_copy(
                    update={"scope": "device", "host": host, "position": position, "hosts": ()}
                )
                by_device.setdefault(row, []).append(of_device)


def _devices(
    present: Present, flags: Flags, by_device: dict[int, list[FleetFinding]], past: set[int]
) -> list[DeviceVerdict]:
    found = []
    told = np.isfinite(present.logs).sum(axis=1)
    for row, findings in by_device.items():
        judgement = worst_of(f.judgement for f in findings)
        if row in past or judgement == "pass":
            continue
        device = present.devices.iloc[row]
        findings = worst_first(findings)
        of_figures = [f for f in findings if f.effect is not None]
        worst = min(of_figures, key=lambda f: f.effect or 0.0, default=None)
        found.append(
            DeviceVerdict(
                host=device.host, device_id=device.device_id, position=int(device.position),
                name=device["name"], sku=device.sku, started_at=device.started_at.isoformat(),
                judgement=judgement, worst_metric=worst.metric if worst else None,
                worst_effect=worst.effect if worst else None, worst_z=worst.z if worst else None,
                n_metrics=int(told[row]), n_flagged=sum(f.n_metrics or 0 for f in of_figures),
                findings=tuple(findings),
            )
        )  # fmt: skip
    found.sort(key=lambda d: (ORDER.index(d.judgement), d.worst_effect or 0.0, d.host, d.position))
    return found


def _hosts(
    present: Present, devices: Sequence[DeviceVerdict], about: Sequence[FleetFinding],
    expected: dict[str, int], options: FleetOptions, past: set[int],
) -> tuple[list[HostVerdict], Counter[str]]:  # fmt: skip
    there = Counter(h for row, h in enumerate(present.devices.host) if row not in past)
    of_host: dict[str, list[DeviceVerdict]] = {}
    for device in devices:
        of_host.setdefault(device.host, []).append(device)
    by_host: dict[str, list[FleetFinding]] = {}
    for finding in about:
        for host in finding.hosts or (finding.host or "",):
            by_host.setdefault(host, []).append(finding)
    made, listed = [], told_counts(options)
    for host in sorted({*of_host, *by_host} - {""}):
        own = of_host.get(host, [])
        judgement = worst_of(
            [*(d.judgement for d in own), *(f.judgement for f in by_host.get(host, ()))]
        )
        worst = own[0] if own and own[0].judgement == judgement else None
        sentences = [f.sentence for f in worst_first(by_host.get(host, ()))]
        if own:
            first = own[0]
            sentences.append(
                f"{len(own)} of {plural(there[host], 'device')} "
                f"{'is' if len(own) == 1 else 'are'} no pass; the worst is position "
                f"{first.position}: {first.findings[0].sentence}"
            )
        n_expected = listed.get(host.casefold())
        made.append(
            HostVerdict(
                host=host, judgement=judgement, worst_device_id=worst.device_id if worst else None,
                n_devices=there[host],
                n_expected=n_expected if n_expected is not None else expected.get(host),
                n_not_pass=len(own), sentence="; ".join(sentences),
            )
        )  # fmt: skip
    made.sort(key=lambda h: (ORDER.index(h.judgement), -h.n_not_pass, h.host))
    counts = Counter(str(host.judgement) for host in made)
    counts["pass"] = len({*there, *by_host} - {""}) - len(made)
    return made, counts


def _n_hosts(present: Present, past: set[int]) -> int:
    """Return how many hosts have devices now: one that is only expected has none."""
    return len({host for row, host in enumerate(present.devices.host) if row not in past})


def _refused(state: State | None) -> list[FleetFinding]:
    if state is None or not state.refused:
        return []
    refused = list(state.refused.values())
    codes = Counter(each.code for each in refused)
    return [
        FleetFinding(
            code="refused-files", judgement="unknown", scope="fleet",
            figure=float(len(refused)), unit="files",
            sentence=f"{plural(len(refused), 'file')} could not be merged ("
            + ", ".join(f"{count} {code}" for code, count in codes.most_common())
            + f"); the first: {refused[0].sentence}",
            remedy="mend or remove them, and merge again",
        )
    ]  # fmt: skip


def _source(connection: duckdb.DuckDBPyConnection, where: str, state: State | None) -> FleetSource:
    row = connection.execute(
        "SELECT count(*), count(DISTINCT host), coalesce(sum(n_metrics), 0)::BIGINT, "
        "min(started_at), max(started_at), list(DISTINCT simulated) FROM runs"
    ).fetchone()
    devices = connection.execute("SELECT count(DISTINCT (host, device_id)) FROM devices").fetchone()
    assert row is not None
    assert devices is not None
    return FleetSource(
        where=where, log_version=state.version if state else 0, n_runs=row[0], n_hosts=row[1],
        n_devices=devices[0], n_metrics=row[2], n_refused=len(state.refused) if state else 0,
        first_started_at=row[3].isoformat() if row[3] else None,
        last_started_at=row[4].isoformat() if row[4] else None,
        simulated=tuple(sorted(each for each in row[5] or () if each)),
    )  # fmt: skip


def _skus(
    present: Present, devices: Sequence[DeviceVerdict], past: set[int]
) -> tuple[SkuSummary, ...]:
    frame = present.devices.drop(index=list(past))
    made = []
    for sku, part in frame.groupby("sku", sort=True):
        counts = Counter(str(d.judgement) for d in devices if d.sku == sku)
        counts["pass"] = len(part) - sum(counts.values())
        made.append(
            SkuSummary(
                sku=str(sku), n_devices=len(part), n_hosts=part.host.nunique(),
                drivers=tuple(sorted(part.driver.dropna().unique())),
                power_limits_w=tuple(sorted(part.power_limit_w.dropna().unique())),
                counts=_counts(counts),
            )
        )  # fmt: skip
    return tuple(made)


def _counts(counts: Counter[Any]) -> dict[Judgement, int]:
    return {judgement: int(counts.get(judgement, 0)) for judgement in _JUDGEMENTS}


def _summary(
    judgement: str, source: FleetSource, counts: Counter[Any], n_hosts: int,
    findings: Sequence[FleetFinding],
) -> str:  # fmt: skip
    bad = ", ".join(f"{counts[j]:,} {j}" for j in _JUDGEMENTS if counts.get(j))
    also = Counter(f.code for f in findings if f.judgement != "pass")
    more = "".join(f"; {count} {code}" for code, count in also.most_common())
    made_up = "SIMULATED, nothing was measured: " if source.simulated else ""
    return (
        f"{made_up}{judgement}: {plural(sum(counts.values()), 'device')} on "
        f"{plural(n_hosts, 'host')} ({bad}){more}"
    )
