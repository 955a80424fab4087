from roofprobe.records.schema import NOT_ALONE, Note, Run
from roofprobe.reporting.beside import NOTHING
from roofprobe.reporting.exhibit import Exhibit
from roofprobe.reporting.regimes import pairs_of, regimes
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg

GPU = "GPU-compute"


def test_burst_and_settled_stand_side_by_side_with_their_clocks(compute_run: Run) -> None:
    bf16, fp8 = pairs_of(compute_run, GPU)
    assert (bf16.label, bf16.burst, bf16.settled) == ("bf16", "820 TFLOPS", "730 TFLOPS")
    assert (bf16.rate, bf16.clock) == (730 / 820, 1500 / 1700)
    assert (bf16.clocks, bf16.energy) == ("1700 → 1500 MHz", "0.680")
    assert fp8.rate == 1300 / 1500


def test_the_sentence_tells_whether_the_clock_explains_the_loss(compute_run: Run) -> None:
    with figure_style():
        exhibit = regimes(compute_run, GPU, NOTHING)
        assert exhibit is not None
        (drawing,) = exhibit.drawings
        svg = inline_svg(drawing.figure, "k", drawing.label, StyleSheet())
    assert drawing.sentence == (
        "fp8-fast loses most: settled it keeps 87% of its burst, and 91% of its clock: the clock "
        "alone does not explain it."
    )
    assert "bf16: 820 TFLOPS burst, 730 TFLOPS settled, 89% of it, clock 88%" in drawing.label
    assert "<title>bf16: clock 1700 → 1500 MHz</title>" in svg
    (table,) = exhibit.tables
    assert table.heads == ("row", "burst", "settled", "kept", "clock", "power", "J per T")
    assert table.rows[0][3:5] == ("89%", "1700 → 1500 MHz")


def test_a_row_measured_in_one_regime_alone_is_not_compared(
    compute_run: Run, empty_run: Run
) -> None:
    assert pairs_of(compute_run, "cpu") == ()
    assert regimes(compute_run, "cpu", NOTHING) is None
    assert regimes(empty_run, "cpu", NOTHING) is None


def test_rows_that_lose_nothing_say_so(compute_run: Run) -> None:
    steady = tuple(
        h.model_copy(update={"settled": h.rate}) if h.settled else h for h in compute_run.headlines
    )
    run = compute_run.model_copy(update={"headlines": steady})
    with figure_style():
        exhibit = regimes(run, GPU, NOTHING)
    assert exhibit is not None
    assert exhibit.drawings[0].sentence == "No row loses anything when it goes on for seconds."


def test_what_others_disturbed_is_no_loss_of_power_or_cooling(compute_run: Run) -> None:
    settled = {h.label: h.settled_case_id for h in compute_run.headlines if h.settled_case_id}
    note = Note(code=NOT_ALONE, sentence="others were at work")

    def disturbed(*cases: str | None) -> Exhibit:
        measured = tuple(
            m.model_copy(update={"notes": (note,)}) if m.case.case_id in cases else m
            for m in compute_run.measurements
        )
        with figure_style():
            found = regimes(compute_run.model_copy(update={"measurements": measured}), GPU, NOTHING)
        assert found is not None
        return found

    one = disturbed(settled["fp8-fast"])
    assert one.drawings[0].sentence.startswith("bf16 loses most: settled it keeps 89%")
    assert one.drawings[0].sentence.endswith("Left out, since others were at work: fp8-fast.")
    assert one.sentence.endswith("on an idle host. Here others were at work during 1 of 2 rows.")
    every = disturbed(*settled.values())
    assert every.drawings[0].sentence.startswith("Others were at work during every row, so")
    assert "clock" not in every.drawings[0].sentence
