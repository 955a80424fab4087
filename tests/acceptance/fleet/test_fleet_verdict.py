"""The verdict on tables made by hand: each judgement for the reason that it should have."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofprobe.acceptance.fleet.expected import read_expected
from roofprobe.acceptance.fleet.fleet_verdict import (
    DeviceVerdict,
    FleetOptions,
    FleetVerdict,
    fleet_verdict_json_schema,
)
from roofprobe.acceptance.fleet.judge import fleet_verdict, judge_fleet, worst_of
from roofprobe.acceptance.fleet.present import aspect_of
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.fleet.dataset import Fleet
from roofprobe.records.fleet.store import open_store

ROWS = ("fp32", "bf16", "fp8", "int8")
NAMES = (
    *(f"compute {row} {quantity}" for row in ROWS for quantity in ("burst", "settled", "clock")),
    *(f"memory {row} burst" for row in ("read", "write", "copy", "triad")),
    "latency device latency",
)
Judge = Callable[..., FleetVerdict]


def uuid(number: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{number:012}"


@pytest.fixture
def equals(told: Any) -> Callable[..., list[Any]]:
    """Give a function that makes ``n`` devices, four a host, spread by a percent or so."""

    def make(n: int, *, first: int = 0, spread: float = 0.005, **more: Any) -> list[Any]:
        generator = np.random.default_rng(first + 7)
        made = []
        for number in range(first, first + n):
            board = np.exp(generator.normal(0, spread))
            figures = {
                name: 1000 * board * np.exp(generator.normal(0, spread / 4)) for name in NAMES
            }
            made.append(
                told(host=f"h{number // 4:03}", device_id=uuid(number), position=number % 4,
                     figures=figures, **more)
            )  # fmt: skip
        return made

    return make


@pytest.fixture
def judge(tables: Any) -> Judge:
    def of(devices: Sequence[Any], **options: Any) -> FleetVerdict:
        return fleet_verdict(tables(devices), FleetOptions(**options))

    return of


def times(device: Any, factor: float, *words: str) -> Any:
    """Return a device ``factor`` times as fast in the metrics that hold any of ``words``."""
    figures = {
        name: value * (1 / factor if name.endswith("latency") else factor)
        if any(word in name for word in words) else value
        for name, value in device.figures.items()
    }  # fmt: skip
    return replace(device, figures=figures)


def codes(device: DeviceVerdict) -> list[str]:
    return [finding.code for finding in device.findings]


def test_equal_devices_pass(equals: Any, judge: Judge) -> None:
    verdict = judge(equals(40))
    assert verdict.judgement == "pass"
    assert (verdict.devices, verdict.hosts, verdict.findings) == ((), (), ())
    assert verdict.device_counts == {"fail": 0, "unknown": 0, "warn": 0, "pass": 40}
    assert verdict.host_counts["pass"] == 10
    assert len(verdict.criteria) == len(NAMES)


def test_a_criterion_is_the_median_and_the_bounds_that_follow(told: Any, judge: Judge) -> None:
    values = [98.0, 99.0, 99.5, 100.0, 100.0, 100.0, 100.5, 101.0, 102.0, 100.0]
    devices = [
        told(host=str(at), device_id=uuid(at), figures={"compute bf16 burst": value})
        for at, value in enumerate(values)
    ]
    (criterion,) = judge(devices).criteria
    mad = float(np.median(np.abs(np.log(np.array(values) / 100))))
    assert criterion.median == pytest.approx(100)
    assert criterion.mad == pytest.approx(mad)
    assert criterion.scale == pytest.approx(mad / 0.6745)
    assert criterion.bound == pytest.approx(96.5)  # 3.5 deviations are less than 3.5 %
    assert criterion.fail_bound == pytest.approx(95)
    assert (criterion.n, criterion.pooled, criterion.scale_from) == (10, False, "mad")


@pytest.mark.parametrize(
    ("factor", "judgement"), [(0.955, "warn"), (0.92, "fail"), (0.975, None), (1.1, None)]
)
def test_a_slow_device_is_judged_by_how_slow_it_is(
    equals: Any, judge: Judge, factor: float, judgement: str | None
) -> None:
    devices = equals(40, spread=0.002)
    devices[5] = times(devices[5], factor, "compute", "memory", "latency")
    verdict = judge(devices)
    assert [(d.device_id, d.judgement) for d in verdict.devices] == (
        [(uuid(5), judgement)] if judgement else []
    )
    if judgement:
        (finding,) = verdict.devices[0].findings
        assert finding.code == "slow"
        assert finding.effect == pytest.approx(factor - 1, abs=0.006)
        assert finding.figure is not None
        assert finding.median is not None
        assert finding.bound is not None
        assert finding.figure < finding.bound < finding.median
        (host,) = verdict.hosts
        assert (host.host, host.worst_device_id) == ("h001", uuid(5))


def test_more_latency_is_worse(equals: Any, judge: Judge) -> None:
    devices = equals(40, spread=0.002)
    devices[3] = times(devices[3], 0.8, "latency")
    (device,) = judge(devices).devices
    assert device.device_id == uuid(3)
    finding = device.findings[0]
    assert finding.metric == "latency device latency"
    assert finding.cause == "latency"
    assert finding.effect == pytest.approx(-0.2, abs=0.01)
    assert finding.figure is not None
    assert finding.median is not None
    assert finding.figure > finding.median


def test_less_latency_is_better(equals: Any, judge: Judge) -> None:
    devices = equals(40, spread=0.002)
    devices[3] = times(devices[3], 1.25, "latency")
    assert judge(devices).devices == ()


@pytest.mark.parametrize(
    ("words", "cause", "code"),
    [
        (("compute",), "clock", "slow"),
        (("burst", "settled"), "all", "slow"),
        (("memory",), "memory", "slow"),
        (("settled", "clock"), "clock", "slow"),
        (("settled",), "units", "slow"),
        (("bf16",), "clock", "slow-metric"),
        (("bf16 burst", "bf16 settled"), "units", "slow-metric"),
    ],
)
def test_many_metrics_of_one_fault_are_one_finding_with_its_cause(
    equals: Any, judge: Judge, words: tuple[str, ...], cause: str, code: str
) -> None:
    devices = equals(40, spread=0.002)
    devices[9] = times(devices[9], 0.9, *words)
    (device,) = judge(devices).devices
    (finding,) = device.findings
    assert (finding.code, finding.cause) == (code, cause)
    assert finding.n_metrics is not None
    assert finding.n_metrics >= 2
    assert finding.remedy


def test_where_all_are_alike_the_effect_alone_decides(told: Any, judge: Judge) -> None:
    devices = [
        told(host=str(at), device_id=uuid(at), figures=dict.fromkeys(NAMES, 100.0))
        for at in range(12)
    ]
    assert judge(devices).judgement == "pass"
    devices[4] = times(devices[4], 0.98, "compute")
    assert judge(devices).judgement == "pass"
    devices[4] = times(devices[4], 0.94, "compute")
    verdict = judge(devices)
    assert [d.judgement for d in verdict.devices] == ["fail"]
    assert {c.mad for c in verdict.criteria} == {0.0}
    assert {c.scale_from for c in verdict.criteria} == {"mean-deviation", "none"}


def test_too_few_of_a_kind_are_unknown_and_never_pass(equals: Any, judge: Judge) -> None:
    few = equals(9, sku="rare")
    many = equals(20, first=100)
    verdict = judge([*few, *many])
    assert verdict.judgement == "unknown"
    assert {d.sku for d in verdict.devices} == {"rare"}
    assert {code for d in verdict.devices for code in codes(d)} == {"few-peers"}
    assert verdict.device_counts == {"fail": 0, "unknown": 9, "warn": 0, "pass": 20}


def test_few_of_a_driver_are_held_against_those_of_any_driver(equals: Any, judge: Judge) -> None:
    few = equals(4, spread=0.002, driver="590")
    few[1] = times(few[1], 0.9, "compute", "memory")
    verdict = judge([*few, *equals(30, first=100, spread=0.002)])
    assert [(d.device_id, codes(d)) for d in verdict.devices] == [(uuid(1), ["slow"])]
    pooled = [c for c in verdict.criteria if c.pooled]
    assert {(c.driver, c.power_limit_w, c.n) for c in pooled} == {(None, 700.0, 34)}


def test_few_of_a_power_limit_are_held_against_all_and_the_limit_is_told(
    equals: Any, judge: Judge
) -> None:
    few = [times(d, 0.85, "settled", "clock")
           for d in equals(4, spread=0.002, power_limit_w=500.0)]  # fmt: skip
    verdict = judge([*few, *equals(30, first=100, spread=0.002)])
    assert {d.device_id for d in verdict.devices} == {uuid(n) for n in range(4)}
    assert {f.cause for d in verdict.devices for f in d.findings} == {"clock"}
    limit = next(f for f in verdict.findings if f.code == "power-limit")
    assert (limit.n_devices, limit.figure, limit.bound, limit.unit) == (4, 500.0, 700.0, "W")


def test_another_way_of_measuring_is_never_compared(equals: Any, judge: Judge) -> None:
    old = [times(d, 0.8, "compute", "memory") for d in equals(12, method_version=1)]
    new = equals(12, first=100, method_version=2)
    verdict = judge([*old, *new])
    assert verdict.devices == ()
    assert {c.method_version for c in verdict.criteria} == {1, 2}


def test_a_batch_of_boards_is_one_finding_and_its_bad_boards_are_still_found(
    equals: Any, judge: Judge
) -> None:
    batch = [times(d, 0.97, "compute") for d in equals(40, spread=0.003, subsystem="10de:0002")]
    batch[7] = times(batch[7], 0.9, "compute", "memory")
    verdict = judge([*batch, *equals(100, first=100, spread=0.003)])
    (variant,) = [f for f in verdict.findings if f.scope == "sku"]
    assert (variant.code, variant.judgement, variant.n_devices) == ("variant", "warn", 40)
    assert variant.attribute == "pci_subsystem_id=10de:0002"
    assert variant.effect == pytest.approx(-0.03, abs=0.003)
    assert [d.device_id for d in verdict.devices] == [uuid(7)]


def test_two_kinds_without_a_reason_are_one_finding(equals: Any, judge: Judge) -> None:
    devices = [
        times(d, 0.96, "burst", "settled") if n % 8 in (0, 2, 5) else d
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
    devices[:n_slow] = [times(d, 0.92, "settled", "clock") for d in devices[:n_slow]]
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
    devices[:100] = [times(d, 0.92, "settled", "clock") for d in devices[:100]]
    (found,) = judge(devices).findings
    assert (found.code, found.cause, found.n_devices) == ("bimodal", "clock", 100)
    assert "they fill whole hosts" in found.sentence
    assert "cooling" in (found.remedy or "")


def test_whole_hosts_that_are_slower_at_the_same_clock_are_said_to_be_that(
    equals: Any, judge: Judge
) -> None:
    devices = equals(160, spread=0.002)
    devices[:60] = [times(d, 0.92, "settled") for d in devices[:60]]
    (found,) = judge(devices).findings
    assert (found.code, found.cause) == ("bimodal", None)
    assert "at the same clock; they fill whole hosts" in found.sentence


def test_one_metric_with_two_modes_is_one_finding(equals: Any, judge: Judge) -> None:
    lower = [times(d, 0.9, "fp8") for d in equals(60, spread=0.002)]
    verdict = judge([*lower, *equals(100, first=100, spread=0.002)])
    (found,) = verdict.findings
    assert (found.code, found.n_metrics) == ("bimodal", 3)
    assert verdict.devices == ()
    modes = next(c.modes for c in verdict.criteria if c.metric == "compute fp8 burst")
    assert [round(mode.share, 3) for mode in modes] == [0.375, 0.625]
    assert [mode.centre for mode in modes] == pytest.approx([900, 1000], rel=0.01)


def test_drivers_that_differ_are_told_as_groups(equals: Any, judge: Judge) -> None:
    slower = [times(d, 0.96, "compute") for d in equals(20, spread=0.002, driver="590")]
    verdict = judge([*slower, *equals(40, first=100, spread=0.002)])
    (found,) = verdict.findings
    assert (found.code, found.attribute, found.n_devices) == ("driver-apart", "driver=590", 20)
    assert found.effect == pytest.approx(-0.04, abs=0.003)


def test_whole_hosts_at_a_lower_clock_are_one_finding_about_their_place(
    equals: Any, judge: Judge
) -> None:
    devices = equals(80, spread=0.002)
    for at in range(8, 16):  # hosts h002 and h003
        devices[at] = times(devices[at], 0.92, "settled", "clock")
    verdict = judge(devices)
    rack = next(f for f in verdict.findings if f.scope == "fleet")
    assert (rack.code, rack.cause, rack.hosts) == ("throttling-hosts", "clock", ("h002", "h003"))
    assert rack.n_devices == 8
    assert {h.host: h.judgement for h in verdict.hosts} == {"h002": "fail", "h003": "fail"}


def test_a_device_of_another_kind_is_called_that(equals: Any, judge: Judge) -> None:
    h100, pcie = "nvidia_h100_sxm5_80gb", "NVIDIA H100 PCIe 80GB"
    devices = equals(40, spread=0.003, sku=h100)
    other = times(times(devices[2], 0.764, "compute"), 0.597, "memory")
    devices[2] = replace(other, units=114)
    (device,) = judge(devices).devices
    (finding,) = device.findings
    assert (finding.code, finding.judgement) == ("wrong-sku", "fail")
    assert "114 units where its equals have 132" in finding.sentence
    assert pcie in finding.sentence


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


def test_what_a_run_says_of_itself_stays(equals: Any, judge: Judge) -> None:
    devices = equals(40)
    told = json.dumps([{"code": "RP-XID", "judgement": "fail", "sentence": "Xid 79 was seen"}])
    devices[1] = replace(devices[1], judgement="fail", findings=told)
    devices[2] = replace(devices[2], judgement="unknown")
    devices[9] = replace(devices[9], judgement="warn")
    verdict = judge(devices)
    assert [(d.device_id, d.judgement) for d in verdict.devices] == [
        (uuid(1), "fail"), (uuid(2), "unknown"), (uuid(9), "warn"),
    ]  # fmt: skip
    assert "RP-XID: Xid 79 was seen" in verdict.devices[0].findings[0].sentence


def test_a_run_that_was_cut_short_is_unknown(equals: Any, judge: Judge) -> None:
    devices = equals(40)
    devices[:4] = [replace(d, status="incomplete") for d in devices[:4]]
    verdict = judge(devices)
    assert [codes(d) for d in verdict.devices] == [["incomplete-run"]] * 4
    assert "on h000: probe all --out RUNS --resume" in (verdict.devices[0].findings[0].remedy or "")
    assert [(h.host, h.judgement) for h in verdict.hosts] == [("h000", "unknown")]


def test_what_its_equals_have_and_a_device_has_not_is_unknown(equals: Any, judge: Judge) -> None:
    devices = equals(40)
    less = {k: v for k, v in devices[0].figures.items() if "fp8" not in k}
    devices[0] = replace(devices[0], figures=less)
    devices[1] = replace(devices[1], figures={})
    first, second = judge(devices).devices
    assert (codes(first), first.findings[0].n_metrics) == (["missing-metric"], 3)
    assert (codes(second), second.judgement) == (["missing-metric"], "unknown")


def test_the_latest_run_of_a_device_counts(equals: Any, judge: Judge) -> None:
    before = [times(d, 0.8, "compute") if d.device_id == uuid(2) else d for d in equals(40)]
    after = [replace(d, day=5.0) for d in equals(40)]
    assert judge([*before, *after]).devices == ()
    assert [d.device_id for d in judge([*after, *[replace(d, day=9.0) for d in before]]).devices] \
        == [uuid(2)]  # fmt: skip


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


def months(devices: Sequence[Any], runs: int, change: Callable[[Any, int], Any]) -> list[Any]:
    made = []
    for month in range(runs):
        generator = np.random.default_rng(month)
        for device in devices:
            figures = {k: v * np.exp(generator.normal(0, 0.002)) for k, v in device.figures.items()}
            made.append(change(replace(device, day=30.0 * month, figures=figures), month))
    return made


def test_a_device_that_gets_slower_against_the_others_drifts(equals: Any, judge: Judge) -> None:
    def change(device: Any, month: int) -> Any:
        everyone = times(device, 1 - 0.02 * month, "compute")  # all of them: no drift of one
        own = device.device_id == uuid(4)
        return times(everyone, 1 - 0.004 * month, "compute") if own else everyone

    verdict = judge(months(equals(40, spread=0.002), 7, change))
    (device,) = verdict.devices
    assert (device.device_id, codes(device)) == (uuid(4), ["drift"])
    finding = device.findings[0]
    assert finding.effect == pytest.approx(-0.024, abs=0.004)
    assert finding.effect_low is not None
    assert finding.effect_high is not None
    assert finding.effect is not None
    assert finding.effect_low <= finding.effect <= finding.effect_high < 0
    assert finding.since == "2026-03-02T06:00:00"


def test_too_few_runs_tell_of_no_drift(equals: Any, judge: Judge) -> None:
    def change(device: Any, month: int) -> Any:
        own = device.device_id == uuid(4)
        return times(device, 1 - 0.008 * month, "compute") if own else device

    assert judge(months(equals(40, spread=0.002), 4, change)).devices == ()


@pytest.mark.parametrize(
    ("factors", "judgement"),
    [((0.93,), "warn"), ((1.0, 0.93), "warn"), ((0.93, 0.93), "fail"), ((0.88,), "fail"),
     ((0.97, 0.93), "warn")],
)  # fmt: skip
def test_a_figure_that_falls_short_alone_fails_where_it_stays_or_is_far_off(
    equals: Any, judge: Judge, factors: tuple[float, ...], judgement: str
) -> None:
    def change(device: Any, month: int) -> Any:
        own = device.device_id == uuid(4)
        return times(device, factors[month], "memory copy") if own else device

    (device,) = judge(months(equals(40, spread=0.002), len(factors), change)).devices
    (finding,) = device.findings
    assert (finding.code, finding.metric) == ("slow-metric", "memory copy burst")
    assert finding.judgement == judgement
    assert ("repeat the run:" in (finding.remedy or "")) == (judgement == "warn")
    assert ("it stays" in finding.sentence) == (factors == (0.93, 0.93))


def test_a_figure_alone_that_stays_with_another_driver_is_no_second_run(
    equals: Any, judge: Judge
) -> None:
    def change(device: Any, month: int) -> Any:
        own = device.device_id == uuid(4)
        device = replace(device, driver="590") if month else device
        return times(device, 0.93, "memory copy") if own else device

    (device,) = judge(months(equals(40, spread=0.002), 2, change)).devices
    assert device.judgement == "warn"


@pytest.mark.parametrize("factor", [0.95, 1.06])
def test_a_driver_that_costs_or_gives_speed_is_found_on_the_boards_themselves(
    equals: Any, judge: Judge, factor: float
) -> None:
    updated = {uuid(n) for n in range(20)}

    def change(device: Any, month: int) -> Any:
        if month == 0 or device.device_id not in updated:
            return device
        return times(replace(device, driver="590"), factor, "compute")

    verdict = judge(months(equals(40), 2, change))
    (finding,) = verdict.findings
    assert (finding.code, finding.n_devices) == ("change-after-driver", 20)
    assert finding.judgement == ("warn" if factor < 1 else "pass")
    assert finding.effect == pytest.approx(factor - 1, abs=0.004)
    assert finding.effect_low is not None
    assert finding.effect_high is not None
    assert finding.effect_low < factor - 1 < finding.effect_high
    assert verdict.devices == ()


def test_one_host_that_is_slow_since_its_driver_changed_is_told_to_change_it_back(
    equals: Any, judge: Judge
) -> None:
    def change(device: Any, month: int) -> Any:
        if month == 0 or device.host != "h003":
            return device
        return times(replace(device, driver="590"), 0.93, "compute")

    verdict = judge(months(equals(40, spread=0.002), 2, change))
    assert [d.host for d in verdict.devices] == ["h003"] * 4
    for device in verdict.devices:
        (finding,) = device.findings
        assert (finding.attribute, finding.since) == ("driver=590", "2026-04-01T06:00:00")
        assert "it has driver 590 since 2026-04-01, after 580, where 36 of" in finding.sentence
        assert "give it the driver of its equals" in (finding.remedy or "")
    host = next(f for f in verdict.findings if f.code == "slow-host")
    assert "another driver than those (590 since 2026-04-01)" in host.sentence
    assert "give it the driver" in (host.remedy or "")


def test_a_rare_driver_without_history_is_told_without_a_date(equals: Any, judge: Judge) -> None:
    devices = equals(40, spread=0.002)
    devices[9] = times(replace(devices[9], driver="590"), 0.9, "compute")
    (device,) = judge(devices).devices
    assert "it has driver 590, where 39 of its 40 equals have 580" in device.findings[0].sentence


def test_an_update_that_changes_nothing_is_no_finding(equals: Any, judge: Judge) -> None:
    def change(device: Any, month: int) -> Any:
        return replace(device, driver="590") if month else device

    assert judge(months(equals(40), 3, change)).findings == ()


@pytest.mark.parametrize(
    ("judgements", "worst"),
    [
        (["pass", "warn"], "warn"), (["warn", "unknown", "pass"], "unknown"),
        (["unknown", "fail"], "fail"), (["pass"], "pass"),
    ],
)  # fmt: skip
def test_unknown_is_worse_than_a_warning_and_better_than_a_fail(
    judgements: list[str], worst: str
) -> None:
    assert worst_of(judgements) == worst


@pytest.mark.parametrize(
    ("family", "quantity", "unit", "aspect"),
    [
        ("compute", "burst", "TFLOPS", "compute"), ("compute", "settled", "TOPS", "sustained"),
        ("llm", "burst", "GB/s", "memory"), ("memory", "clock", "MHz", "clock"),
        ("launch", "latency", "us", "launch"), ("compute", "temperature", "C", "heat"),
    ],
)  # fmt: skip
def test_metrics_tell_about_what_they_measure(
    family: str, quantity: str, unit: str, aspect: str
) -> None:
    assert aspect_of(family, quantity, unit) == aspect


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


def test_an_empty_fleet_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError) as refused:
        judge_fleet(Fleet(open_store(tmp_path / "none")))
    assert refused.value.code == "empty-fleet"


def test_the_verdict_is_its_schema_s(equals: Any, judge: Judge) -> None:
    import jsonschema

    devices = equals(40)
    devices[5] = times(devices[5], 0.9, "compute")
    document = json.loads(judge(devices).model_dump_json())
    jsonschema.Draft202012Validator(fleet_verdict_json_schema()).validate(document)
