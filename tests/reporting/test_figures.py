import sys
from types import ModuleType

import matplotlib

from roofprobe.records.schema import Family, Run
from roofprobe.reporting import figures
from roofprobe.reporting.roofline import roofline
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg

GPU = "GPU-00000000-example"


def test_drawing_leaves_matplotlibs_settings_alone(example_run: Run) -> None:
    before = dict(matplotlib.rcParams)
    pyplot: ModuleType | None = sys.modules.get("matplotlib.pyplot")
    with figure_style():
        drawing = roofline(example_run, GPU)
        assert drawing is not None
        inline_svg(drawing.figure, "k", "label", StyleSheet())
    assert dict(matplotlib.rcParams) == before
    assert sys.modules.get("matplotlib.pyplot") is pyplot


def test_a_users_settings_do_not_change_the_figure(example_run: Run) -> None:
    def drawn() -> str:
        with figure_style():
            drawing = figures.bars(example_run, GPU, "memory")
            assert drawing is not None
            return inline_svg(drawing.figure, "k", "label", StyleSheet())

    plain = drawn()
    with matplotlib.rc_context({"axes.grid": True, "font.size": 30, "lines.linewidth": 9}):
        assert drawn() == plain


def test_text_that_no_font_has_draws_without_a_warning(example_run: Run) -> None:
    odd = tuple(h.model_copy(update={"label": "设备$x$"}) for h in example_run.headlines)
    run = example_run.model_copy(update={"headlines": odd})
    with figure_style():
        drawing = figures.bars(run, GPU, "compute")
        assert drawing is not None
        assert "设备$x$" in inline_svg(drawing.figure, "k", "label", StyleSheet())


def test_without_a_result_there_are_no_bars(empty_run: Run) -> None:
    assert figures.bars(empty_run, GPU, "memory") is None


def test_bars_are_shares_where_rows_differ_too_much_to_be_seen_together(
    compute_run: Run, example_run: Run
) -> None:
    def told(run: Run, device: str, family: Family) -> str:
        with figure_style():
            drawing = figures.bars(run, device, family)
            assert drawing is not None
            return inline_svg(drawing.figure, "k", "label", StyleSheet())

    assert "share of the datasheet" in told(compute_run, "GPU-compute", "compute")
    assert "share of" not in told(compute_run, "cpu", "compute")
    assert ">GB/s<" in told(example_run, GPU, "memory")


def test_the_bars_sentence_tells_what_settling_costs_most(compute_run: Run) -> None:
    drawing = figures.bars(compute_run, "GPU-compute", "compute")
    assert drawing is not None
    assert "Settled, fp8-fast loses most (−13% of its burst)." in drawing.sentence
    assert "settled" not in str(figures.bars(compute_run, "cpu", "compute")).lower()
