"""Whole runs on hosts of GPUs that are at fault: named, judged, and nothing lost.

GPUs and figures are doubles inside the worker process (``support/gpu_host_worker.py``); the run,
its processes, its files and its verdict are real.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from roofprobe import jobs, retesting
from roofprobe import run as flow
from roofprobe.acceptance.verdict.judge import judge
from roofprobe.asking import options_from
from roofprobe.probes import health_reading
from roofprobe.probes.measure import Policy
from roofprobe.records.journal import NAME, read_journal
from roofprobe.records.runfolder import read_run
from roofprobe.records.schema import Finding, Run
from roofprobe.reporting.progress import Silent

pytestmark = [pytest.mark.faults, pytest.mark.xdist_group("device faults")]

SUPPORT = Path(__file__).parent / "support"
WORKER = (sys.executable, str(SUPPORT / "gpu_host_worker.py"))
CASES = 25  # of the family memory at tier quick, for each device


def gpu(number: int) -> str:
    return f"GPU-00000000-1111-2222-3333-44444444444{number}"


SICK, BESIDE = gpu(1), gpu(0)


def _table() -> Any:
    """Load the table of faults; test files cannot import each other."""
    spec = util.spec_from_file_location("faults", SUPPORT / "faults.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["faults"] = module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FAULTS


FAULTS = _table()
OF_DRIVER = [fault for fault in FAULTS if fault.where == "driver"]
OF_DEVICE = [fault for fault in FAULTS if fault.where == "device"]


@pytest.fixture(scope="module", autouse=True)
def hasty() -> Iterator[None]:
    """Give what hangs little time, and no exchange between real ranks."""
    policy = Policy(0.001, 0.0, 0.01, 0.03, timeout_s=2.5)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jobs, "policy_for", lambda case, device, options: policy)
        patch.setattr(retesting, "policy_for", lambda case, device, options: policy)
        patch.setattr(jobs, "groups", lambda devices, options: ())
        patch.setattr(health_reading, "TIMEOUT_S", 6.0)
        yield


def probed(
    out: Path, *faults: str, resume: bool = False, budget: str | None = None
) -> flow.Finished:
    options = options_from(("memory",), "auto", "quick", "bf16", budget, 0)
    worker = (*WORKER, "|".join(faults), str(out.parent / "state"))
    return flow.probe_all(options, out, progress=Silent(), resume=resume, worker_command=worker)


@pytest.fixture(scope="module")
def host_with(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], flow.Finished]:
    """Give the run of a host of three GPUs with a fault in the middle, made once for each fault."""

    @cache
    def finished(fault: str) -> flow.Finished:
        return probed(tmp_path_factory.mktemp("host") / "out", "", fault, "")

    return finished


@pytest.fixture(scope="module")
def big_host(tmp_path_factory: pytest.TempPathFactory) -> flow.Finished:
    """Give the run of a host with a healthy GPU and one for each fault that the driver tells."""
    faults = ("", *(fault.name for fault in OF_DRIVER))
    return probed(tmp_path_factory.mktemp("big") / "out", *faults)


def findings_on(run: Run, device_id: str) -> list[Finding]:
    assert run.verdict is not None
    return [found for found in run.verdict.findings if found.device_id == device_id]


def found(run: Run, code: str, device_id: str = SICK) -> Finding:
    answers = [found for found in findings_on(run, device_id) if found.code == code]
    assert answers, [found.code for found in findings_on(run, device_id)]
    return min(answers, key=lambda f: ("fail", "unknown", "warn", "pass").index(f.judgement))


def of_one(finished: flow.Finished, device_id: str) -> flow.Finished:
    """Return what the run of a host with this one device only would have come to."""
    run = finished.run
    alone = run.model_copy(
        update={
            "devices": tuple(d for d in run.devices if d.device_id == device_id),
            "measurements": tuple(m for m in run.measurements if m.device_id == device_id),
            "headlines": tuple(h for h in run.headlines if h.device_id == device_id),
            "ceilings": tuple(c for c in run.ceilings if c.device_id == device_id),
            "planned": {device_id: run.planned[device_id]},
        }
    )
    return replace(finished, run=alone.model_copy(update={"verdict": judge(alone)}))


def expect_all_kept(finished: flow.Finished) -> None:
    """Each case has an end, in the record and in the journal, and the files agree."""
    run = finished.run
    kept = read_journal(finished.folder).measurements
    assert len(kept) == len(run.measurements) + len(run.retests)
    assert read_run(finished.folder) == run
    assert len(run.measurements) == CASES * len(run.devices)


def test_a_healthy_host_passes(host_with: Callable[[str], flow.Finished]) -> None:
    finished = host_with("")
    verdict = finished.run.verdict
    assert verdict is not None
    assert (verdict.judgement, flow.exit_code(finished)) == ("pass", 0)
    assert verdict.devices == dict.fromkeys(map(gpu, range(3)), "pass")
    assert finished.run.retests == ()
    assert finished.run.events == ()
    for device in finished.run.devices:
        assert device.health_before is not None
        assert device.health_after is not None
        assert device.health_before.source == device.health_after.source == "nvml"
    expect_all_kept(finished)


@pytest.mark.parametrize("fault", OF_DRIVER, ids=lambda fault: fault.name)
def test_what_the_driver_tells_is_judged_on_its_device(fault: Any, big_host: flow.Finished) -> None:
    run, sick = big_host.run, gpu(1 + OF_DRIVER.index(fault))
    assert run.verdict is not None
    assert found(run, fault.code, sick).judgement == fault.status
    assert run.verdict.devices[sick] == fault.verdict
    alone = of_one(big_host, sick)
    assert alone.run.verdict is not None
    assert (alone.run.verdict.judgement, flow.exit_code(alone)) == (fault.verdict, fault.exit_code)


def test_a_healthy_gpu_passes_beside_all_of_them_and_nothing_is_lost(
    big_host: flow.Finished,
) -> None:
    run = big_host.run
    assert run.verdict is not None
    assert (run.verdict.devices[BESIDE], run.verdict.judgement) == ("pass", "fail")
    assert {m.status for m in run.measurements} == {"ok"}
    expect_all_kept(big_host)


@pytest.mark.parametrize("fault", OF_DEVICE, ids=lambda fault: fault.name)
def test_a_fault_of_one_device_is_named_and_costs_nothing_else(
    fault: Any, host_with: Callable[[str], flow.Finished]
) -> None:
    finished = host_with(fault.name)
    run, verdict = finished.run, finished.run.verdict
    assert verdict is not None
    assert found(run, fault.code).judgement == fault.status
    assert (verdict.judgement, flow.exit_code(finished)) == (fault.verdict, fault.exit_code)
    everywhere = fault.name == "NVML missing"
    others = "unknown" if everywhere else "pass"
    assert verdict.devices == {gpu(0): others, SICK: fault.verdict, gpu(2): others}
    counts = Counter((m.device_id, m.status) for m in run.measurements)
    assert counts[gpu(0), "ok"] == counts[gpu(2), "ok"] == CASES
    if fault.kept == "every case of every device":
        assert counts[SICK, "ok"] == CASES
    expect_all_kept(finished)


# Health in the record


def test_health_before_is_on_disk_before_the_first_case_and_after_it_are_the_last_lines(
    big_host: flow.Finished,
) -> None:
    journal = read_journal(big_host.folder)
    sick = gpu(1 + [fault.name for fault in OF_DRIVER].index("uncorrected memory errors"))
    before = next(d.health_before for d in journal.header.devices if d.device_id == sick)
    assert before is not None
    assert before.ecc_uncorrected == 0
    after = {each.device_id: each.health for each in journal.health_after}
    assert (after[sick].ecc_uncorrected, after[BESIDE].ecc_uncorrected) == (40, 0)
    lines = (big_host.folder / NAME).read_bytes().splitlines()
    assert all(b'"kind":"health"' in line for line in lines[-len(after) :])


def test_a_run_that_was_killed_keeps_health_before_and_gets_one_after_on_resume(
    tmp_path: Path,
) -> None:
    out = tmp_path / "out"
    folder = probed(out, "PCIe sends again").folder
    lines = (folder / NAME).read_bytes().splitlines(keepends=True)
    (folder / NAME).write_bytes(b"".join(lines[:10]))
    assert read_journal(folder).health_after == ()
    finished = probed(out, "PCIe sends again", resume=True)
    (device,) = finished.run.devices
    assert device.health_before is not None
    assert device.health_after is not None
    assert (device.health_before.pcie_replays, device.health_after.pcie_replays) == (3, 500)
    expect_all_kept(finished)


# Retest before fail


def test_a_breach_is_repeated_on_its_device_and_on_a_healthy_one_and_both_are_kept(
    host_with: Callable[[str], flow.Finished],
) -> None:
    run = host_with("slow for good").run
    for device_id in (SICK, BESIDE):
        cases = Counter(
            m.case.case_id.rpartition("/")[0] for m in run.retests if m.device_id == device_id
        )
        assert set(cases.values()) == {3}
        assert all(case_id.startswith("stream/copy/fp32/") for case_id in cases)
    assert {m.device_id for m in run.retests} == {SICK, BESIDE}
    low = found(run, "RP-BANDWIDTH")
    assert "first 983.3 GB/s, then 1033 GB/s as the median of 3 repeats" in low.sentence
    assert "cuda:0 beside it reached 4179 GB/s" in low.sentence
    events = Counter(event.code for event in run.events)
    assert events == {"retest": 1, "cooled-down": 2}


def test_a_shortfall_that_vanished_is_one_warning_beside_a_pass(
    host_with: Callable[[str], flow.Finished],
) -> None:
    finished = host_with("slow at first")
    run = finished.run
    unstable = [found.code for found in findings_on(run, SICK)].count("RP-UNSTABLE")
    assert unstable == 1, "two checks fell short of one figure"
    sentence = found(run, "RP-UNSTABLE").sentence
    assert "first 983.3 GB/s, then 4130 GB/s as the median of 3 repeats" in sentence
    assert found(run, "RP-BANDWIDTH").judgement == "pass"
    first = next(h for h in run.headlines if h.device_id == SICK and h.label == "copy fp32")
    assert first.rate.median == pytest.approx(983.3, rel=1e-3), "the first figure keeps its place"
    table = (finished.folder / "measurements.csv").read_text().splitlines()
    assert len(table) == 1 + len(run.measurements) + len(run.retests)


def test_a_run_killed_amid_its_repeats_goes_on_with_those_that_are_left(tmp_path: Path) -> None:
    out = tmp_path / "out"
    finished = probed(out, "slow for good")
    lines = (finished.folder / NAME).read_bytes().splitlines(keepends=True)
    repeats = [number for number, line in enumerate(lines) if b"/retest-" in line]
    assert len(repeats) == 3
    (finished.folder / NAME).write_bytes(b"".join(lines[: repeats[1] + 1]))
    resumed = probed(out, "slow for good", resume=True)
    kept = [m.case.case_id for m in read_journal(finished.folder).measurements]
    assert len(kept) == len(set(kept)) == CASES + 3
    assert [m.case.retest for m in resumed.run.retests] == [1, 2, 3]
    assert found(resumed.run, "RP-BANDWIDTH", gpu(0)).judgement == "fail"


@pytest.mark.parametrize(("case_s", "repeats"), [(6.0, 3), (7.0, 0), (1e9, 0)])
def test_repeats_are_held_to_their_budget(
    case_s: float,
    repeats: int,
    host_with: Callable[[str], flow.Finished],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(retesting, "expected_s", lambda case, device, options: case_s)
    run = host_with("slow for good").run
    first = run.model_copy(update={"retests": ()})
    jobs = retesting.jobs_of(first, run.options, done=())
    assert [len(job.cases) for job in jobs] == [repeats] * (2 if repeats else 0)
    if not repeats:
        stands = next(
            f
            for f in judge(first).findings
            if f.code == "RP-BANDWIDTH" and f.device_id == SICK and f.judgement == "fail"
        )
        assert "repeats" not in stands.sentence


def test_what_is_done_is_not_repeated(host_with: Callable[[str], flow.Finished]) -> None:
    run = host_with("slow for good").run
    done = {(m.device_id, m.case.case_id) for m in run.retests}
    assert retesting.jobs_of(run, run.options, done) == ()


def test_a_run_without_a_breach_repeats_nothing(host_with: Callable[[str], flow.Finished]) -> None:
    run = host_with("").run
    assert retesting.jobs_of(run, run.options, done=()) == ()


def test_the_table_of_faults_and_what_the_worker_can_plant_agree() -> None:
    source = (Path(WORKER[1])).read_text()
    for fault in (*OF_DRIVER, *OF_DEVICE):
        assert f'"{fault.name}"' in source, fault.name
