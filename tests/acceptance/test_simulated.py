"""A record that nobody measured is judged unknown, in one finding, whatever its figures say."""

from __future__ import annotations

from pathlib import Path

from roofprobe.acceptance.fleet.simulate import simulate
from roofprobe.acceptance.judge import judge
from roofprobe.records.runfolder import read_run
from roofprobe.reporting.verdict_rows import exit_code


def test_a_simulated_run_proves_nothing(tmp_path: Path) -> None:
    simulate(tmp_path, hosts=1, gpus=2)
    run = read_run(tmp_path / "runs")
    verdict = judge(run)
    (finding,) = verdict.findings
    assert finding.code == "RP-COMPLETE"
    assert finding.sentence.startswith("Nothing here was measured: simulated by roofprobe")
    assert set(verdict.devices.values()) == {verdict.judgement, verdict.host} == {"unknown"}
    assert len(verdict.devices) == 2
    assert exit_code(run, verdict) == 3
