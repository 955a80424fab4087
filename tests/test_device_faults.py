"""Whole runs on a host of three GPUs, one of which is at fault: named, judged, and nothing lost.

GPUs and figures are doubles inside the worker process (``support/gpu_host_worker.py``); the run,
its processes, its files and its verdict are real.
"""

from __future__ import annotations

import sys
from collections import Counter
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from roofprobe import retesting
from roofprobe import run as flow
from roofprobe.probes import health_reading
from roofprobe.probes.measure import Policy
from roofprobe.records.journal import NAME, read_journal
from roofprobe.records.runfolder import read_run
from roofprobe.records.schema import Finding, Run
from roofprobe.reporting.progress import Silent

SUPPORT = Path(__file__).parent / "support"
WORKER = (sys.executable, str(SUPPORT / "gpu_host_worker.py"))
GPUS = [f"GPU-00000000-1111-2222-3333-44444444444{number}" for number in range(3)]
SICK = GPUS[1]
CASES = 25  # of the family memory at tier quick, for each device


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give what hangs little time, and no exchange between real ranks."""
    policy = Policy(0.001, 0.0, 0.01, 0.03, timeout_s=4.0)
    monkeypatch.setattr(flow, "policy_for", lambda case, device, options: policy)
    monkeypatch.setattr(retesting, "policy_for", lambda case, device, options: policy)
    monkeypatch.setattr(flow, "groups", lambda devices, options: ())
    monkeypatch.setattr(health_reading, "TIMEOUT_S", 8.0)


def probed(out: Path, fault: str, *, resume: bool = False, budget: str | None = None) -> Any:
    options = flow.options_from(("memory",), "auto", "quick", "bf16", budget, 0)
    worker = (*WORKER, fault, str(out.parent / "state"))
    return flow.probe_all(options, out, progress=Silent(), resume=resume, worker_command=worker)


def found(run: Run, code: str, device_id: str = SICK) -> Finding:
    assert run.verdict is not None
    answers = [f for f in run.verdict.findings if (f.code, f.device_id) == (code, device_id)]
    assert answers, [f.code for f in run.verdict.findings]
    return min(answers, key=lambda f: ("fail", "unknown", "warn", "pass").index(f.judgement))


def _table() -> Any:
    """Load the table of faults; test files cannot import each other."""
    spec = util.spec_from_file_location("device_faults", SUPPORT / "device_faults.py")
    assert spec is not None
    assert spec.loader is not None
    sys.modules["device_faults"] = module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.DEVICE_FAULTS


FAULTS = _table()


def test_a_healthy_host_passes(tmp_path: Path) -> None:
    finished = probed(tmp_path / "out", "nothing")
    verdict = finished.run.verdict
    assert (verdict.judgement, flow.exit_code(finished)) == ("pass", 0)
    assert verdict.devices == dict.fromkeys(GPUS, "pass")
    assert finished.run.retests == ()
    assert [event.code for event in finished.run.events] == []
    for device in finished.run.devices:
        assert device.health_before is not None
        assert device.health_after is not None
        assert device.health_before.source == device.health_after.source == "nvml"
    assert read_run(finished.folder) == finished.run


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.name for fault in FAULTS])
def test_a_fault_of_one_device_is_named_and_costs_nothing_else(fault: Any, tmp_path: Path) -> None:
    finished = probed(tmp_path / "out", fault.name)
    run, verdict = finished.run, finished.run.verdict
    everywhere = fault.name == "NVML missing"
    assert found(run, fault.code).judgement == fault.status
    assert verdict.judgement == fault.verdict
    assert verdict.devices[SICK] == fault.verdict
    assert flow.exit_code(finished) == fault.exit_code
    others = "unknown" if everywhere else "pass"
    assert (verdict.devices[GPUS[0]], verdict.devices[GPUS[2]]) == (others, others)
    # Nothing lost: every case has an end, in the record and in the journal, and the files agree.
    counts = Counter((m.device_id, m.status) for m in run.measurements)
    assert counts[GPUS[0], "ok"] == counts[GPUS[2], "ok"] == CASES
    assert sum(counts[SICK, status] for status in ("ok", "failed")) == CASES
    if fault.kept == "every case of every device":
        assert counts[SICK, "ok"] == CASES
    kept = read_journal(finished.folder).measurements
    assert len(kept) == len(run.measurements) + len(run.retests)
    assert read_run(finished.folder) == run


# Health in the record


def test_health_before_is_on_disk_before_the_first_case_and_after_is_the_last_line(
    tmp_path: Path,
) -> None:
    folder = probed(tmp_path / "out", "uncorrected memory errors").folder
    journal = read_journal(folder)
    before = next(d.health_before for d in journal.header.devices if d.device_id == SICK)
    assert before is not None
    assert before.ecc_uncorrected == 0
    after = {each.device_id: each.health for each in journal.health_after}
    assert (after[SICK].ecc_uncorrected, after[GPUS[0]].ecc_uncorrected) == (40, 0)
    lines = (folder / NAME).read_bytes().splitlines()
    assert [b'"kind":"health"' in line for line in lines[-3:]] == [True] * 3


def test_a_run_that_was_killed_keeps_health_before_and_gets_one_after_on_resume(
    tmp_path: Path,
) -> None:
    folder = probed(tmp_path / "out", "PCIe sends again").folder
    lines = (folder / NAME).read_bytes().splitlines(keepends=True)
    (folder / NAME).write_bytes(b"".join(lines[:40]))
    cut = read_journal(folder)
    assert cut.health_after == ()
    finished = probed(tmp_path / "out", "PCIe sends again", resume=True)
    device = next(d for d in finished.run.devices if d.device_id == SICK)
    assert (device.health_before.pcie_replays, device.health_after.pcie_replays) == (3, 500)
    assert len(finished.run.measurements) == 3 * CASES


# Retest before fail


def test_a_breach_is_repeated_on_its_device_and_on_a_healthy_one_and_both_are_kept(
    tmp_path: Path,
) -> None:
    run = probed(tmp_path / "out", "slow for good").run
    assert {m.device_id for m in run.retests} == {SICK, GPUS[0]}
    for device_id in (SICK, GPUS[0]):
        cases = Counter(
            m.case.case_id.rpartition("/")[0] for m in run.retests if m.device_id == device_id
        )
        assert set(cases.values()) == {3}
        assert all(case_id.startswith("stream/copy/fp32/") for case_id in cases)
    first = next(m for m in run.measurements if m.device_id == SICK and m.case.op == "copy")
    assert first.rate.median == pytest.approx(0.2 * 2 * 3201 * 6144 / 8000)
    low = found(run, "RP-BANDWIDTH")
    assert "first 983.3 GB/s, then 1033 GB/s as the median of 3 repeats" in low.sentence
    assert "cuda:0 beside it reached 4179 GB/s" in low.sentence
    cooled = [event for event in run.events if event.code == "cooled-down"]
    assert {event.device_id for event in cooled} == {SICK, GPUS[0]}
    assert [event.code for event in run.events].count("retest") == 1


def test_a_shortfall_that_vanished_is_a_warning_beside_a_pass(tmp_path: Path) -> None:
    finished = probed(tmp_path / "out", "slow at first")
    run = finished.run
    unstable = found(run, "RP-UNSTABLE")
    assert "first 983.3 GB/s, then 4130 GB/s as the median of 3 repeats" in unstable.sentence
    assert found(run, "RP-BANDWIDTH").judgement == "pass"
    first = next(h for h in run.headlines if h.device_id == SICK and h.label == "copy fp32")
    assert first.rate.median == pytest.approx(983.3, rel=1e-3), (
        "the first figure stays in its place"
    )
    table = (finished.folder / "measurements.csv").read_text().splitlines()
    assert len(table) == 1 + len(run.measurements) + len(run.retests)


def test_a_run_killed_amid_its_repeats_goes_on_with_those_that_are_left(tmp_path: Path) -> None:
    out = tmp_path / "out"
    finished = probed(out, "slow for good")
    lines = (finished.folder / NAME).read_bytes().splitlines(keepends=True)
    repeats = [number for number, line in enumerate(lines) if b"/retest-" in line]
    (finished.folder / NAME).write_bytes(b"".join(lines[: repeats[4] + 1]))
    resumed = probed(out, "slow for good", resume=True)
    counts = Counter(
        (m.device_id, m.case.case_id) for m in read_journal(finished.folder).measurements
    )
    assert set(counts.values()) == {1}
    assert {(m.device_id, m.case.case_id) for m in resumed.run.retests} == {
        (m.device_id, m.case.case_id) for m in finished.run.retests
    }
    assert found(resumed.run, "RP-BANDWIDTH").judgement == "fail"


def test_repeats_are_held_to_the_time_budget(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(retesting, "expected_s", lambda case, device, options: 6.0)
    run = probed(tmp_path / "out", "slow at first", budget="1h").run
    assert len(run.retests) == 6, "20 s hold one case's three repeats and its control's"
    monkeypatch.setattr(retesting, "expected_s", lambda case, device, options: 1e9)
    none = probed(tmp_path / "other", "slow at first", budget="1h").run
    assert none.retests == ()
    assert found(none, "RP-BANDWIDTH").judgement == "fail", "what was not repeated stands"


def test_the_table_of_faults_and_what_the_worker_can_plant_agree() -> None:
    source = (Path(WORKER[1])).read_text()
    for fault in FAULTS:
        assert f'"{fault.name}"' in source, fault.name
