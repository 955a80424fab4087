"""The verdict on tables made by hand: each device is judged for the reason that it should be."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from roofprobe.acceptance.fleet.fleet_verdict import (
    DeviceVerdict,
    FleetVerdict,
    fleet_verdict_json_schema,
)
from roofprobe.acceptance.fleet.judge import judge_fleet, worst_of
from roofprobe.acceptance.fleet.present import aspect_of
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.fleet.dataset import Fleet
from roofprobe.records.fleet.store import open_store

Judge = Callable[..., FleetVerdict]


def uuid(number: int) -> str:
    return f"GPU-00000000-0000-0000-0000-{number:012}"


def codes(device: DeviceVerdict) -> list[str]:
    return [finding.code for finding in device.findings]


def test_equal_devices_pass(equals: Any, judge: Judge) -> None:
    devices = equals(40)
    verdict = judge(devices)
    assert verdict.judgement == "pass"
    assert (verdict.devices, verdict.hosts, verdict.findings) == ((), (), ())
    assert verdict.device_counts == {"fail": 0, "unknown": 0, "warn": 0, "pass": 40}
    assert verdict.host_counts["pass"] == 10
    assert len(verdict.criteria) == len(devices[0].figures)


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
    devices[5] = devices[5].times(factor, "compute", "memory", "latency")
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
    devices[3] = devices[3].times(0.8, "latency")
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
    devices[3] = devices[3].times(1.25, "latency")
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
    devices[9] = devices[9].times(0.9, *words)
    (device,) = judge(devices).devices
    (finding,) = device.findings
    assert (finding.code, finding.cause) == (code, cause)
    assert finding.n_metrics is not None
    assert finding.n_metrics >= 2
    assert finding.remedy


def test_where_all_are_alike_the_effect_alone_decides(equals: Any, judge: Judge) -> None:
    devices = [replace(d, figures=dict.fromkeys(d.figures, 100.0)) for d in equals(12)]
    assert judge(devices).judgement == "pass"
    devices[4] = devices[4].times(0.98, "compute")
    assert judge(devices).judgement == "pass"
    devices[4] = devices[4].times(0.94, "compute")
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
    few[1] = few[1].times(0.9, "compute", "memory")
    verdict = judge([*few, *equals(30, first=100, spread=0.002)])
    assert [(d.device_id, codes(d)) for d in verdict.devices] == [(uuid(1), ["slow"])]
    pooled = [c for c in verdict.criteria if c.pooled]
    assert {(c.driver, c.power_limit_w, c.n) for c in pooled} == {(None, 700.0, 34)}


def test_another_way_of_measuring_is_never_compared(equals: Any, judge: Judge) -> None:
    old = [d.times(0.8, "compute", "memory") for d in equals(12, method_version=1)]
    new = equals(12, first=100, method_version=2)
    verdict = judge([*old, *new])
    assert verdict.devices == ()
    assert {c.method_version for c in verdict.criteria} == {1, 2}


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
    before = [d.times(0.8, "compute") if d.device_id == uuid(2) else d for d in equals(40)]
    after = [replace(d, day=5.0) for d in equals(40)]
    assert judge([*before, *after]).devices == ()
    assert [d.device_id for d in judge([*after, *[replace(d, day=9.0) for d in before]]).devices] \
        == [uuid(2)]  # fmt: skip


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


def test_an_empty_fleet_is_said_to_be_empty(tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError) as refused:
        judge_fleet(Fleet(open_store(tmp_path / "none")))
    assert refused.value.code == "empty-fleet"


def test_the_verdict_is_its_schema_s(equals: Any, judge: Judge) -> None:
    import jsonschema

    devices = equals(40)
    devices[5] = devices[5].times(0.9, "compute")
    document = json.loads(judge(devices).model_dump_json())
    jsonschema.Draft202012Validator(fleet_verdict_json_schema()).validate(document)
