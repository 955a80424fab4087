"""Hosts and devices that should be there and are not, and those that are there twice."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from roofprobe.acceptance.fleet.expected import read_expected
from roofprobe.acceptance.fleet.fleet_verdict import FleetVerdict
from roofprobe.records.errors import RoofprobeError

Judge = Callable[..., FleetVerdict]


def uuid(number: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{number:012}"


def test_an_expected_host_without_a_run_is_unknown(equals: Any, judge: Judge) -> None:
    hosts = {f"h{n:03}": 4 for n in range(10)} | {"h777": None}
    verdict = judge(equals(40), expected=hosts)
    (finding,) = verdict.findings
    assert (finding.code, finding.judgement, finding.host) == ("missing-host", "unknown", "h777")
    assert verdict.judgement == "unknown"
    assert verdict.host_counts == {"fail": 0, "unknown": 1, "warn": 0, "pass": 10}
    assert "40 devices on 10 hosts" in verdict.summary  # the missing one has none


def test_a_host_is_the_one_that_is_expected_whatever_the_case_of_its_name(
    equals: Any, judge: Judge
) -> None:
    verdict = judge(equals(39), expected={f"H{n:03}": 4 for n in range(11)})
    assert [(f.code, f.host) for f in verdict.findings] == [
        ("missing-host", "H010"), ("missing-device", "h009"),
    ]  # fmt: skip
    assert {h.host: h.n_expected for h in verdict.hosts} == {"H010": 4, "h009": 4}


def test_one_is_no_plural(told: Any, judge: Judge) -> None:
    verdict = judge([told(figures={"compute bf16 burst": 1.0})], expected={"b": 1})
    assert "1 device on 1 host (" in verdict.summary
    assert "b and its 1 device should be there" in verdict.findings[0].sentence
    host = next(host for host in verdict.hosts if host.host == "a")
    assert "1 of 1 device is no pass" in host.sentence


def test_a_host_with_fewer_devices_than_expected_is_unknown(equals: Any, judge: Judge) -> None:
    verdict = judge(equals(39), expected={f"h{n:03}": 4 for n in range(10)})
    (finding,) = verdict.findings
    assert (finding.code, finding.host, finding.n_devices) == ("missing-device", "h009", 1)
    (host,) = verdict.hosts
    assert (host.judgement, host.n_devices, host.n_expected) == ("unknown", 3, 4)


def test_a_host_with_fewer_devices_than_its_like_is_unknown(equals: Any, judge: Judge) -> None:
    (finding,) = judge(equals(59)).findings
    assert (finding.code, finding.host) == ("missing-device", "h014")


def test_a_device_that_was_there_before_is_missing(equals: Any, judge: Judge) -> None:
    before = equals(40)
    after = [replace(d, day=30.0) for d in before if d.device_id != uuid(6)]
    verdict = judge([*before, *after])
    (finding,) = verdict.findings
    assert (finding.code, finding.device_id) == ("missing-device", uuid(6))
    assert finding.since == "2026-03-02T06:00:00"
    assert verdict.device_counts["pass"] == 39


def test_a_device_that_moved_to_another_host_is_not_missing(equals: Any, judge: Judge) -> None:
    before = equals(42)
    after = [replace(d, day=30.0) for d in before]
    after[41] = replace(after[41], host="h000", position=4)
    verdict = judge([*before, *after])
    assert [f.code for f in verdict.findings if f.device_id == uuid(41)] == []
    assert sum(verdict.device_counts.values()) == 42


def test_one_id_on_two_hosts_is_unknown_on_both(equals: Any, judge: Judge) -> None:
    devices = equals(40)
    devices[20] = replace(devices[20], device_id=uuid(3))
    verdict = judge(devices)
    (finding,) = verdict.findings
    assert (finding.code, finding.hosts) == ("duplicate-uuid", ("h000", "h005"))
    assert [(d.host, d.judgement) for d in verdict.devices] == [
        ("h000", "unknown"), ("h005", "unknown"),
    ]  # fmt: skip


def test_names_that_every_host_gives_are_no_duplicates(equals: Any, judge: Judge) -> None:
    devices = [replace(d, device_id="cpu", host=f"h{n}") for n, d in enumerate(equals(20))]
    assert judge(devices).judgement == "pass"


def test_a_window_leaves_out_what_is_long_past_and_says_so(equals: Any, judge: Judge) -> None:
    old = equals(20)
    new = [replace(d, day=100.0) for d in equals(40, first=100)]
    assert sum(judge([*old, *new]).device_counts.values()) == 60
    recent = judge([*old, *new], window_days=30)
    assert sum(recent.device_counts.values()) == 40
    assert [(f.code, f.host, f.since) for f in recent.findings] == [
        ("missing-host", f"h{n:03}", "2026-03-02T06:00:00") for n in range(5)
    ]
    assert recent.judgement == "unknown"


def test_a_list_of_hosts_is_read_with_its_counts(tmp_path: Path) -> None:
    path = tmp_path / "hosts.txt"
    path.write_text("# rack 1\nnode-1 8\nnode-2   # no count\n\n")
    assert read_expected(path) == {"node-1": 8, "node-2": None}


@pytest.mark.parametrize("text", ["node-1 eight\n", "a b c\n", "# none\n", "\xff"])
def test_a_list_of_hosts_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "hosts.txt"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(RoofprobeError) as refused:
        read_expected(path)
    assert refused.value.code == "bad-hosts"
