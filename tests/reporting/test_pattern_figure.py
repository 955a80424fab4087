from dataclasses import replace

from roofprobe.records.schema import Run
from roofprobe.reporting.pattern_figure import pattern_figures
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg
from roofprobe.reporting.sweep_tables import pattern_rows, pattern_table

GPU = "GPU-compute"


def test_rate_clock_and_power_are_drawn_relative_to_uniform_data(compute_run: Run) -> None:
    uniform, zeros, ones = pattern_rows(compute_run, GPU)
    assert (uniform.ratio, uniform.clock_ratio, uniform.power_ratio) == (None, None, None)
    assert (zeros.ratio, zeros.clock_ratio, zeros.power_ratio) == (900 / 820, 1900 / 1700, 0.625)
    assert ones.power_ratio == 330 / 480
    with figure_style():
        rate, clock, power = pattern_figures(pattern_table(pattern_rows(compute_run, GPU)))
        svg = inline_svg(power.figure, "k", power.label, StyleSheet())
    assert rate.sentence == (
        "zeros changes the rate most: +10% in bf16; this much of a figure can be owed to its data "
        "alone."
    )
    assert clock.label == (
        "Dot chart of clock relative to uniform data. bf16: zeros +12%, ones +9%."
    )
    assert power.sentence.startswith("zeros changes the power most: −38% in bf16")
    assert "<title>bf16, zeros: −38%, 300 W</title>" in svg


def test_what_is_not_known_is_not_drawn_and_what_does_not_move_says_so(compute_run: Run) -> None:
    uniform, *others = pattern_rows(compute_run, GPU)
    same = [replace(row, ratio=1.01, clock_ratio=None, power_ratio=None) for row in others]
    with figure_style():
        (rate,) = pattern_figures(pattern_table([uniform, *same]))
        assert pattern_figures(pattern_table([])) == ()
    assert rate.sentence == "No pattern changes the rate by more than 2%."


def test_what_others_disturbed_explains_no_pattern(compute_run: Run) -> None:
    uniform, zeros, ones = pattern_rows(compute_run, GPU)
    with figure_style():
        rate, *_ = pattern_figures(pattern_table([uniform, replace(zeros, disturbed=True), ones]))
        alone, *_ = pattern_figures(pattern_table([replace(uniform, disturbed=True), zeros, ones]))
    assert rate.sentence.startswith("ones changes the rate most:")
    assert rate.sentence.endswith(
        "Others were at work beside 1 of the 2 comparisons, which are left out."
    )
    assert alone.sentence == (
        "Others were at work beside all of these cases, so nothing can be told of what a pattern "
        "does to the rate."
    )
