"""The serving part of a report: what is said and drawn, and where it is left out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roofprobe.costmodel.calibration_file import CalibrationFile
from roofprobe.records.schema import Run
from roofprobe.reporting.beside import NOTHING, Beside
from roofprobe.reporting.exhibit import Exhibit
from roofprobe.reporting.serving_exhibit import calibration_of, serving, short_ms, target_tables
from roofprobe.reporting.serving_points import TARGETS, most_within, serving_of
from roofprobe.reporting.svg import figure_style


def made(run: Run, beside: Beside, number: int = 0) -> Exhibit:
    with figure_style():
        found = serving(run, run.devices[number].device_id, beside)
    assert found is not None
    return found


def twins(run: Run, beside: Beside) -> tuple[Run, Beside]:
    """Return the run with a second device like the first, and its calibration."""
    assert beside.calibration is not None
    (device,), (calibrated,) = run.devices, beside.calibration.devices
    second = {"device_id": "second", "torch_device": "cuda:1"}
    file = beside.calibration.model_copy(
        update={"devices": (calibrated, calibrated.model_copy(update={"device_id": "second"}))}
    )
    devices = (device, device.model_copy(update=second))
    return run.model_copy(update={"devices": devices}), replace(beside, calibration=file)


def test_there_are_four_figures_two_tables_and_where_the_targets_are_from(
    served: tuple[Run, Beside],
) -> None:
    found = made(*served)
    assert found.title == "Prefill and decode of llama-3.1-8b, predicted"
    assert [drawing.title for drawing in found.drawings] == [
        "Time to first token over the prompt",
        "Time per output token over the batch",
        "Time to first token under load",
        "Throughput against what each user sees",
    ]
    assert [len(table.heads) for table in found.tables] == [6, 7]
    assert any("MLPerf" in note for note in found.notes)
    assert any("Hollow marks" in note and "outside" in note for note in found.notes)


def test_the_sentence_says_which_load_keeps_the_tightest_target(
    served: tuple[Run, Beside],
) -> None:
    run, beside = served
    calibration = calibration_of(run.devices[0].device_id, beside)
    assert calibration is not None
    at = most_within(serving_of(calibration).load, TARGETS[0])
    assert at is not None
    found = made(run, beside)
    assert f"“interactive” is still met with {at.in_flight} requests in flight" in found.sentence
    assert "not measured" in found.sentence
    assert found.tables[0].rows[0][:4] == ("interactive", "500 ms", "30 ms", str(at.in_flight))


def test_every_point_is_told_in_words(served: tuple[Run, Beside]) -> None:
    for drawing in made(*served).drawings:
        assert drawing.label.count(";") + drawing.label.count(",") > 8
        assert drawing.sentence.endswith(".")


def test_of_two_devices_of_a_kind_the_first_has_the_curves(served: tuple[Run, Beside]) -> None:
    run, beside = twins(*served)
    first, second = made(run, beside), made(run, beside, 1)
    assert first.drawings
    assert not second.drawings
    assert second.tables == first.tables[:1]
    assert "(cuda:0), a device of the same kind" in second.sentence


def test_without_a_calibration_there_is_nothing(
    served: tuple[Run, Beside], example_run: Run
) -> None:
    run, beside = served
    device_id = run.devices[0].device_id
    assert serving(run, device_id, NOTHING) is None
    assert serving(run, "another", beside) is None
    assert serving(example_run, "cpu", Beside(CalibrationFile(run_id="empty"))) is None
    assert target_tables(run, device_id, NOTHING) == ()


def with_ops(beside: Beside, *wanted: str, rename: str | None = None) -> Beside:
    assert beside.calibration is not None
    (device,) = beside.calibration.devices
    ops = tuple(
        fit.model_copy(update={"op": rename} if rename and fit.op == "rope" else {})
        for fit in device.ops
        if not wanted or fit.op in wanted
    )
    changed = device.model_copy(update={"ops": ops})
    return Beside(beside.calibration.model_copy(update={"devices": (changed,)}))


def test_layers_alone_are_no_language_model(served: tuple[Run, Beside]) -> None:
    run, beside = served
    assert serving(run, run.devices[0].device_id, with_ops(beside, "gemm")) is None


def test_what_cannot_be_predicted_is_one_sentence(served: tuple[Run, Beside]) -> None:
    run, beside = served
    partly = with_ops(beside, "gemm", "attention_decode")
    found = made(run, partly)
    assert found.sentence.startswith("Nothing is predicted here: ")
    assert "never measured" in found.sentence
    assert (found.drawings, found.tables) == ((), ())
    assert target_tables(run, run.devices[0].device_id, partly) == ()


def test_an_operation_that_nobody_knows_is_passed_over(served: tuple[Run, Beside]) -> None:
    run, beside = served
    assert made(run, with_ops(beside, rename="unheard-of")).drawings


@pytest.mark.parametrize(("value", "text"), [(30.0, "30 ms"), (500.0, "500 ms"), (2000.0, "2 s")])
def test_round_times_are_short(value: float, text: str) -> None:
    assert short_ms(value) == text
