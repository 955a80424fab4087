from roofprobe.records.schema import Run
from roofprobe.reporting.case_tables import ceiling_rows, measurement_rows

GPU = "GPU-00000000-example"


def test_a_measurement_row_has_its_conditions(example_run: Run) -> None:
    row = measurement_rows(example_run, GPU)[1]
    assert (row.status, row.rate, row.error) == ("ok", "800 TFLOPS", "1.5e-04")
    assert (row.latency, row.sm_clock, row.power) == ("1.37 ms", "1500 MHz", "400 W")
    skipped = measurement_rows(example_run, GPU)[5]
    assert (skipped.rate, skipped.reason[:5]) == ("–", "nvfp4")


def test_ceilings_carry_basis_sources_and_whether_they_are_assumed(example_run: Run) -> None:
    printed, derived = ceiling_rows(example_run, GPU)
    assert printed.sources == ("https://example.invalid/sheet.pdf, page 1",)
    assert (derived.kind, derived.value, derived.clock) == (
        "derived, assumed",
        "1100 TFLOPS",
        "2000 MHz",
    )


def test_a_measurement_row_tells_its_line_its_role_and_a_fallback(compute_run: Run) -> None:
    rows = measurement_rows(compute_run, "GPU-compute")
    tuned = next(row for row in rows if row.role == "tune")
    assert (tuned.label, tuned.kernel, tuned.sm_clock) == (
        "bf16",
        "matmul_kernel_bf16",
        "1700 MHz counted",
    )
    assert "configuration 128x256x64" in tuned.variant
    (slow,) = [row for row in rows if row.label == "int8"]
    assert slow.reason == "Fallback: Integer products ran on the ordinary pipe."
    settled = next(row for row in rows if row.role == "settled")
    assert settled.energy == "0.680"


def test_a_search_has_no_shape_of_its_own(compute_run: Run) -> None:
    rows = measurement_rows(compute_run, "GPU-compute")
    assert {row.shape for row in rows if row.role == "search"} == {"–"}


def test_a_peak_that_serves_two_pipes_is_told_once_and_a_sparse_one_apart(compute_run: Run) -> None:
    ceiling = compute_run.ceilings[0]
    twice = (ceiling, ceiling.model_copy(update={"pipe": "vector"}))
    sparse = ceiling.model_copy(update={"sparsity": "2:4"})
    run = compute_run.model_copy(update={"ceilings": (*twice, sparse)})
    rows = ceiling_rows(run, "GPU-compute")
    assert [row.quantity for row in rows] == ["bf16", "bf16, 2:4 sparse"]
