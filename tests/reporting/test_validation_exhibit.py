"""Predicted beside measured, per device: figures, words, and where there is nothing."""

from __future__ import annotations

from dataclasses import replace

from roofprobe.costmodel.validation import Validation
from roofprobe.records.schema import Run
from roofprobe.reporting.beside import NOTHING, Beside
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg
from roofprobe.reporting.validation_exhibit import step_tables, validation, validation_table


def known(beside: Beside) -> Validation:
    assert beside.validation is not None
    return beside.validation


def test_the_sentence_has_the_errors_and_how_many_intervals_hold(
    served: tuple[Run, Beside],
) -> None:
    run, beside = served
    with figure_style():
        found = validation(run, run.devices[0].device_id, beside)
        assert found is not None
        drawn = inline_svg(found.drawings[0].figure, "k", "label", StyleSheet())
    told = known(beside)
    assert told.median_error is not None
    assert told.worst_error is not None
    assert f"off by {told.median_error:.1%} in the median and {told.worst_error:.1%}" in (
        found.sentence
    )
    inside = sum(step.inside for step in told.steps)
    assert f"{inside} of 4 lie in the 80 % interval" in found.sentence
    # predicted over measured: 1/0.8, 1/0.95, 1/1.05, 1/1.3
    assert "2 of 4 steps lie between the dotted lines (±15%); 2 took longer than predicted" in (
        found.drawings[0].sentence
    )
    for phase in ("prefill, graph", "decode, graph"):
        assert phase in drawn


def test_the_furthest_off_stands_first_and_signs_say_which_way(
    served: tuple[Run, Beside],
) -> None:
    run, beside = served
    (table,) = step_tables(run, run.devices[0].device_id, beside)
    assert [row[4] for row in table.rows] == ["+25.0%", "−23.1%", "+5.3%", "−4.8%"]
    assert table.rows[0][0] == "prefill of 1 × 128 tokens, graph"


def test_of_many_steps_the_furthest_forty_are_shown(served: tuple[Run, Beside]) -> None:
    steps = known(served[1]).steps * 20
    table = validation_table(steps)
    assert len(table.rows) == 40
    assert "The 40 furthest of 80." in table.sentence


def test_steps_that_could_not_be_compared_are_told(served: tuple[Run, Beside]) -> None:
    run, beside = served
    told = Validation.model_validate(
        {
            **known(beside).model_dump(),
            "notes": ["busy"],
            "unheld": [{"case_id": "c", "sentence": "no time"}],
        }
    )
    with figure_style():
        found = validation(run, run.devices[0].device_id, replace(beside, validation=told))
    assert found is not None
    assert found.notes == ("busy", "Not compared: c: no time")


def test_a_device_without_steps_has_no_such_part(served: tuple[Run, Beside]) -> None:
    run, beside = served
    assert validation(run, "another", beside) is None
    assert validation(run, run.devices[0].device_id, NOTHING) is None
    assert step_tables(run, "another", beside) == ()


def test_words_of_a_file_are_no_mathematics_and_a_step_without_time_no_point(
    served: tuple[Run, Beside],
) -> None:
    run, beside = served
    steps = [
        step.model_copy(update={"phase": r"$\frac$", "model": r"$\frac$", **times})
        for step, times in zip(known(beside).steps, ({"measured_us": 0.0}, {}, {}, {}), strict=True)
    ]
    told = known(beside).model_copy(update={"steps": tuple(steps)})
    with figure_style():
        found = validation(run, run.devices[0].device_id, replace(beside, validation=told))
        assert found is not None
        assert r"$\frac$" in inline_svg(found.drawings[0].figure, "k", "label", StyleSheet())
    assert found.sentence.startswith("3 steps")


def test_the_operation_with_most_of_the_difference_is_named(served: tuple[Run, Beside]) -> None:
    run, beside = served
    told = known(beside)
    watched = [
        step.model_copy(
            update={
                "parts": tuple(
                    part.model_copy(
                        update={"measured_us": part.predicted_us + 500 * (part.name == "down")}
                    )
                    for part in step.parts
                )
            }
        )
        for step in told.steps
    ]
    seen = told.model_copy(update={"steps": tuple(watched)})
    with figure_style():
        unwatched = validation(run, run.devices[0].device_id, beside)
        found = validation(run, run.devices[0].device_id, replace(beside, validation=seen))
    assert unwatched is not None
    assert "furthest off" not in unwatched.sentence
    assert found is not None
    assert "Of all operations down is furthest off" in found.sentence
