import pytest

from roofprobe.records.schema import Attribution, Headline, Run
from roofprobe.reporting.compute_tables import (
    attributed_share,
    gap_rows,
    reference_of,
    route_groups,
    support_lines,
    support_matrix,
)

GPU = "GPU-compute"


def test_routes_are_compared_at_one_shape_the_winner_first(compute_run: Run) -> None:
    (group,) = route_groups(compute_run, GPU)
    assert (group.label, group.title, group.shape, group.regime) == (
        "bf16", "BF16", "16384x8192x4096", "burst",
    )  # fmt: skip
    winner, loser = group.rows
    assert (winner.route, winner.rate, winner.gain, winner.wins) == (
        "torch.mm", "820 TFLOPS", "–", True,
    )  # fmt: skip
    assert (winner.kernel, winner.instruction, winner.tried) == ("example_gemm_bf16", "wgmma", 1)
    # the best of the planned configuration and two that were tried
    assert (loser.route, loser.rate, loser.gain, loser.tried) == ("triton", "660 TFLOPS", "−20%", 3)


def test_a_fallback_among_routes_is_told(compute_run: Run) -> None:
    slow = next(m for m in compute_run.measurements if m.case.row == "int8")
    other = slow.model_copy(
        update={
            "case": slow.case.model_copy(update={"route": "triton"}),
            "identity": None,
            "kernel": "own_kernel",
        }
    )
    run = compute_run.model_copy(update={"measurements": (slow, other)})
    (group,) = route_groups(run, GPU)
    assert [(r.kernel, r.instruction, r.fallback) for r in group.rows] == [
        ("example_igemm_int8", "imad", "Integer products ran on the ordinary pipe."),
        ("own_kernel", "–", ""),
    ]


def test_one_route_alone_is_no_comparison(compute_run: Run) -> None:
    alone = tuple(m for m in compute_run.measurements if m.case.route != "triton")
    run = compute_run.model_copy(update={"measurements": alone})
    assert route_groups(run, GPU) == ()
    assert [group.label for group in route_groups(run, "cpu")] == ["fp32"]


def test_the_factors_of_the_gap_multiply_to_the_share_of_the_datasheet(compute_run: Run) -> None:
    headlines = [h for h in compute_run.headlines if h.attribution and h.device_id == GPU]
    assert [h.label for h in headlines] == ["bf16", "fp8-fast", "fp64-vector"]
    for headline in headlines:
        assert attributed_share(headline) == pytest.approx(headline.share_datasheet)
    assert [(r.share, r.reference) for r in gap_rows(compute_run, GPU)] == [
        ("82%", "the datasheet"), ("75%", "the datasheet"), ("91%", "the datasheet"),
    ]  # fmt: skip


def test_without_a_datasheet_the_gap_is_to_the_derived_peak(compute_run: Run) -> None:
    (row,) = gap_rows(compute_run, "cpu")
    assert (row.clock, row.pipe, row.feeding) == ("–", "0.812", "0.846")
    assert (row.share, row.reference) == ("69%", "the derived peak, clock aside")
    assert reference_of(Attribution(feeding=1, basis="b")) == "the pipe alone"


def test_what_is_not_attributed_has_no_share(compute_run: Run) -> None:
    plain: Headline = next(h for h in compute_run.headlines if h.label == "fp16")
    assert attributed_share(plain) is None


def test_support_tells_route_and_instruction_or_what_it_would_take(compute_run: Run) -> None:
    lines = {line.label: line for line in support_lines(compute_run, GPU)}
    assert (lines["bf16"].status, lines["bf16"].route, lines["bf16"].instruction) == (
        "ok", "torch.mm", "wgmma",
    )  # fmt: skip
    assert lines["int8"].code == "fallback"
    nvfp4 = lines["nvfp4"]
    assert (nvfp4.status, nvfp4.route, nvfp4.code) == ("skipped", "–", "architecture")
    assert nvfp4.remedy == "Use a newer device."


def test_the_matrix_holds_every_row_of_every_device(compute_run: Run) -> None:
    matrix = support_matrix(compute_run, {GPU: "cuda:0"})
    assert matrix is not None
    assert matrix.devices == ("cuda:0", "cpu")
    cells = dict(matrix.rows)
    assert cells["bf16"] == ("ok", "–")
    assert cells["fp8-fast"] == ("ok", "skipped")
    one = tuple(row for row in compute_run.support if row.device_id == GPU)
    assert support_matrix(compute_run.model_copy(update={"support": one}), {}) is None
