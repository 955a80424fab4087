"""Which hosts and devices should be there, and whether each device is one and is where it was.

Not run is not OK: a host that was expected and sent nothing, a device that a host had before, a
device id on two hosts within a day are ``unknown``, never a silent pass. Expected is what a list of
hosts says, else what the host had itself, else what nearly all hosts of its kind have.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from roofprobe.acceptance.fleet.fleet_verdict import FleetFinding, FleetOptions
from roofprobe.acceptance.fleet.present import OWNER, Present
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.reading import read_bytes, said
from roofprobe.records.wording import plural

if TYPE_CHECKING:
    import duckdb

_SAME_TIME: Final = "INTERVAL 24 HOUR"  # nobody moves a board to another host and back in a day
_NEARLY_ALL: Final = 0.9
_MOST_BYTES: Final = 64 << 20


def read_expected(path: Path) -> dict[str, int | None]:
    """Return the hosts of a file, one a line, each with its devices where a number follows.

    Empty lines and what follows ``#`` count for nothing. Raises ``RoofprobeError`` (``unreadable``,
    ``bad-hosts``).
    """
    try:
        text = read_bytes(path, _MOST_BYTES).decode()
    except OSError as error:
        raise RoofprobeError("unreadable", said(path, error)) from error
    except UnicodeDecodeError as error:
        raise RoofprobeError("bad-hosts", f"{path} is no text; write a host per line") from error
    hosts: dict[str, int | None] = {}
    for number, line in enumerate(text.splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) > 2 or (len(words) == 2 and not words[1].isdecimal()):
            raise RoofprobeError(
                "bad-hosts", f"{path} line {number} is not 'host' or 'host devices': {line.strip()}"
            )
        hosts[words[0]] = int(words[1]) if len(words) == 2 else None
    if not hosts:
        raise RoofprobeError("bad-hosts", f"{path} names no host; write a host per line")
    return hosts


def told_counts(options: FleetOptions) -> dict[str, int | None]:
    """Return how many devices the list says of each host, by its name in lower case.

    Names of hosts know no case (RFC 4343).
    """
    return {name.casefold(): count for name, count in options.expected.items()}


def expected_devices(present: Present, options: FleetOptions) -> dict[str, int]:
    """Return how many devices each host should have, where anything tells."""
    frame = present.devices
    seen: Counter[str] = Counter(frame.host)
    sku_of = dict(zip(frame.host, frame.sku, strict=True))
    sizes: dict[str, Counter[int]] = {}
    for host, count in seen.items():
        sizes.setdefault(sku_of[host], Counter())[count] += 1
    usual: dict[str, int] = {}
    for sku, counts in sizes.items():
        size, hosts = counts.most_common(1)[0]
        total = sum(counts.values())
        if total >= options.least_peers and hosts >= _NEARLY_ALL * total:
            usual[sku] = size
    told: dict[str, int] = {}
    listed = told_counts(options)
    for host in seen:
        known = listed.get(host.casefold()) or usual.get(sku_of[host])
        if known is not None:
            told[host] = known
    return told


def missing_hosts(
    connection: duckdb.DuckDBPyConnection, present: Present, options: FleetOptions
) -> Iterator[FleetFinding]:
    """Yield hosts that were expected, or were there before the window, and sent nothing in it."""
    seen = dict(
        connection.execute("SELECT host, max(started_at) FROM runs GROUP BY host").fetchall()
    )
    there, listed = set(present.devices.host), told_counts(options)
    known = {host.casefold() for host in (*seen, *there)}
    unheard = {host for host in options.expected if host.casefold() not in known}
    for host in sorted({*unheard, *seen} - there):
        count, last = listed.get(host.casefold()), seen.get(host)
        devices = "" if count is None else f" and its {plural(count, 'device')}"
        when = "no run of it is in the fleet" if last is None else f"its last run is of {last:%F}"
        yield FleetFinding(
            code="missing-host", judgement="unknown", scope="host", host=host, n_devices=count,
            since=last.isoformat() if last else None,
            sentence=f"{host}{devices} should be there, and {when}",
            remedy="see whether the host is up and probe ran there; merge its run folder",
        )  # fmt: skip


def missing_devices(
    connection: duckdb.DuckDBPyConnection, present: Present, expected: Mapping[str, int]
) -> tuple[list[FleetFinding], set[int]]:
    """Return what hosts lack, and the rows of ``present`` that are of the past.

    A device that the host's newest runs no longer have is missing, unless another host has it.
    """
    gone = connection.execute(
        f"""
        WITH newest AS (SELECT host, max(started_at) AS at FROM present GROUP BY host)
        SELECT p.row, p.host, p.device_id, p.position, p.sku, p.started_at, (
            SELECT min(o.host) FROM present o WHERE o.owner = p.owner AND o.host <> p.host
            AND o.started_at > p.started_at + {_SAME_TIME}
        ) AS moved FROM present p JOIN newest USING (host)
        WHERE p.started_at < newest.at - {_SAME_TIME}
            OR EXISTS (SELECT 1 FROM present o WHERE o.owner = p.owner AND o.host <> p.host
                AND o.started_at > p.started_at + {_SAME_TIME})
        ORDER BY p.row
        """
    ).fetchall()
    findings = []
    past = {int(row) for row, *_ in gone}
    lost: Counter[str] = Counter()
    for _, host, device_id, position, sku, started_at, moved in gone:
        if moved is None:
            lost[host] += 1
            findings.append(
                FleetFinding(
                    code="missing-device", judgement="unknown", scope="host", host=host, sku=sku,
                    device_id=device_id, position=position, since=started_at.isoformat(),
                    n_devices=1, hosts=(host,),
                    sentence=f"{host} no longer shows {device_id} (position {position}), last "
                    f"measured {started_at:%Y-%m-%d}",
                    remedy="see whether the driver lists it and its errors (Xid), then repeat",
                )
            )  # fmt: skip
    there: Counter[str] = Counter(
        host for row, host in enumerate(present.devices.host) if row not in past
    )
    for host, count in sorted(expected.items()):
        short = count - there[host] - lost[host]
        if short > 0 and there[host]:
            findings.append(
                FleetFinding(
                    code="missing-device", judgement="unknown", scope="host", host=host,
                    n_devices=short, figure=float(there[host]), bound=float(count),
                    unit="devices", hosts=(host,),
                    sentence=f"{host} shows {there[host]} of {plural(count, 'device')}",
                    remedy="see whether the driver lists them all and their errors (Xid); repeat",
                )
            )  # fmt: skip
    return findings, past


def duplicate_ids(connection: duckdb.DuckDBPyConnection) -> list[FleetFinding]:
    """Return devices that two hosts had within a day."""
    rows = connection.execute(
        f"""
        WITH seen AS (
            SELECT {OWNER} AS owner, device_id, host, started_at FROM devices
            WHERE length(device_id) >= 16
        ), twice AS (
            SELECT owner FROM seen GROUP BY owner HAVING count(DISTINCT host) > 1
        )
        SELECT a.device_id, list_sort(list_distinct(list(a.host) || list(b.host))),
            max(b.started_at)
        FROM seen a JOIN seen b ON a.owner = b.owner AND a.host < b.host
            AND b.started_at BETWEEN a.started_at - {_SAME_TIME} AND a.started_at + {_SAME_TIME}
        WHERE a.owner IN (SELECT owner FROM twice)
        GROUP BY a.device_id ORDER BY a.device_id
        """
    ).fetchall()
    return [
        FleetFinding(
            code="duplicate-uuid", judgement="unknown", scope="host", device_id=device_id,
            host=hosts[0], hosts=tuple(hosts), n_devices=1, since=at.isoformat(),
            sentence=f"{device_id} was measured on {' and '.join(hosts)} within a day: a host goes "
            "by two names, or an id was copied",
            remedy="give a host one name (containers: --hostname), and look at the board's id",
        )
        for device_id, hosts, at in rows
    ]  # fmt: skip


def worst_first(findings: Iterable[FleetFinding]) -> list[FleetFinding]:
    """Return findings, the worst first, and of equally bad ones the larger effect."""
    return sorted(
        findings,
        key=lambda f: (ORDER.index(f.judgement), f.effect if f.effect is not None else 0.0),
    )


ORDER: Final = ("fail", "unknown", "warn", "pass")
