"""A figure of another kernel than was asked for says so wherever it is read."""

from __future__ import annotations

import pytest

from roofprobe.records.schema import KernelIdentity, Run
from roofprobe.reporting import figures, tables
from roofprobe.reporting.html import to_html
from roofprobe.reporting.markdown import to_markdown
from roofprobe.reporting.roofline import roofline

WHY = "Library code ran an FP32 product on converted operands"


@pytest.fixture
def fallen(example_run: Run) -> tuple[Run, str, str]:
    """Return the example run with its first compute headline from a fallback, device, label."""
    headline = next(h for h in example_run.headlines if h.family == "compute")
    measurements = tuple(
        m.model_copy(
            update={
                "identity": (m.identity or KernelIdentity()).model_copy(update={"fallback": WHY})
            }
        )
        if m.case.case_id == headline.case_id and m.device_id == headline.device_id
        else m
        for m in example_run.measurements
    )
    run = example_run.model_copy(update={"measurements": measurements})
    return run, headline.device_id, headline.label


def test_the_row_of_a_fallback_is_marked_in_both_reports(fallen: tuple[Run, str, str]) -> None:
    run, _, _ = fallen
    page, text = to_html(run), to_markdown(run)
    assert '<span class="word small tone-warn">fallback</span></th>' in page
    assert f"; fallback: {WHY}</div>" in page
    assert " **fallback** | " in text
    assert "<br>**fallback**: Library code ran" in text


def test_bars_and_roofs_of_a_fallback_are_named_so(fallen: tuple[Run, str, str]) -> None:
    run, device_id, label = fallen
    drawn = figures.bars(run, device_id, "compute")
    assert drawn is not None
    assert f"{label} (fallback): " in drawn.label
    roofs = roofline(run, device_id)
    assert roofs is not None
    assert f"{label} (fallback) " in roofs.label


def test_what_is_genuine_is_not_marked(example_run: Run) -> None:
    genuine = to_html(example_run) + to_markdown(example_run)
    assert "fallback</span></th>" not in genuine
    headlines = example_run.headlines
    for device in example_run.devices:
        marked = tables.doubts_marked(example_run, device.device_id, headlines)
        assert marked == headlines
