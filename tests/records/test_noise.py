"""How well a figure is known is told of the figure that is shown, everywhere alike."""

from __future__ import annotations

import pytest

from roofprobe.records.noise import (
    HALFWIDTH,
    noise_note,
    noise_retold,
    plus_minus,
    relative_halfwidth,
    shown,
)
from roofprobe.records.schema import Case, Distribution, Measurement, Note


def figure(unit: str, median: float, low: float, high: float) -> Distribution:
    return Distribution(unit=unit, median=median, ci_low=low, ci_high=high, p10=low, p90=high,
                        best=high, n=9)  # fmt: skip


TIME, LOAD = figure("us", 1.0, 0.8, 2.0), figure("ns", 4.0, 3.0, 5.0)
RATE = figure("GB/s", 1.0, 0.5, 1.25)


def measured(*notes: Note, **figures: Distribution) -> Measurement:
    case = Case(case_id="c", family="memory", op="copy", precision="fp32", route="r", shape={})
    return Measurement.model_validate(
        {"case": case, "device_id": "d", "status": "ok", "notes": notes, **figures}
    )


def test_what_stands_for_a_measurement_is_what_its_table_shows() -> None:
    assert shown(measured(latency=TIME, rate=RATE)) == RATE
    assert shown(measured(latency=TIME, access_ns=LOAD)) == LOAD
    assert shown(measured(latency=TIME)) == TIME
    assert shown(measured()) is None


def test_the_interval_of_a_rate_is_not_that_of_its_time() -> None:
    assert relative_halfwidth(TIME) == 0.6
    assert relative_halfwidth(RATE) == 0.375
    assert relative_halfwidth(figure("us", 0.0, 0.0, 1.0)) == 0.0


@pytest.mark.parametrize(
    ("halfwidth", "text"),
    [(0.0, "<0.1%"), (0.0004, "<0.1%"), (0.0126, "±1.3%"), (0.0994, "±9.9%"), (0.0996, "±10%"),
     (0.375, "±38%")],
)  # fmt: skip
def test_a_half_width_is_written_in_one_way(halfwidth: float, text: str) -> None:
    assert plus_minus(8.0, 8 - 8 * halfwidth, 8 + 8 * halfwidth) == text


def test_where_the_half_is_more_than_the_median_its_two_ends_are_written() -> None:
    assert plus_minus(2.19, 2.12, 57.8) == "2.12–57.8"
    assert plus_minus(2.19, 2.12, 57.8, "{:.0f}".format) == "2–58"
    told = noise_note(figure("GB/s", 2.19, 2.12, 57.8)).sentence
    assert "the two ends of the median's interval are a factor of 27 apart;" in told
    assert "reaches down to zero" in noise_note(figure("GB/s", 1.0, 0.0, 3.0)).sentence


def test_the_note_of_an_older_record_is_told_anew_and_others_are_left() -> None:
    old = Note(code="noisy", sentence="known to ±60.0%", figures={HALFWIDTH: 0.6})
    other, silent = Note(code="other", sentence="o"), Note(code="noisy", sentence="no figure")
    told = noise_retold(measured(old, other, silent, latency=TIME, rate=RATE))
    assert told.notes == (noise_note(RATE), other, silent)
    assert "no better than ±38%;" in told.notes[0].sentence
    assert told.notes[0].figures == {HALFWIDTH: 0.375}
    unmeasured = measured(old)
    assert noise_retold(unmeasured) is unmeasured
