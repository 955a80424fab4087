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


def mostly_slow(equals: Any, n_slow: int = 100, **slow: Any) -> list[Any]:
    """Return 160 devices, ``n_slow`` of which, on whole hosts, settle 8 % lower in clock and speed.

    The clock of the others is about 1,000 MHz.
    """
    devices = equals(160, spread=0.002, max_clock_mhz=1100.0)
    devices[:n_slow] = [
        replace(d.times(0.92, "settled", "clock"), **slow) for d in devices[:n_slow]
    ]
    return list(devices)


@pytest.mark.parametrize("n_slow", [80, 96, 116])
def test_most_devices_throttle_where_they_may_run_as_fast_as_the_others(
    equals: Any, judge: Judge, n_slow: int
) -> None:
    verdict = judge(mostly_slow(equals, n_slow))
    found = {f.code: f for f in verdict.findings}
    assert set(found) == {"most-throttle", "throttling-hosts", "slow-host"}
    most = found["most-throttle"]
    assert (most.judgement, most.cause, most.n_devices) == ("fail", "clock", n_slow)
    assert most.n_peers == 160 - n_slow
    assert (most.figure, most.median) == pytest.approx((920, 1000), rel=0.005)
    assert (most.bound, most.unit) == (None, "MHz")
    assert "their highest clock is 1,100 MHz" in most.sentence
    assert {d.device_id for d in verdict.devices} == {uuid(n) for n in range(n_slow)}
    assert {f.cause for d in verdict.devices for f in d.findings} == {"clock"}
    assert found["throttling-hosts"].n_devices == n_slow


def test_of_a_kind_in_the_catalogue_the_boost_clock_tells_what_it_may_reach(
    equals: Any, judge: Judge
) -> None:
    devices = [
        replace(d, sku="nvidia_h100_sxm5_80gb", max_clock_mhz=None) for d in mostly_slow(equals)
    ]
    found = {f.code: f for f in judge(devices).findings}
    assert "the datasheet's boost clock is 1,980 MHz" in found["most-throttle"].sentence
    assert found["most-throttle"].bound is None, "what is allowed is no bound of the figure"


def test_most_devices_with_a_highest_clock_that_was_set_lower_are_below_their_kind(
    equals: Any, judge: Judge
) -> None:
    devices = [
        replace(d, sku="nvidia_h100_sxm5_80gb", max_clock_mhz=930.0 if n < 100 else 1980.0)
        for n, d in enumerate(mostly_slow(equals))
    ]
    found = {f.code: f for f in judge(devices).findings}
    assert "a highest clock of 930 MHz is set for them" in found["most-throttle"].sentence
    assert "nvidia-smi -q -d CLOCK" in (found["most-throttle"].remedy or "")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"max_clock_mhz": None}, "no highest clock is recorded, nor known of the kind"),
        ({"max_clock_mhz": 930.0}, "the faster ones run above the highest clock of the others"),
    ],
    ids=["no clock", "another clock"],
)
def test_where_nothing_tells_what_most_should_reach_both_are_modes(
    equals: Any, judge: Judge, changed: dict[str, Any], why: str
) -> None:
    verdict = judge(mostly_slow(equals, **changed))
    (found,) = verdict.findings
    assert (found.code, found.cause, found.n_devices) == ("bimodal", "clock", 100)
    assert "they fill whole hosts" in found.sentence
    assert f"which of both such devices should reach is not told: {why}" in found.sentence
    assert "cooling" in (found.remedy or "")
    assert verdict.devices == ()


def test_without_power_limits_most_devices_may_well_be_limited(equals: Any, judge: Judge) -> None:
    devices = [replace(d, power_limit_w=None) for d in mostly_slow(equals)]
    (found,) = judge(devices).findings
    assert found.code == "bimodal"
    assert "is not told: no power limit is recorded" in found.sentence


def test_most_devices_at_a_lower_clock_on_hosts_that_have_both_are_a_mode(
    equals: Any, judge: Judge
) -> None:
    devices = equals(160, spread=0.002, max_clock_mhz=1100.0)
    devices = [d.times(0.92, "settled", "clock") if n % 8 < 5 else d for n, d in enumerate(devices)]
    (found,) = judge(devices).findings
    assert (found.code, found.cause, found.n_devices) == ("bimodal", "clock", 100)


def test_few_devices_at_a_higher_clock_are_no_measure_of_the_others(
    equals: Any, judge: Judge
) -> None:
    devices = equals(24, spread=0.002, max_clock_mhz=1100.0)
    devices[:16] = [d.times(0.92, "settled", "clock") for d in devices[:16]]
    verdict = judge(devices)
    (found,) = verdict.findings
    assert found.code == "bimodal"
    assert "is not told: fewer than 10 are faster" in found.sentence
    assert {code for d in verdict.devices for code in (f.code for f in d.findings)} == {"few-peers"}


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
