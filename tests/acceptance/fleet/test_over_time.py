"""Runs before: drift, drivers that changed, and figures that stay low."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from roofprobe.acceptance.fleet.fleet_verdict import DeviceVerdict, FleetVerdict

Judge = Callable[..., FleetVerdict]


def uuid(number: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{number:012}"


def codes(device: DeviceVerdict) -> list[str]:
    return [finding.code for finding in device.findings]


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
        everyone = device.times(1 - 0.02 * month, "compute")  # all of them: no drift of one
        own = device.device_id == uuid(4)
        return everyone.times(1 - 0.004 * month, "compute") if own else everyone

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
        return device.times(1 - 0.008 * month, "compute") if own else device

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
        return device.times(factors[month], "memory copy") if own else device

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
        return device.times(0.93, "memory copy") if own else device

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
        return replace(device, driver="590").times(factor, "compute")

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
        return replace(device, driver="590").times(0.93, "compute")

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
    devices[9] = replace(devices[9], driver="590").times(0.9, "compute")
    (device,) = judge(devices).devices
    assert "it has driver 590, where 39 of its 40 equals have 580" in device.findings[0].sentence


def test_an_update_that_changes_nothing_is_no_finding(equals: Any, judge: Judge) -> None:
    def change(device: Any, month: int) -> Any:
        return replace(device, driver="590") if month else device

    assert judge(months(equals(40), 3, change)).findings == ()
