"""Faults planted behind a library call are caught, named, and cost nothing else of the run."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from roofprobe import jobs
from roofprobe import run as flow
from roofprobe.acceptance.verdict.judge import rolled_up
from roofprobe.probes import plan
from roofprobe.probes.measure import Policy
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.journal import last_of_each, read_journal
from roofprobe.records.schema import Case, Device, Measurement, Options, Run
from roofprobe.reporting.progress import Silent
from roofprobe.run import probe_all

pytestmark = pytest.mark.faults

HANG_LIMIT_S = 1.0
WORKER = Path(__file__).parent / "support" / "planted_worker.py"
OPTIONS = Options(families=("compute",), tier="quick", precisions=("fp64", "fp32"))


@pytest.fixture
def run_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, faults: ModuleType):  # type: ignore[no-untyped-def]
    """Give a function that runs the whole flow with a worker in which a fault is planted.

    What comes of it is held against the registry of faults.
    """
    hasty = plan._BURST[("cpu", "quick")]
    short = replace(hasty, warmup_s=0.01, min_time_s=0.05, max_time_s=0.1)
    monkeypatch.setitem(plan._BURST, ("cpu", "quick"), short)
    monkeypatch.setitem(plan._SEARCH_S, ("cpu", "quick"), 0.3)
    monkeypatch.setitem(plan._SETTLED, "quick", short)

    def limited(case: Case, device: Device, options: Options) -> Policy:
        """Give the product that hangs little time, and the others what users give them."""
        planted = case.row == "fp32" and case.route == "torch.mm"
        policy = plan.policy_for(case, device, options)
        return replace(policy, timeout_s=HANG_LIMIT_S) if planted else policy

    def run(fault: str) -> Run:
        if fault == "hang":
            monkeypatch.setattr(jobs, "policy_for", limited)
        command = (sys.executable, str(WORKER), fault, str(tmp_path / "mark"))
        done = probe_all(OPTIONS, tmp_path, progress=Silent(), worker_command=command)
        in_journal = last_of_each(read_journal(done.folder).measurements)
        assert len(in_journal) == len(done.run.measurements), "the journal has every measurement"
        assert_as_registered(faults.named(fault), done)
        return done.run

    return run


def assert_as_registered(fault: Any, done: flow.Finished) -> None:
    """Hold status, code, verdict and exit code against what the registry expects."""
    (hit,) = rows(done.run, "fp32", "stability" if fault.name == "flipped bit" else "anchor")
    code = hit.reason.code if hit.reason else "–"
    assert done.run.verdict is not None
    # whoever else is at work on the host is no part of the fault
    verdict = rolled_up(f for f in done.run.verdict.findings if f.code != "RP-NOT-ALONE")
    assert (hit.status, code) == (fault.status, fault.code), hit
    assert (verdict, flow.exit_code(done)) == (fault.verdict, fault.exit_code), findings(done.run)


def rows(run: Run, row: str, *roles: str) -> list[Measurement]:
    return [
        m for m in run.measurements
        if m.case.row == row and m.case.route in ("torch.mm", "pipe") and m.case.role in roles
    ]  # fmt: skip


def expect_fp64_untouched(run: Run) -> None:
    for role in ("anchor", "search", "route", "stability"):
        found = rows(run, "fp64", role)
        assert [m.status for m in found] == ["ok"], (role, found)
    assert "fp64" in {headline.label for headline in run.headlines}


def findings(run: Run) -> str:
    assert run.verdict is not None
    return "\n".join(f"{f.judgement} {f.code} {f.sentence}" for f in run.verdict.findings)


def test_a_wrong_tile_is_never_timed_and_fails_the_run(run_with) -> None:  # type: ignore[no-untyped-def]
    run = run_with("wrong tile")
    for found in rows(run, "fp32", "anchor", "search", "stability"):
        assert found.status == "failed", found
        assert found.reason is not None
        assert found.reason.code == "wrong-result"
        assert found.samples_us == ()
    routes = {h.label: h.route for h in run.headlines}
    assert routes["fp32"] == "numpy.matmul", "only the route that computes right may win"
    assert run.verdict is not None
    assert run.verdict.judgement == "fail"
    expect_fp64_untouched(run)


def test_a_bit_that_flips_now_and_then_is_named_as_unstable(run_with) -> None:  # type: ignore[no-untyped-def]
    run = run_with("flipped bit")
    (found,) = rows(run, "fp32", "stability")
    assert found.status == "failed"
    assert found.reason is not None
    assert found.reason.code == "unstable-bits"
    assert "1 of 1048576 elements had other bits" in found.reason.sentence
    assert "(5, 7)" in found.reason.sentence
    assert run.verdict is not None
    assert run.verdict.judgement == "fail"
    assert "bits" in findings(run)
    expect_fp64_untouched(run)


def test_a_slow_fallback_is_named_by_the_kernel_that_really_ran(run_with) -> None:  # type: ignore[no-untyped-def]
    run = run_with("slow fallback")
    (anchor,) = rows(run, "fp32", "anchor")
    assert anchor.status == "ok", "slow is not wrong"
    assert anchor.identity is not None
    assert anchor.identity.converts or anchor.identity.fallback
    assert anchor.identity.fallback, anchor.identity
    assert "fp32" in findings(run)
    assert "warn" in findings(run)
    expect_fp64_untouched(run)


def test_a_hang_ends_at_its_limit_and_the_rest_is_measured(run_with) -> None:  # type: ignore[no-untyped-def]
    run = run_with("hang")
    for found in rows(run, "fp32", "anchor", "stability"):
        assert found.status == "failed"
        assert found.reason is not None
        assert found.reason.code == "timed-out"
        assert f"did not end within {HANG_LIMIT_S:.0f} s" in found.reason.sentence
    assert [event.code for event in run.events].count("timed-out") >= 2
    expect_fp64_untouched(run)


def test_an_abort_of_the_process_costs_its_case_only(run_with) -> None:  # type: ignore[no-untyped-def]
    run = run_with("abort")
    (anchor,) = rows(run, "fp32", "anchor")
    assert anchor.reason is not None
    assert anchor.reason.code == "worker-crashed"
    assert "SIGABRT" in anchor.reason.sentence
    expect_fp64_untouched(run)


@pytest.mark.parametrize("fault", ["killed", "out of memory", "address space", "garbage", "lies"])
def test_a_worker_that_fails_costs_its_cases_only(run_with, fault: str) -> None:  # type: ignore[no-untyped-def]
    run = run_with(fault)
    expect_fp64_untouched(run)
    assert "fp32" in findings(run), "the verdict says what was not measured"


def test_what_a_library_prints_costs_nothing(run_with, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    run = run_with("chatter")
    expect_fp64_untouched(run)
    assert "a library speaks" in (tmp_path / "latest" / "worker-cpu.log").read_text()


def test_libraries_that_no_longer_load_end_the_device_and_not_the_run(run_with) -> None:  # type: ignore[no-untyped-def]
    run = run_with("import")
    assert run.status == "complete"
    assert {m.status for m in run.measurements} == {"failed"}
    assert {m.reason.code for m in run.measurements if m.reason} == {
        "worker-crashed", "device-given-up",
    }  # fmt: skip


def test_libraries_that_do_not_load_at_all_give_one_sentence(
    run_with: Any,
    tmp_path: Path,
    faults: ModuleType,
) -> None:
    expected = faults.named("import at once")
    with pytest.raises(RoofprobeError, match="could not be found") as raised:
        run_with("import at once")
    assert (raised.value.code, raised.value.exit_code) == (expected.code, expected.exit_code)
    assert not (tmp_path / "latest").exists()
