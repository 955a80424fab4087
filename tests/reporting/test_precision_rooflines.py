import pytest

from roofprobe.records.schema import Run
from roofprobe.reporting.beside import NOTHING
from roofprobe.reporting.precision_rooflines import panels_of, precision_rooflines
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg

GPU = "GPU-00000000-example"


def test_each_precision_has_its_roof_its_knee_and_its_products(example_run: Run) -> None:
    panels = panels_of(example_run, GPU)
    assert [panel.precision for panel in panels] == ["fp64", "bf16", "int8", "fp8"]
    fp64, bf16, *_ = panels
    assert fp64.knee == 50_000 / 3000  # 50 TFLOPS over 3000 GB/s
    assert [point.rate for point in bf16.points] == [90.0, 800.0]


def test_a_product_left_of_the_knee_is_held_against_the_slope_and_right_of_it_against_the_flat(
    example_run: Run,
) -> None:
    (bf16,) = [panel for panel in panels_of(example_run, GPU) if panel.precision == "bf16"]
    small, large = bf16.points
    assert small.intensity < bf16.knee < large.intensity
    assert bf16.bound(small) == pytest.approx(3.0 * small.intensity)  # 3000 GB/s are 3 T per K
    assert bf16.bound(large) == 800.0
    assert bf16.share_left() == pytest.approx(90 / (3.0 * small.intensity))
    assert bf16.share_right() == 1.0


def test_the_exhibit_says_what_to_see_with_this_runs_numbers(example_run: Run) -> None:
    with figure_style():
        exhibit = precision_rooflines(example_run, GPU, NOTHING)
        assert exhibit is not None
        (drawing,) = exhibit.drawings
        svg = inline_svg(drawing.figure, "k", drawing.label, StyleSheet())
    assert drawing.sentence == (
        "The faster the pipe, the more a byte must be used: the knee moves from 16.7 operations "
        "per byte in fp64 to 500 in fp8 (memory: read, 3000 GB/s). Dashed: the datasheet's roof."
    )
    assert "bf16: roof 800 TFLOPS, knee at 267 operations per byte, 2 products" in drawing.label
    (table,) = exhibit.tables
    assert table.rows[1] == ("bf16", "800 TFLOPS", "267", "2", "18%", "100%")
    for words in (
        "bf16 torch.mm 512x512x512: 90.0 TFLOPS at 171 per byte, 18% of its roof",
        "datasheet: 1000 TFLOPS",
        "bf16: 800 TFLOPS measured",
    ):
        assert f"<title>{words}</title>" in svg


def test_one_precision_alone_needs_no_panels(example_run: Run, empty_run: Run) -> None:
    alone = example_run.model_copy(
        update={
            "headlines": tuple(h for h in example_run.headlines if h.precision in ("fp32", "bf16"))
        }
    )
    assert len(panels_of(alone, GPU)) == 1
    assert precision_rooflines(alone, GPU, NOTHING) is None
    assert precision_rooflines(empty_run, GPU, NOTHING) is None
