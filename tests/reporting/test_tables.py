from roofprobe.records.schema import Measurement, Run
from roofprobe.reporting import tables

GPU = "GPU-00000000-example"


def test_a_headline_row_holds_figures_peaks_and_how_it_was_made(example_run: Run) -> None:
    assert tables.headline_rows(example_run, GPU, "compute")[2] == tables.HeadlineRow(
        label="fp8 fast accum",
        unit="TFLOPS",
        achieved="1500",
        spread="±0.4%",
        range="1470–1515",
        datasheet="2000",
        share_datasheet="75%",
        derived="2200",
        share_derived="68%",
        clock_normalised="1650",
        share_clock_normalised="91%",
        sm_clock="1500 MHz",
        route="torch._scaled_mm",
        kernel="example_gemm_fp8_tn_8192",
        shape="8192x8192x8192",
        variant="TN, fp32 accumulation, tensor pipe, fast accumulation, uniform data",
        regime="burst",
        samples="30",
    )


def test_unknown_peaks_are_dashes_and_small_rates_gigaflops(example_run: Run) -> None:
    row = tables.headline_rows(example_run, "cpu", "compute")[0]
    assert (row.achieved, row.unit) == ("100", "GFLOPS")
    assert {row.datasheet, row.share_datasheet, row.derived, row.share_clock_normalised} == {"–"}


def test_a_headline_without_its_measurement_is_still_shown(example_run: Run) -> None:
    run = example_run.model_copy(update={"measurements": ()})
    row = tables.headline_rows(run, GPU, "memory")[0]
    assert (row.label, row.achieved, row.shape, row.kernel) == ("read", "3000", "–", "–")


def test_cases_with_the_same_reason_are_one_group_and_the_worst_comes_first(
    example_run: Run,
) -> None:
    groups = tables.absent_groups(example_run, GPU)
    assert [(g.status, g.code, g.count) for g in groups] == [
        ("failed", "wrong-result", 1),
        ("invalid", "above-bound", 1),
        ("skipped", "unsupported", 3),
    ]
    assert groups[2].labels == ("gemm nvfp4 torch._scaled_mm", "gemm nvfp4 triton")
    assert groups[2].remedy == "Use a newer device."


def test_a_missing_reason_is_said_to_be_missing(example_run: Run) -> None:
    silent = example_run.measurements[5].model_copy(update={"reason": None})
    run = example_run.model_copy(update={"measurements": (silent,)})
    assert tables.absent_groups(run, GPU)[0].sentence == "No reason was given."


def test_equal_notes_are_told_once(example_run: Run) -> None:
    copy = next(m for m in example_run.measurements if m.notes)
    twice = example_run.model_copy(update={"measurements": (copy, copy)})
    (note,) = tables.note_groups(twice, GPU)
    assert (note.code, note.labels, note.count) == ("noisy", ("copy fp32 triton",), 2)


def test_counts_tell_how_cases_ended(example_run: Run, empty_run: Run) -> None:
    assert tables.counts_text(example_run) == "16 cases: 10 ok, 1 failed, 1 invalid, 4 skipped"
    assert tables.counts_text(example_run, "cpu") == "4 cases: 3 ok, 1 skipped"
    assert tables.counts_text(empty_run) == "no cases"


def test_a_measurement_row_has_its_conditions(example_run: Run) -> None:
    row = tables.measurement_rows(example_run, GPU)[1]
    assert (row.status, row.rate, row.error) == ("ok", "800 TFLOPS", "1.5e-04")
    assert (row.latency, row.sm_clock, row.power) == ("1.37 ms", "1500 MHz", "400 W")
    skipped = tables.measurement_rows(example_run, GPU)[5]
    assert (skipped.rate, skipped.reason[:5]) == ("–", "nvfp4")


def test_ceilings_carry_basis_sources_and_whether_they_are_assumed(example_run: Run) -> None:
    printed, derived = tables.ceiling_rows(example_run, GPU)
    assert printed.sources == ("https://example.invalid/sheet.pdf, page 1",)
    assert (derived.kind, derived.value, derived.clock) == (
        "derived, assumed",
        "1100 TFLOPS",
        "2000 MHz",
    )


def test_findings_come_worst_first_with_the_device_as_torch_names_it(example_run: Run) -> None:
    rows = tables.finding_rows(example_run)
    assert [(row.judgement, row.device) for row in rows] == [
        ("unknown", "cpu"),
        ("warn", "cuda:0"),
        ("pass", "cuda:0"),
    ]


def test_a_run_that_was_not_judged_is_unknown(empty_run: Run) -> None:
    assert tables.judgement_of(empty_run) == "unknown"
    assert tables.verdict_sentence(empty_run) == "This run was not judged."


def test_a_run_without_its_end_says_so(example_run: Run, incomplete_run: Run) -> None:
    running = example_run.model_copy(update={"status": "running"})
    assert tables.status_sentence(example_run) is None
    assert "still going on" in str(tables.status_sentence(running))
    assert "did not come to its end" in str(tables.status_sentence(incomplete_run))
    assert tables.event_lines(incomplete_run) == (
        "2000-01-01T00:01:00+00:00 worker-died (cuda:0): The worker ended by signal 9.",
    )


def test_a_case_measured_again_counts_as_it_was_measured_last(example_run: Run) -> None:
    first = example_run.measurements[1]
    again: Measurement = first.model_copy(update={"kernel": "second_kernel"})
    run = example_run.model_copy(update={"measurements": (first, again)})
    assert tables.headline_rows(run, GPU, "compute")[1].kernel == "second_kernel"
