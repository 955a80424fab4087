import sys
from types import ModuleType

import matplotlib
import pytest

from roofprobe.records.schema import Run
from roofprobe.reporting import figures
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg

GPU = "GPU-00000000-example"


def test_drawing_leaves_matplotlibs_settings_alone(example_run: Run) -> None:
    before = dict(matplotlib.rcParams)
    pyplot: ModuleType | None = sys.modules.get("matplotlib.pyplot")
    with figure_style():
        drawing = figures.roofline(example_run, GPU)
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


def test_the_memory_roof_is_the_best_read_or_copy_kernel(example_run: Run) -> None:
    roof = figures.memory_roof(example_run, GPU)
    assert roof is not None
    assert roof.label == "read"


def test_points_stand_at_operations_per_byte(example_run: Run) -> None:
    points = figures.gemm_points(example_run, GPU)
    assert [p.precision for p in points] == ["bf16", "bf16", "fp64", "fp8", "int8"]
    assert points[0].intensity == 2 * 512**3 / (3 * 2 * 512**2)
    assert points[0].rate == 90.0


def test_without_both_kinds_of_result_there_is_no_roofline(
    example_run: Run, empty_run: Run
) -> None:
    compute_only = example_run.model_copy(
        update={"headlines": tuple(h for h in example_run.headlines if h.family == "compute")}
    )
    assert figures.roofline(compute_only, GPU) is None
    assert figures.roofline(empty_run, GPU) is None
    assert figures.bars(empty_run, GPU, "memory") is None


@pytest.mark.parametrize(
    ("places", "moved"),
    [
        ([], []),
        ([5.0], [5.0]),
        ([5.0, 30.0], [5.0, 30.0]),
        ([5.0, 6.0, 7.0], [5.0, 15.0, 25.0]),
        ([50.0, 95.0, 99.0], [50.0, 90.0, 100.0]),
    ],
)
def test_labels_are_pushed_apart_and_stay_below_the_top(
    places: list[float], moved: list[float]
) -> None:
    assert figures.spaced(places, least=10.0, highest=100.0) == moved
