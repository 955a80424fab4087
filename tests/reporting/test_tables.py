from roofprobe.records.schema import Measurement, Reason, Run
from roofprobe.reporting import tables

GPU = "GPU-00000000-example"


def test_a_headline_row_holds_figures_peaks_and_how_it_was_made(example_run: Run) -> None:
    assert tables.headline_rows(example_run, GPU, "compute")[2] == tables.HeadlineRow(
        label="fp8 fast accum",
        title="fp8 fast accum",
        unit="TFLOPS",
        regime="burst",
        burst="1500",
        settled="–",
        spread="±0.4%",
        range="1470–1515",
        datasheet="2000",
        share_datasheet="75%",
        derived="2200",
        share_derived="68%",
        clock_normalised="1650",
        share_clock_normalised="91%",
        pipe="–",
        share_pipe="–",
        energy="–",
        sm_clock="1500 MHz",
        route="torch._scaled_mm",
        kernel="example_gemm_fp8_tn_8192",
        shape="8192x8192x8192",
        variant="TN, fp32 accumulation, tensor pipe, fast accumulation, uniform data",
        samples="30",
        fallback="",
    )


def test_both_regimes_the_pipe_and_the_energy_stand_in_one_row(compute_run: Run) -> None:
    bf16, fp16 = tables.headline_rows(compute_run, "GPU-compute", "compute")[:2]
    assert (bf16.label, bf16.title) == ("bf16", "BF16")
    assert (bf16.burst, bf16.settled, bf16.energy) == ("820", "730", "0.680")
    assert (bf16.pipe, bf16.sm_clock) == ("850", "1700 MHz counted")
    # 820 of 850, each at its own clock: 1700 and 1750 MHz
    assert bf16.share_pipe == f"{820 / 1700 / (850 / 1750) * 100:.0f}%"
    assert (fp16.settled, fp16.share_pipe, fp16.energy) == ("–", "–", "–")


def test_a_figure_that_is_only_settled_is_no_burst(example_run: Run) -> None:
    row = tables.headline_rows(example_run, GPU, "compute")[0]
    assert (row.regime, row.burst, row.settled, row.rate) == ("settled", "–", "50.0", "50.0")


def test_columns_that_nobody_could_fill_are_not_shown(compute_run: Run) -> None:
    columns = (tables.Column("settled", "settled"), tables.Column("derived", "derived"))
    gpu = tables.headline_rows(compute_run, "GPU-compute", "compute")
    cpu = tables.headline_rows(compute_run, "cpu", "compute")
    assert tables.shown_columns(gpu, columns) == columns
    assert tables.shown_columns(cpu, columns) == columns[1:]


def test_unknown_peaks_are_dashes_and_small_rates_gigaflops(example_run: Run) -> None:
    row = tables.headline_rows(example_run, "cpu", "compute")[0]
    assert (row.rate, row.unit) == ("100", "GFLOPS")
    assert {row.datasheet, row.share_datasheet, row.derived, row.share_clock_normalised} == {"–"}


def test_a_headline_without_its_measurement_is_still_shown(example_run: Run) -> None:
    run = example_run.model_copy(update={"measurements": ()})
    row = tables.headline_rows(run, GPU, "memory")[0]
    assert (row.label, row.rate, row.shape, row.kernel) == ("read", "3000", "–", "–")


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


def test_reasons_that_differ_in_their_figures_are_one_group(example_run: Run) -> None:
    skipped = example_run.measurements[5]
    many = tuple(
        skipped.model_copy(
            update={"reason": Reason(code="memory", sentence=f"It needs {size} GiB of 80.")}
        )
        for size in ("1.5", "2,000", "3")
    )
    (group,) = tables.absent_groups(example_run.model_copy(update={"measurements": many}), GPU)
    assert group.sentence == "It needs 1.5–2,000 GiB of 80."
    assert group.count == 3


def test_a_missing_reason_is_said_to_be_missing(example_run: Run) -> None:
    silent = example_run.measurements[5].model_copy(update={"reason": None})
    run = example_run.model_copy(update={"measurements": (silent,)})
    assert tables.absent_groups(run, GPU)[0].sentence == "No reason was given."


def test_counts_tell_how_cases_ended(example_run: Run, empty_run: Run) -> None:
    counts = "16 cases: 10 ok, 1 failed, 1 invalid, 4 skipped (1 of them for want of time)"
    assert tables.counts_text(example_run) == counts
    told = "4 cases: 3 ok, 1 skipped (1 of them for want of time)"
    assert tables.counts_text(example_run, "cpu") == told
    assert tables.counts_text(empty_run) == "no cases"


def test_a_run_without_its_end_says_so(example_run: Run, incomplete_run: Run) -> None:
    running = example_run.model_copy(update={"status": "running"})
    late = "The time budget left 1 case out: results are partial."
    assert tables.status_sentence(example_run) == late
    assert tables.status_words(example_run) == "came to its end; the time budget left 1 case out"
    in_time = example_run.model_copy(update={"measurements": example_run.measurements[:1]})
    assert tables.status_sentence(in_time) is None
    assert tables.status_words(in_time) == "complete"
    simulated = in_time.model_copy(update={"simulated": "A generator made it up."})
    assert tables.status_sentence(simulated) == "Nothing here was measured: A generator made it up."
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
