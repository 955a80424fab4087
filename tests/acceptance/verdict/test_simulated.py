"""A record that nobody measured is judged unknown, in one finding, whatever its figures say."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from roofprobe.acceptance.fleet.simulate import simulate
from roofprobe.acceptance.verdict.judge import judge
from roofprobe.cli import app
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


def test_a_comparison_and_a_calibration_of_simulated_runs_say_so_first(tmp_path: Path) -> None:
    simulate(tmp_path, hosts=1, gpus=1)
    runs = str(tmp_path / "runs")
    done = CliRunner().invoke(app, ["compare", runs, runs])
    assert done.stdout.startswith("warning: nothing of A was measured: simulated by roofprobe")
    assert done.stdout.count("nothing of B was measured") == 1
    text = CliRunner().invoke(app, ["compare", runs, runs, "--markdown"]).stdout
    assert text.split("\n\n")[1].startswith("**Warning: nothing of A was measured")
    out, folder = str(tmp_path / "c.json"), next((tmp_path / "runs").iterdir())
    done = CliRunner().invoke(app, ["calibrate", str(folder), "--out", out])
    assert done.exit_code == 0
    assert f"Note: nothing in {folder} was measured: simulated by roofprobe" in done.output
