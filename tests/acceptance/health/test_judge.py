"""What counters before and after a run amount to; and that a question without answer never helps.

GPUs are doubles of NVML, whose values are invented or from its documentation; judging is real.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

from roofprobe.acceptance.checks import CHECKS
from roofprobe.acceptance.health import judge
from roofprobe.acceptance.health.xid import ACTIONS
from roofprobe.acceptance.verdict.judge import rolled_up
from roofprobe.probes import devices, health
from roofprobe.probes.backends import CpuBackend
from roofprobe.records.schema import (
    Case,
    Correctness,
    Device,
    Environment,
    Finding,
    Health,
    Limits,
    Measurement,
    Options,
    Reason,
    Run,
    Span,
    Telemetry,
)

ORDER = ("pass", "warn", "unknown", "fail")
CLEAN: dict[str, Any] = {
    "source": "nvml", "ecc_corrected": 0, "ecc_uncorrected": 0, "ecc_corrected_total": 0,
    "ecc_uncorrected_total": 0, "remapped_rows_corrected": 0, "remapped_rows_uncorrected": 0,
    "remapping_pending": False, "remapping_failed": False, "retired_pages": 0,
    "retirement_pending": False, "xids": (), "pcie_replays": 5, "nvlink_active": 18,
    "nvlink_errors": 7, "temperature_c": 40.0, "slowdown_temperature_c": 87.0,
    "throttle_ns": {"power": 10, "hw_thermal": 20, "sw_thermal": 30, "brake": 0, "sync": 0},
}  # fmt: skip


def measurement(**fields: Any) -> Measurement:
    case = Case(
        case_id="copy", family="memory", op="copy", precision="fp32", route="torch",
        shape={"elements": 1},
    )  # fmt: skip
    return Measurement(**{"case": case, "device_id": "GPU-0", "status": "ok", "wall_s": 100.0,
                          **fields})  # fmt: skip


def run_of(
    after: dict[str, Any] | None = None,
    before: dict[str, Any] | None = None,
    *measurements: Measurement,
    **device: Any,
) -> Run:
    limits = Limits(ecc_enabled=True, mig_enabled=False, persistence_mode=True)
    fields: dict[str, Any] = {
        "device_id": "GPU-0", "torch_device": "cuda:0", "backend": "cuda", "name": "NVIDIA H200",
        "limits": limits, "health_before": Health(**CLEAN | (before or {})),
        "health_after": Health(**CLEAN | (after or {})), **device,
    }  # fmt: skip
    return Run(
        run_id="r", status="complete", started_at="2026-01-01T00:00:00+00:00",
        options=Options(families=("memory",)),
        environment=Environment(host="h", os="o", kernel="k", python="3", roofprobe="0"),
        devices=(Device(**fields),), measurements=measurements or (measurement(),),
    )  # fmt: skip


def answers(run: Run) -> dict[str, Finding]:
    """Return the worst answer to each check."""
    worst: dict[str, Finding] = {}
    for found in judge.health(run):
        known = worst.get(found.code)
        if known is None or ORDER.index(found.judgement) > ORDER.index(known.judgement):
            worst[found.code] = found
    return worst


def throttled(**reasons: Any) -> Measurement:
    return measurement(telemetry=Telemetry(**reasons))


def test_a_healthy_device_passes_each_check() -> None:
    found = answers(run_of())
    assert {code: answer.judgement for code, answer in found.items()} == {
        code: "pass"
        for code, check in CHECKS.items()
        if check.layer == "health" and code != "RP-SDC"  # nothing was repeated in this run
    }
    assert all(answer.remedy is None for answer in found.values())


@pytest.mark.parametrize(
    ("code", "judgement", "after", "words"),
    [
        ("RP-ECC", "fail", {"ecc_uncorrected": 2}, "2 errors that could not be corrected"),
        ("RP-ECC", "fail", {"ecc_uncorrected_total": 1}, "1 errors of the memory could not"),
        ("RP-ECC", "warn", {"ecc_corrected": 11}, "11 errors of the memory were corrected"),
        ("RP-ECC", "pass", {"ecc_corrected": 10}, "10 were corrected"),
        ("RP-REMAP", "fail", {"remapping_failed": True, "remapped_rows_uncorrected": 8}, "8 were"),
        ("RP-REMAP", "warn", {"remapping_pending": True}, "waits to be replaced"),
        ("RP-REMAP", "pass", {"remapped_rows_corrected": 3}, "3 bad rows"),
        ("RP-RETIRED", "warn", {"retirement_pending": True}, "until the next reset"),
        ("RP-RETIRED", "fail", {"retired_pages": 64}, "64 pages"),
        ("RP-RETIRED", "pass", {"retired_pages": 3}, "3 bad pages"),
        ("RP-XID", "fail", {"xids": (13, 79)}, "Xid 79 during the run"),
        ("RP-XID", "fail", {"xids": (48,)}, "Xid 48 during the run"),
        ("RP-XID", "warn", {"xids": (31,)}, "Xid 31 during the run"),
        ("RP-XID", "warn", {"xids": (999,)}, "whose meaning is not known here"),
        ("RP-THROTTLE", "fail", {"throttle_ns": {"hw_thermal": 2 * 10**9 + 20, "brake": 0}},
         "for 2 s, 2.0% of the time measured (too hot)"),
        ("RP-THROTTLE", "warn", {"throttle_ns": {"hw_thermal": 20, "brake": 10**8}},
         "for 0.1 s, 0.1% of the time measured (told to by the power supply)"),
        ("RP-THROTTLE", "warn", {"throttle_ns": CLEAN["throttle_ns"] | {"sw_thermal": 10**9}},
         "because the device or its memory was hot"),
        ("RP-THROTTLE", "pass", {"throttle_ns": CLEAN["throttle_ns"] | {"power": 10**10}},
         "its power limit held the clocks for 10 s"),
        ("RP-TEMPERATURE", "warn", {"temperature_c": 82.0}, "it reached 82 °C"),
        ("RP-TEMPERATURE", "pass", {"temperature_c": 81.0}, "slows down at 87 °C"),
        ("RP-PROCESSES", "warn", {"other_processes": ("python (7, compute)",)}, "python (7"),
        ("RP-PCIE-REPLAY", "warn", {"pcie_replays": 16}, "11 packets again"),
        ("RP-PCIE-REPLAY", "pass", {"pcie_replays": 15}, "10 packets again"),
        ("RP-NVLINK-ERRORS", "fail", {"nvlink_active": 17}, "1 of 18 NVLinks went down"),
        ("RP-NVLINK-ERRORS", "warn", {"nvlink_errors": 108}, "101 errors"),
        ("RP-LOST", "fail", {"lost": "gpu-is-lost (nvmlDeviceGetName)"}, "it did not answer"),
        ("RP-HEALTH", "fail", {"state": "Alarm"}, "calls the device's health Alarm"),
        ("RP-HEALTH", "warn", {"state": "Warning"}, "health Warning"),
        ("RP-HEALTH", "unknown", {"state": "UNKNOWN"}, "health UNKNOWN"),
    ],
)  # fmt: skip
def test_each_sign_is_judged_and_told_with_its_figure(
    code: str, judgement: str, after: dict[str, Any], words: str
) -> None:
    found = answers(run_of(after))
    assert found[code].judgement == judgement
    assert words in found[code].sentence
    assert (found[code].remedy is None) == (judgement == "pass")
    others = {c for c, answer in found.items() if answer.judgement != "pass"} - {code}
    if code != "RP-LOST":  # who else is on a lost device is not known either
        assert others == set(), "one sign is one finding"


def test_the_worst_that_a_check_may_answer_is_what_the_catalogue_says() -> None:
    for code, worst in {
        "RP-TEMPERATURE": "warn",
        "RP-PROCESSES": "warn",
        "RP-MIG": "warn",
        "RP-PCIE-REPLAY": "warn",
        "RP-XID": "fail",
        "RP-ECC": "fail",
    }.items():
        assert CHECKS[code].worst == worst


def test_errors_from_before_the_run_count_where_they_still_matter() -> None:
    old = {"ecc_uncorrected": 3}
    assert answers(run_of(old, old))["RP-ECC"].sentence.endswith("before the run: data was lost")
    for xids, judgement in {(79,): "fail", (54,): "fail", (48,): "warn", (31, 13): "pass"}.items():
        told = {"xids": xids}
        assert answers(run_of(told, told))["RP-XID"].judgement == judgement, xids


def test_every_class_of_xid_that_is_documented_is_known() -> None:
    assert {number for number, action in ACTIONS.items() if action == "reboot"} == {79, 151, 168}
    assert ACTIONS[54] == "isolate"
    assert ACTIONS[74] == ACTIONS[119] == "reset"
    assert {ACTIONS[number] for number in (13, 31, 43, 63, 94, 144, 150)} == {"monitor"}


def test_counters_that_went_back_are_not_known_and_no_growth() -> None:
    found = answers(run_of({"pcie_replays": 1, "throttle_ns": {"hw_thermal": 1, "brake": 0}}))
    assert found["RP-PCIE-REPLAY"].judgement == "unknown"
    assert found["RP-THROTTLE"].judgement == "unknown"


def test_reasons_seen_while_cases_ran_count_where_counters_are_silent() -> None:
    silent: dict[str, Any] = {"throttle_ns": {}}
    seen = throttled(throttle_reasons=("hw_thermal", "idle"))
    assert answers(run_of(silent, silent, seen))["RP-THROTTLE"].judgement == "fail"
    assert answers(run_of(None, None, seen))["RP-THROTTLE"].judgement == "warn"
    capped = throttled(throttle_reasons=("sw_power_cap",))
    assert answers(run_of(None, None, capped))["RP-THROTTLE"].judgement == "pass"
    hot = throttled(throttle_reasons=("sw_thermal",))
    assert answers(run_of(None, None, hot))["RP-THROTTLE"].judgement == "warn"


def test_the_highest_temperature_of_any_case_counts() -> None:
    hot = throttled(temperature_c=Span(min=50, median=70, max=86))
    assert answers(run_of(None, None, hot))["RP-TEMPERATURE"].figure == 86


@pytest.mark.parametrize(
    "lost",
    [
        measurement(status="failed", reason=Reason(code="kernel-error", sentence="GPU is lost")),
        measurement(
            telemetry=Telemetry(missing={"sampling": "gpu-is-lost (nvmlDeviceGetClockInfo)"})
        ),
    ],
    ids=["a case says so", "the sensors say so"],
)
def test_a_device_that_was_lost_half_way_fails(lost: Measurement) -> None:
    assert answers(run_of(None, None, lost))["RP-LOST"].judgement == "fail"


def test_a_device_that_was_given_up_is_unknown_and_that_counts() -> None:
    given_up = measurement(
        status="failed", reason=Reason(code="device-given-up", sentence="it was given up")
    )
    found = answers(run_of(None, None, given_up))["RP-LOST"]
    assert (found.judgement, found.required) == ("unknown", True)


def test_ecc_that_is_on_and_untold_is_required_and_off_or_unsupported_is_not() -> None:
    def ecc(reason: str, on: bool | None) -> tuple[str, bool]:
        silent = {"ecc_uncorrected": None, "missing": {"ecc_uncorrected": reason}}
        found = answers(run_of(silent, silent, limits=Limits(ecc_enabled=on)))["RP-ECC"]
        return found.judgement, found.required

    assert ecc("no-permission (nvml)", True) == ("unknown", True)
    assert ecc("not-supported (nvml)", True) == ("unknown", False)
    assert ecc("not-supported (nvml)", None) == ("unknown", False)
    assert ecc("not-told (nvml)", False) == ("unknown", False)


def test_a_list_of_processes_that_may_be_incomplete_is_no_pass() -> None:
    silent = {"missing": {"other_processes": "Process ids are not the host's."}}
    found = answers(run_of(silent, silent))["RP-PROCESSES"]
    assert (found.judgement, found.required) == ("unknown", False)


def test_an_unreadable_log_is_not_one_without_xids() -> None:
    silent = {"xids": None, "missing": {"xids": "no-permission (dmesg)"}}
    found = answers(run_of(silent, silent))["RP-XID"]
    assert (found.judgement, found.required) == ("unknown", False)
    assert "no-permission (dmesg)" in found.sentence


def test_a_slice_is_a_warning_and_persistence_a_remark() -> None:
    found = answers(run_of(limits=Limits(mig_enabled=True, persistence_mode=False)))
    assert found["RP-MIG"].judgement == "warn"
    assert found["RP-PERSISTENCE"].judgement == "pass"
    assert "persistence mode is off" in found["RP-PERSISTENCE"].sentence


def test_repeated_work_with_the_same_bits_is_a_pass_and_other_bits_are_not() -> None:
    def stable(**fields: Any) -> Measurement:
        case = measurement().case.model_copy(update={"role": "stability", "op": "stability"})
        return measurement(case=case, **fields)

    correct = Correctness(error=0, tolerance=0, measure="bits", checked_elements=1000)
    found = answers(run_of(None, None, stable(correctness=correct)))
    assert found["RP-SDC"].judgement == "pass"
    wrong = stable(status="failed", reason=Reason(code="unstable-bits", sentence="2 differ"))
    assert "RP-SDC" not in answers(run_of(None, None, wrong, stable()))


@pytest.mark.parametrize(
    ("backend", "required"), [("cuda", True), ("rocm", False), ("xpu", False), ("cpu", False)]
)
def test_a_device_of_which_nothing_is_told_gets_one_answer(backend: str, required: bool) -> None:
    silent = Health(missing={"health": "binding-missing (x)"})
    run = run_of(health_before=silent, health_after=silent, backend=backend, limits=Limits())
    (found,) = judge.health(run)
    assert (found.code, found.judgement, found.required) == ("RP-HEALTH", "unknown", required)
    assert "binding-missing (x)" in found.sentence


def test_a_record_that_never_asked_says_so_and_requires_nothing() -> None:
    (found,) = judge.health(run_of(health_before=None, health_after=None, limits=Limits()))
    assert (found.code, found.required) == ("RP-HEALTH", False)
    assert found.sentence == "its health is not known: the record has none"


def test_a_reading_after_the_run_that_did_not_come_is_required() -> None:
    gone = Health(missing={"health": "timed-out (it did not end within 45 s)"})
    found = answers(run_of(health_after=gone))["RP-HEALTH"]
    assert (found.judgement, found.required) == ("unknown", True)
    assert "timed-out" in found.sentence


def test_a_processor_is_judged_by_what_linux_counts() -> None:
    def cpu(after: dict[str, Any]) -> dict[str, str]:
        before = Health(source="system", ecc_corrected=0, ecc_uncorrected=0,
                        throttle_events={"core_throttle_count": 4})  # fmt: skip
        run = run_of(
            backend="cpu", limits=Limits(), health_before=before,
            health_after=before.model_copy(update=after),
        )  # fmt: skip
        return {code: found.judgement for code, found in answers(run).items()}

    fine = {"RP-HEALTH": "pass", "RP-LOST": "pass", "RP-ECC": "pass", "RP-THROTTLE": "pass"}
    assert cpu({}) == fine
    assert cpu({"throttle_events": {"core_throttle_count": 9}}) == fine | {"RP-THROTTLE": "warn"}
    assert cpu({"ecc_uncorrected": 1}) == fine | {"RP-ECC": "fail"}


# Each question to NVML fails, is not supported, or is answered in another shape: never an
# exception, never a better answer than the counters deserve


class OneGpu(CpuBackend):
    """What torch tells of the double."""

    kind = "cuda"

    def describe(self, index: int = 0) -> Device:
        uuid = "GPU-00000000-1111-2222-3333-444444444440"
        return Device(
            device_id=uuid, torch_device="cuda:0", backend="cuda", name="NVIDIA H200", uuid=uuid
        )


def sick(fake: ModuleType) -> Any:
    """Return a GPU with every sign at once."""
    gpu = fake.h200(
        nvmlDeviceGetTotalEccErrors=30, nvmlDeviceGetRemappedRows=(1, 9, 1, 1),
        nvmlDeviceGetRetiredPages_v2=[{"address": 1}], nvmlDeviceGetRetiredPagesPendingStatus=1,
        nvmlDeviceGetNvLinkErrorCounter=10**6, nvmlDeviceGetPcieReplayCounter=10**6,
        nvmlDeviceGetCurrentClocksEventReasons=0x48,
        nvmlDeviceGetComputeRunningProcesses_v3=[fake.process(4_000_001, 1)],
    )  # fmt: skip
    gpu.answers["nvmlDeviceGetTemperatureV", 0] = 90
    gpu.fields[270] = (fake.ULONGLONG, 10**13)
    return gpu


def judged(fake: ModuleType, patch: pytest.MonkeyPatch, end: Any, fault: Any) -> dict[str, Finding]:
    """Read a healthy GPU, then ``end`` through a host with ``fault``, and judge both."""
    healthy = fake.FakeNvml(fake.h200())
    patch.setattr(health, "xids_of", lambda address: ((), None))
    patch.setattr("roofprobe.probes.nvml._in_first_pid_namespace", lambda: True)
    patch.setitem(sys.modules, "pynvml", healthy)
    (found,) = devices.discover((OneGpu(),))
    before = health.health_of(found)
    host = fake.FakeNvml(end)
    fault(host)
    patch.setitem(sys.modules, "pynvml", host)
    after = health.health_of(found)
    update = {"health_before": before, "health_after": after}
    return answers(run_of(None, None).model_copy(
        update={"devices": (found.model_copy(update=update),),
                "measurements": (measurement(device_id=found.device_id),)}
    ))  # fmt: skip


def calls_of(fake: ModuleType, patch: pytest.MonkeyPatch) -> list[str]:
    """Return every function that a reading of health asks."""
    host = fake.FakeNvml(fake.h200())
    patch.setitem(sys.modules, "pynvml", host)
    health.health_of(OneGpu().describe())
    return sorted(set(host.calls))


NAMES = [
    "nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetClockInfo",
    "nvmlDeviceGetCurrPcieLinkGeneration", "nvmlDeviceGetCurrPcieLinkWidth",
    "nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetDeviceHandleFromMigDeviceHandle",
    "nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetFieldValues",
    "nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetHandleByUUID",
    "nvmlDeviceGetMPSComputeRunningProcesses_v3", "nvmlDeviceGetMemoryInfo",
    "nvmlDeviceGetNvLinkErrorCounter", "nvmlDeviceGetNvLinkState", "nvmlDeviceGetPcieReplayCounter",
    "nvmlDeviceGetPowerUsage", "nvmlDeviceGetRemappedRows",
    "nvmlDeviceGetRetiredPagesPendingStatus", "nvmlDeviceGetRetiredPages_v2",
    "nvmlDeviceGetTemperatureThreshold",
    "nvmlDeviceGetTemperatureV", "nvmlDeviceGetTotalEccErrors",
    "nvmlDeviceGetTotalEnergyConsumption", "nvmlDeviceGetUtilizationRates", "nvmlInit",
    "nvmlShutdown",
]  # fmt: skip
ENDS: dict[str, Any] = {
    "not supported": 3, "no permission": 4, "lost": 15, "unknown error": 999,
    "not in the driver": 13, "none": None, "text": "twelve", "negative": -7,
    "not a number": float("nan"), "object": object(), "raises": OSError("libnvidia-ml"),
}  # fmt: skip


def test_every_call_that_a_reading_makes_is_made_to_fail_below(
    fake_nvml: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert calls_of(fake_nvml, monkeypatch) == sorted(NAMES)


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("name", NAMES)
def test_a_question_without_answer_never_improves_a_verdict(
    fake_nvml: ModuleType, monkeypatch: pytest.MonkeyPatch, name: str, end: str
) -> None:
    def fail(host: Any) -> None:
        host.refuse(name, ENDS[end])

    def nothing(host: Any) -> None:
        pass

    all_told = judged(fake_nvml, monkeypatch, sick(fake_nvml), nothing)
    faulty = judged(fake_nvml, monkeypatch, sick(fake_nvml), fail)
    for code, found in faulty.items():
        expected = {all_told[code].judgement, "unknown"} if code in all_told else {"unknown"}
        if code == "RP-LOST":
            expected.add("fail")
        # Of two counters that both say "fail" one is enough, and the weaker one only warns.
        expected |= {"warn"} if all_told[code].judgement == "fail" else set()
        assert found.judgement in expected, found
    healthy = judged(fake_nvml, monkeypatch, fake_nvml.h200(), fail)
    worst = rolled_up(healthy.values())
    assert worst in ("pass", "unknown") or (
        end == "lost" and healthy["RP-LOST"].judgement == "fail"
    )


def test_each_sign_of_the_sick_gpu_is_seen(
    fake_nvml: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = judged(fake_nvml, monkeypatch, sick(fake_nvml), lambda host: None)
    assert {code: answer.judgement for code, answer in found.items()} == {
        "RP-HEALTH": "pass", "RP-LOST": "pass", "RP-ECC": "fail", "RP-REMAP": "fail",
        "RP-RETIRED": "warn", "RP-XID": "pass", "RP-THROTTLE": "fail", "RP-TEMPERATURE": "warn",
        "RP-PROCESSES": "warn", "RP-MIG": "pass", "RP-PERSISTENCE": "pass",
        "RP-PCIE-REPLAY": "warn", "RP-NVLINK-ERRORS": "warn",
    }  # fmt: skip
