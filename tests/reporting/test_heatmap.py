import re
from html import escape

import pytest

from roofprobe.records.schema import Run
from roofprobe.reporting import numbers
from roofprobe.reporting.heatmap import heatmap, level_of
from roofprobe.reporting.surface import Surface, surfaces
from roofprobe.reporting.svg import StyleSheet, figure_style, inline_svg


def drawn(surface: Surface) -> tuple[str, str]:
    sheet = StyleSheet()
    with figure_style():
        return inline_svg(heatmap(surface).figure, "k", "label", sheet), sheet.css()


@pytest.mark.parametrize(
    ("share", "level"), [(0.0, 0), (0.11, 0), (0.12, 1), (0.5, 4), (0.99, 8), (1.0, 8), (1.2, 8)]
)
def test_the_scale_runs_from_nothing_to_the_whole_peak(share: float, level: int) -> None:
    assert level_of(share) == level


def test_each_measured_shape_is_a_cell_with_its_share(compute_run: Run) -> None:
    surface = surfaces(compute_run, "GPU-compute")[0]
    svg, css = drawn(surface)
    texts = re.findall(r">([^<>]+)</text>", svg)
    for share in surface.shares.values():
        assert escape(numbers.share(share).removesuffix("%")) in texts, "as its table writes it"
    assert "&lt;1" in texts
    assert "4096×14336" in texts
    assert "fill: var(--heat-0)" in css
    assert "fill: var(--heat-ink-0)" in css


def test_narrow_cells_are_colour_alone(compute_run: Run) -> None:
    one = surfaces(compute_run, "GPU-compute")[0]
    columns = tuple((64 * n, 64) for n in range(1, 25))
    wide = Surface(
        label=one.label, title=one.title, basis=one.basis, peak=one.peak, unit=one.unit,
        regime=one.regime, ms=(16,), columns=columns,
        shares={(16, column): 0.37 for column in columns},
    )  # fmt: skip
    assert ">37<" not in drawn(wide)[0]


def test_the_label_tells_the_figures_to_those_who_cannot_see_it(compute_run: Run) -> None:
    drawing = heatmap(surfaces(compute_run, "GPU-compute")[0])
    assert "M 1024: 53% (43–62)" in drawing.label
    assert drawing.title == "BF16: share of the peak by shape"
