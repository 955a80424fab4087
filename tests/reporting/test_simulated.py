"""Of a run that nobody measured every output says `unknown`, whatever its record holds."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest
from rich.console import Console

from roofprobe.acceptance.verdict.judge import concluded, judge, verdict_of
from roofprobe.records.schema import Judgement, Run, RunStatus, Verdict
from roofprobe.records.summaries import Listed, summary_of
from roofprobe.reporting.check_view import to_json
from roofprobe.reporting.files import render_files
from roofprobe.reporting.pages.run_index import to_index
from roofprobe.reporting.pages.side_by_side import to_comparison
from roofprobe.reporting.terminal import render_run

STORED = Verdict(judgement="pass", host="pass")


@pytest.fixture
def made_up(example_run: Run) -> Run:
    """Return a simulated run whose record holds that it passed."""
    passed = {device.device_id: "pass" for device in example_run.devices}
    stored = STORED.model_copy(update={"devices": passed})
    run = example_run.model_copy(update={"simulated": "made up by <b>", "verdict": stored})
    assert verdict_of(run.model_copy(update={"simulated": None})) == stored
    return run


def printed(run: Run) -> str:
    stream = io.StringIO()
    render_run(run, Console(file=stream, width=100))
    return stream.getvalue()


def test_the_verdict_of_a_simulated_record_is_that_of_a_check(made_up: Run) -> None:
    assert verdict_of(made_up) == judge(made_up)
    assert {*verdict_of(made_up).devices.values(), verdict_of(made_up).host} == {"unknown"}


def test_every_output_says_what_a_check_says(made_up: Run) -> None:
    checked = to_json(made_up, judge(made_up))
    assert (checked["judgement"], checked["exit_code"]) == ("unknown", 3)
    assert re.search(r"^Verdict: UNKNOWN", printed(made_up), re.MULTILINE)
    files = {name: data.decode() for name, data in render_files(made_up).items()}
    assert "**Verdict: unknown.**" in files["report.md"]
    assert 'Verdict: <span class="word">unknown</span>' in files["report.html"]
    assert 'roofprobe_run_verdict{state="unknown"} 1' in files["metrics.prom"]
    assert 'roofprobe_run_verdict{state="pass"} 0' in files["metrics.prom"]
    listed = Listed(Path("out/a"), summary_of(made_up), None, has_report=True)
    index = to_index([listed], "out")
    assert 'data-verdict="unknown"' in index
    assert 'tone-pass">' not in index
    beside = to_comparison([made_up, made_up], "probe compare a b")
    assert beside.count('tone-unknown">unknown</span>') == 2 * len(made_up.devices)
    for told in files["report.html"], beside:
        assert 'tone-pass">' not in told


@pytest.mark.parametrize(
    ("found", "status", "simulated", "expected"),
    [
        ("pass", "complete", None, "pass"), ("fail", "complete", None, "fail"),
        ("pass", "incomplete", None, "unknown"), ("fail", "running", None, "fail"),
        ("pass", "complete", "made up", "unknown"), ("fail", "complete", "made up", "unknown"),
    ],
)  # fmt: skip
def test_what_findings_amount_to_depends_on_the_run(
    found: Judgement, status: RunStatus, simulated: str | None, expected: Judgement
) -> None:
    assert concluded(found, status, simulated) == expected
