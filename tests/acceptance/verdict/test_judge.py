"""Copies of one H100's record, each with one thing changed, and the verdict that each deserves."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType

import pytest

from roofprobe.acceptance.verdict.judge import judge
from roofprobe.records.schema import Health, Judgement, Measurement, Run, Span

Change = Callable[[ModuleType, Run], Run]


def of_memory(m: Measurement) -> bool:
    return m.case.family == "memory"


def of_bf16(m: Measurement) -> bool:
    return m.case.family == "compute" and m.case.precision == "bf16"


def throttled(h100: ModuleType, run: Run) -> Run:
    """Halve the clock of all compute, and with it the rates: as many cycles as before."""

    def slowed(m: Measurement) -> Measurement:
        if m.clock_mhz is None:
            return m
        half = m.clock_mhz.median / 2
        clock = Span(min=half, median=half, max=half)
        changed: Measurement = h100.at_speed(m, 0.5)
        return changed.model_copy(update={"clock_mhz": clock})

    measurements = tuple(map(slowed, run.measurements))
    done: Run = h100.finished(run.model_copy(update={"measurements": measurements}))
    return done


def with_ecc_error(h100: ModuleType, run: Run) -> Run:
    before = Health(source="nvml", ecc_corrected=0, ecc_uncorrected=0)
    after = before.model_copy(update={"ecc_uncorrected": 2})
    changed: Run = h100.with_device(run, health_before=before, health_after=after)
    return changed


def skipped_for_want_of_time(h100: ModuleType, run: Run) -> Run:
    reason = {"code": "time-budget", "sentence": "the time budget was spent before its turn"}
    last = run.measurements[-1]
    late = Measurement.model_validate(
        {"case": last.case, "device_id": last.device_id, "status": "skipped", "reason": reason}
    )
    done: Run = h100.finished(
        run.model_copy(update={"measurements": (*run.measurements[:-1], late)})
    )
    return done


# What was changed, the verdict, the code that says why (and a word of its sentence).
COPIES: dict[str, tuple[Change, Judgement, str | None, str]] = {
    "itself": (lambda h100, run: run, "pass", None, ""),
    "power-limit-lowered": (
        lambda h100, run: h100.with_device(run, limits={"power_limit_w": 500}),
        "fail", "RP-POWER-LIMIT", "71%",
    ),
    "power-limit-lowered-a-little": (
        lambda h100, run: h100.with_device(run, limits={"power_limit_w": 650}),
        "warn", "RP-POWER-LIMIT", "93%",
    ),
    "power-limit-and-default-lowered": (
        lambda h100, run: h100.with_device(
            run, limits={"power_limit_w": 350, "default_power_limit_w": 350}
        ),
        "fail", "RP-POWER-LIMIT", "50% of the TDP",
    ),
    "power-limit-lowered-meanwhile": (
        lambda h100, run: h100.with_device(run, health_after=Health(power_limit_w=450)),
        "fail", "RP-POWER-LIMIT", "64%",
    ),
    "renamed-to-h200": (
        lambda h100, run: h100.with_device(run, name="NVIDIA H200"),
        "fail", "RP-IDENTITY", "H200",
    ),
    "renamed-to-h200-without-pci-id": (
        lambda h100, run: h100.with_device(
            run, name="NVIDIA H200", pci_id=None, catalogue_key="nvidia_h200_sxm_141gb"
        ),
        "fail", "RP-IDENTITY", "141",
    ),
    "renamed-to-what-nobody-knows": (
        lambda h100, run: h100.with_device(run, name="NVIDIA Graphics Device"),
        "unknown", "RP-IDENTITY", "none of its names",
    ),
    "units-fused-off": (
        lambda h100, run: h100.with_device(run, unit_count=114), "fail", "RP-UNITS", "114",
    ),
    "half-of-the-memory": (
        lambda h100, run: h100.with_device(run, memory_bytes=40 << 30),
        "fail", "RP-MEMORY-SIZE", "40.0 GiB",
    ),
    "clock-locked": (
        lambda h100, run: h100.with_device(run, limits={"max_sm_clock_mhz": 1880}),
        "warn", "RP-CLOCK-LIMIT", "1880",
    ),
    "a-slice": (
        lambda h100, run: h100.with_device(run, limits={"mig_enabled": True}),
        "unknown", "RP-IDENTITY", "part of a card",
    ),
    "bandwidth-30-percent-less": (
        lambda h100, run: h100.scaled(run, 0.7, of_memory), "fail", "RP-BANDWIDTH", "66%",
    ),
    "half-of-the-rows-missing": (
        lambda h100, run: run.model_copy(update={"measurements": run.measurements[::2]}),
        "unknown", "RP-COMPLETE", "60 of 121",
    ),
    "half-of-the-rows-missing-everywhere": (
        lambda h100, run: h100.finished(
            run.model_copy(update={"measurements": run.measurements[1::2]})
        ),
        "unknown", "RP-COMPLETE", "61 of 121",
    ),
    "no-time-for-one-case": (skipped_for_want_of_time, "unknown", "RP-COMPLETE", "1 of 121"),
    "cut-short": (
        lambda h100, run: run.model_copy(update={"status": "incomplete"}),
        "unknown", "RP-COMPLETE", "cut short",
    ),
    "no-plan": (
        lambda h100, run: run.model_copy(update={"planned": {}}),
        "unknown", "RP-COMPLETE", "planned",
    ),
    "ecc-error": (with_ecc_error, "fail", "RP-ECC", ""),
    "one-precision-half-as-fast": (
        lambda h100, run: h100.scaled(run, 0.5, of_bf16), "fail", "RP-COMPUTE", "slow at its clock",
    ),
    "clocks-throttled": (throttled, "fail", "RP-COMPUTE", "its clock was low"),
    "above-the-pins": (
        lambda h100, run: h100.scaled(run, 1.2, of_memory), "unknown", "RP-INVALID", "physical",
    ),
    "unknown-card": (
        lambda h100, run: h100.with_device(run, name="NVIDIA Example 9000", pci_id="10de:ffff"),
        "unknown", "RP-IDENTITY", "No catalogue row",
    ),
    "older-method": (
        lambda h100, run: run.model_copy(update={"method_version": 0}),
        "warn", "RP-METHOD", "older",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", COPIES)
def test_each_copy_gets_the_verdict_that_it_deserves(
    name: str, h100: ModuleType, healthy: Run
) -> None:
    change, judgement, code, word = COPIES[name]
    verdict = judge(change(h100, healthy))
    assert verdict.judgement == judgement
    if code is None:
        assert {f.judgement for f in verdict.findings if f.required} == {"pass"}
        return
    why = [f for f in verdict.findings if f.code == code and f.judgement == judgement]
    assert any(word in f.sentence for f in why), [f.sentence for f in verdict.findings]
    assert all(f.remedy for f in why)


@pytest.mark.parametrize(
    "name", ["power-limit-lowered", "bandwidth-30-percent-less", "one-precision-half-as-fast"]
)
def test_a_change_of_one_thing_fails_that_check_alone(
    name: str, h100: ModuleType, healthy: Run
) -> None:
    change, _, code, _ = COPIES[name]
    verdict = judge(change(h100, healthy))
    assert {f.code for f in verdict.findings if f.judgement == "fail"} == {code}
    assert verdict.host == "pass"


def test_findings_name_the_device_by_index_uuid_and_pci_id(healthy: Run) -> None:
    device = healthy.devices[0]
    for found in judge(healthy).findings:
        if found.device_id is not None:
            assert found.device == f"cuda:0 ({device.uuid}, {device.pci_bus_id})"


def test_stored_headlines_and_verdict_are_not_believed(h100: ModuleType, healthy: Run) -> None:
    slow = h100.scaled(healthy, 0.7, of_memory)
    painted = slow.model_copy(update={"headlines": healthy.headlines, "verdict": healthy.verdict})
    verdict = judge(painted)
    assert verdict.judgement == "fail"
    answers = {(f.code, f.judgement) for f in verdict.findings}
    assert {("RP-BANDWIDTH", "fail"), ("RP-RECORD", "unknown")} <= answers
