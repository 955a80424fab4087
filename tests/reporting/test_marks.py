"""A figure that others disturbed carries a mark wherever it is read, with its legend."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from roofprobe.records.schema import NOT_ALONE, Measurement, Note, Run
from roofprobe.reporting import figures, tables
from roofprobe.reporting.alike_tables import alike_devices
from roofprobe.reporting.case_tables import measurement_rows
from roofprobe.reporting.compute_tables import rate_text
from roofprobe.reporting.html import to_html
from roofprobe.reporting.markdown import to_markdown
from roofprobe.reporting.marks import legend_of, marked
from roofprobe.reporting.roofline import roofline
from roofprobe.reporting.surface import surfaces
from roofprobe.reporting.terminal import render_run

GPU = "GPU-compute"
NOTE = Note(code=NOT_ALONE, sentence="others took half of the cores", figures={"share": 0.5})


def disturbed(run: Run, *case_ids: str) -> Run:
    """Return the run with the note on those cases, on all where none is named."""
    members = tuple(
        m.model_copy(update={"notes": (*m.notes, NOTE)})
        if m.case.case_id in case_ids or not case_ids
        else m
        for m in run.measurements
    )
    return run.model_copy(update={"measurements": members})


@pytest.fixture
def marked_run(compute_run: Run) -> Run:
    """Return a run of which the first compute figure is disturbed, burst alone."""
    return disturbed(compute_run, tables.headlines_of(compute_run, GPU, "compute")[0].case_id)


def terminal(run: Run, *, full: bool = False) -> str:
    console = Console(file=io.StringIO(), width=120, color_system=None)
    render_run(run, console, full=full)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_disturbed_line_is_marked_in_every_report_and_the_mark_is_explained(
    marked_run: Run,
) -> None:
    first, second = tables.headline_rows(marked_run, GPU, "compute")[:2]
    assert (first.mark, second.mark) == (" †", "")
    assert first.text("settled") == first.settled  # the settled figure was left alone
    legend = legend_of(marked_run, GPU)
    assert legend is not None
    assert legend.startswith("† others used the processor meanwhile (during 1 of ")
    page, text, shown = to_html(marked_run), to_markdown(marked_run), terminal(marked_run)
    assert f"<p>{legend}</p>" in page
    assert "<code>bf16</code> †</th>" in page
    assert legend in text
    assert "BF16 `bf16` † |" in text
    assert legend in " ".join(shown.split())
    assert "\nbf16 † " in shown


def test_every_figure_is_marked_by_itself(compute_run: Run) -> None:
    settled = tables.headlines_of(compute_run, GPU, "compute")[0].settled_case_id
    assert settled is not None
    row = tables.headline_rows(disturbed(compute_run, settled), GPU, "compute")[0]
    assert (row.mark, row.text("settled")) == ("", f"{row.settled}†")
    assert row.text("derived") == row.derived


def test_bars_and_roofs_are_marked_like_the_lines(marked_run: Run, example_run: Run) -> None:
    drawn = figures.bars(marked_run, GPU, "compute")
    assert drawn is not None
    assert "bf16 †: " in drawn.label
    assert drawn.sentence.endswith("† others used the processor meanwhile.")
    roofs = roofline(disturbed(example_run), "GPU-00000000-example")
    assert roofs is not None
    assert "bf16 † " in roofs.label
    assert roofs.sentence.endswith("† others used the processor meanwhile.")


def test_tables_of_every_family_carry_the_mark(compute_run: Run) -> None:
    run = disturbed(compute_run)
    rated = [m for m in run.measurements if m.rate and m.device_id == GPU and m.status == "ok"]
    assert all(rate_text(m).endswith("†") for m in rated)
    ok = [r for r in measurement_rows(run, GPU) if r.status == "ok" and r.rate != "–"]
    assert ok
    assert all(row.rate.endswith("†") for row in ok)
    cells = [c for s in surfaces(run, GPU) for _, row in s.table()[1] for c in row if c != "–"]
    assert cells
    assert all(cell.endswith("†") for cell in cells)


def test_what_nobody_disturbed_or_nobody_measured_has_no_mark(compute_run: Run) -> None:
    m: Measurement = compute_run.measurements[0]
    assert marked("5", m) == "5"
    noted = m.model_copy(update={"notes": (NOTE,)})
    assert (marked("5", m, noted), marked("–", noted), marked("5", None)) == ("5†", "–", "5")
    assert legend_of(compute_run, GPU) is None
    assert "†" not in to_html(compute_run) + to_markdown(compute_run) + terminal(compute_run)


def test_devices_in_one_table_are_marked_where_any_was_disturbed(compute_run: Run) -> None:
    device = next(d for d in compute_run.devices if d.device_id == GPU)
    other = device.model_copy(update={"device_id": "GPU-other", "torch_device": "cuda:1"})
    run = disturbed(
        compute_run.model_copy(update={"devices": (*compute_run.devices, other)}),
        tables.headlines_of(compute_run, GPU, "compute")[0].case_id,
    )
    (kind,) = alike_devices(run)
    assert kind.tables[0].rows[0][0] == "bf16 †"
    assert not kind.tables[0].rows[1][0].endswith("†")
