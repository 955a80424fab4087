"""What is not told of a gap has a reason beside it: others were at work, or the pipe was slower."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from roofprobe.records.headlines import headlines_of
from roofprobe.records.schema import NOT_ALONE, Note, Run
from roofprobe.reporting.compute_tables import gap_rows
from roofprobe.reporting.gap_reasons import gap_reasons
from roofprobe.reporting.html import to_html
from roofprobe.reporting.markdown import to_markdown
from roofprobe.reporting.terminal import render_run

GPU = "GPU-compute"
NOTE = Note(code=NOT_ALONE, sentence="others took half of the cores", figures={"share": 0.5})


def with_pipes(run: Run, *, slower: bool = False, noted: bool = True) -> Run:
    """Return the run with disturbed pipes, or slow ones, and its headlines found anew."""
    members = tuple(
        m.model_copy(
            update={
                "notes": (NOTE,) if noted else (),
                "rate": m.rate.model_copy(update={"median": m.rate.median / (5 if slower else 1)}),
            }
        )
        if m.case.role == "pipe" and m.rate
        else m
        for m in run.measurements
    )
    found = headlines_of(run.devices, members, run.ceilings)
    return run.model_copy(update={"measurements": members, "headlines": found})


def test_a_whole_gap_needs_no_reason(compute_run: Run) -> None:
    assert gap_rows(compute_run, GPU)
    assert gap_reasons(compute_run, GPU) == ()


def test_a_gap_that_others_disturbed_says_so_in_its_place_in_every_report(
    compute_run: Run,
) -> None:
    run = with_pipes(compute_run)
    assert not gap_rows(run, GPU)
    (reason,) = gap_reasons(run, GPU)
    assert reason.startswith("No gap is attributed for bf16")
    assert "others used the processor" in reason
    page, text = to_html(run), to_markdown(run)
    assert f"<p>{reason}</p>" in page
    assert ">Where the gap goes</h3>" in page
    assert f"### Where the gap goes\n\n{reason}" in text
    console = Console(file=io.StringIO(), width=100, color_system=None)
    render_run(run, console)
    assert isinstance(console.file, io.StringIO)
    assert f"Where the gap goes {reason}" in " ".join(console.file.getvalue().split())


@pytest.mark.parametrize("noted", [True, False])
def test_a_pipe_slower_than_its_product_says_why_it_is_not_shown(
    compute_run: Run, noted: bool
) -> None:
    reasons = gap_reasons(with_pipes(compute_run, slower=True, noted=noted), GPU)
    told = reasons[-1]
    assert told.startswith("No pipe is shown beside bf16")
    assert ("while others used the processor" in told) == noted
    assert "came out slower than the product" in told
    assert len(reasons) == 1 + noted
