"""Batches, modes, racks and kinds: what is said once of many devices at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from roofprobe.acceptance.fleet.fleet_verdict import FleetVerdict

Judge = Callable[..., FleetVerdict]


def uuid(number: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{number:012}"


def test_a_batch_of_boards_is_one_finding_and_its_bad_boards_are_still_found(
    equals: Any, judge: Judge
) -> None:
    batch = [d.times(0.97, "compute") for d in equals(40, spread=0.003, subsystem="10de:0002")]
    batch[7] = batch[7].times(0.9, "compute", "memory")
    verdict = judge([*batch, *equals(100, first=100, spread=0.003)])
    (variant,) = [f for f in verdict.findings if f.scope == "sku"]
    assert (variant.code, variant.judgement, variant.n_devices) == ("variant", "warn", 40)
    assert variant.attribute == "pci_subsystem_id=10de:0002"
    assert variant.effect == pytest.approx(-0.03, abs=0.003)
    assert [d.device_id for d in verdict.devices] == [uuid(7)]


def test_two_kinds_without_a_reason_are_one_finding(equals: Any, judge: Judge) -> None:
    devices = [
        d.times(0.96, "burst", "settled") if n % 8 in (0, 2, 5) else d
        for n, d in enumerate(equals(160, spread=0.003))
    ]
    verdict = judge(devices)
    (found,) = verdict.findings
    assert (found.code, found.scope, found.n_devices) == ("bimodal", "sku", 60)
    assert found.effect == pytest.approx(-0.04, abs=0.004)
    assert found.cause is None
    assert "which was ordered" in (found.remedy or "")
    assert verdict.devices == ()


@pytest.mark.parametrize("n_slow", [40, 60])
def test_many_hosts_at_a_lower_clock_throttle_and_are_no_kind(
    equals: Any, judge: Judge, n_slow: int
) -> None:
    devices = equals(160, spread=0.002)
    devices[:n_slow] = [d.times(0.92, "settled", "clock") for d in devices[:n_slow]]
    verdict = judge(devices)
    assert {d.device_id for d in verdict.devices} == {uuid(n) for n in range(n_slow)}
    assert {f.cause for d in verdict.devices for f in d.findings} == {"clock"}
    found = {f.code: f for f in verdict.findings}
    assert set(found) == {"throttling-hosts", "slow-host"}
    assert "power or heat of the place" in found["throttling-hosts"].sentence
    assert found["throttling-hosts"].n_devices == n_slow
    assert found["throttling-hosts"].effect == pytest.approx(-0.08, abs=0.005)


def test_most_devices_at_a_lower_clock_are_a_mode_whose_cause_is_the_clock(
    equals: Any, judge: Judge
) -> None:
    devices = equals(160, spread=0.002)
    devices[:100] = [d.times(0.92, "settled", "clock") for d in devices[:100]]
    (found,) = judge(devices).findings
    assert (found.code, found.cause, found.n_devices) == ("bimodal", "clock", 100)
    assert "they fill whole hosts" in found.sentence
    assert "cooling" in (found.remedy or "")


def test_whole_hosts_that_are_slower_at_the_same_clock_are_said_to_be_that(
    equals: Any, judge: Judge
) -> None:
    devices = equals(160, spread=0.002)
    devices[:60] = [d.times(0.92, "settled") for d in devices[:60]]
    (found,) = judge(devices).findings
    assert (found.code, found.cause) == ("bimodal", None)
    assert "at the same clock; they fill whole hosts" in found.sentence


def test_one_metric_with_two_modes_is_one_finding(equals: Any, judge: Judge) -> None:
    lower = [d.times(0.9, "fp8") for d in equals(60, spread=0.002)]
    verdict = judge([*lower, *equals(100, first=100, spread=0.002)])
    (found,) = verdict.findings
    assert (found.code, found.n_metrics) == ("bimodal", 3)
    assert verdict.devices == ()
    modes = next(c.modes for c in verdict.criteria if c.metric == "compute fp8 burst")
    assert [round(mode.share, 3) for mode in modes] == [0.375, 0.625]
    assert [mode.centre for mode in modes] == pytest.approx([900, 1000], rel=0.01)


def test_drivers_that_differ_are_told_as_groups(equals: Any, judge: Judge) -> None:
    slower = [d.times(0.96, "compute") for d in equals(20, spread=0.002, driver="590")]
    verdict = judge([*slower, *equals(40, first=100, spread=0.002)])
    (found,) = verdict.findings
    assert (found.code, found.attribute, found.n_devices) == ("driver-apart", "driver=590", 20)
    assert found.effect == pytest.approx(-0.04, abs=0.003)


def test_whole_hosts_at_a_lower_clock_are_one_finding_about_their_place(
    equals: Any, judge: Judge
) -> None:
    devices = equals(80, spread=0.002)
    for at in range(8, 16):  # hosts h002 and h003
        devices[at] = devices[at].times(0.92, "settled", "clock")
    verdict = judge(devices)
    rack = next(f for f in verdict.findings if f.scope == "fleet")
    assert (rack.code, rack.cause, rack.hosts) == ("throttling-hosts", "clock", ("h002", "h003"))
    assert rack.n_devices == 8
    assert {h.host: h.judgement for h in verdict.hosts} == {"h002": "fail", "h003": "fail"}


def test_a_device_of_another_kind_is_called_that(equals: Any, judge: Judge) -> None:
    h100, pcie = "nvidia_h100_sxm5_80gb", "NVIDIA H100 PCIe 80GB"
    devices = equals(40, spread=0.003, sku=h100)
    other = devices[2].times(0.764, "compute").times(0.597, "memory")
    devices[2] = replace(other, units=114)
    (device,) = judge(devices).devices
    (finding,) = device.findings
    assert (finding.code, finding.judgement) == ("wrong-sku", "fail")
    assert "114 units where its equals have 132" in finding.sentence
    assert pcie in finding.sentence


def test_few_of_a_power_limit_are_held_against_all_and_the_limit_is_told(
    equals: Any, judge: Judge
) -> None:
    few = [d.times(0.85, "settled", "clock")
           for d in equals(4, spread=0.002, power_limit_w=500.0)]  # fmt: skip
    verdict = judge([*few, *equals(30, first=100, spread=0.002)])
    assert {d.device_id for d in verdict.devices} == {uuid(n) for n in range(4)}
    assert {f.cause for d in verdict.devices for f in d.findings} == {"clock"}
    limit = next(f for f in verdict.findings if f.code == "power-limit")
    assert (limit.n_devices, limit.figure, limit.bound, limit.unit) == (4, 500.0, 700.0, "W")
