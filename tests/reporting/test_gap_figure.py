import pytest

from roofprobe.records.schema import Attribution, Headline, Run
from roofprobe.reporting.gap_figure import Stack, gap, stack_of


def stack(run: Run, **factors: float | None) -> Stack:
    headline: Headline = run.headlines[0].model_copy(
        update={"attribution": Attribution.model_validate({**factors, "basis": "b"})}
    )
    found = stack_of(headline)
    assert found is not None
    return found


def test_the_parts_are_what_each_factor_loses(compute_run: Run) -> None:
    found = stack(compute_run, clock=0.9, pipe=0.8, feeding=0.5)
    assert found.reached == pytest.approx(0.36)
    assert found.feeding == pytest.approx(0.72 - 0.36)
    assert found.pipe == pytest.approx(0.9 - 0.72)
    assert found.clock == pytest.approx(1 - 0.9)
    assert sum(width for _, width in found.parts()) == pytest.approx(1.0)
    assert found.greatest_loss()[0] == "feeding"


def test_a_clock_above_the_datasheets_makes_the_bar_longer(compute_run: Run) -> None:
    found = stack(compute_run, clock=1.1, pipe=0.9, feeding=0.9)
    assert found.clock == 0.0
    assert sum(width for _, width in found.parts()) == pytest.approx(1.1)


@pytest.mark.parametrize(
    ("clock", "pipe", "feeding"),
    [(1.1, 1.2, 0.9), (0.9, 0.9, 1.3), (1.0, 1.3, 1.1), (None, 1.3, 0.7), (None, None, 1.2)],
)
def test_no_part_is_ever_negative_and_the_reached_share_is_kept(
    compute_run: Run, clock: float | None, pipe: float | None, feeding: float
) -> None:
    found = stack(compute_run, clock=clock, pipe=pipe, feeding=feeding)
    assert found.reached == pytest.approx((clock or 1) * (pipe or 1) * feeding)
    assert all(width >= 0 for _, width in found.parts())


def test_the_sentence_names_the_greatest_loss(compute_run: Run) -> None:
    drawing = gap(compute_run, "GPU-compute")
    assert drawing is not None
    assert drawing.sentence.startswith("The greatest single loss is bf16's 12% to the pipe")
    assert "bf16: 82% reached, 1% lost to feeding, 12% lost to pipe, 6% lost to clock" in (
        drawing.label
    )


def test_a_processors_bars_are_of_the_derived_peak(compute_run: Run) -> None:
    drawing = gap(compute_run, "cpu")
    assert drawing is not None
    assert "shares of the derived peak, clock aside" in drawing.label
    assert "lost to clock" not in drawing.label


def test_without_a_pipes_rate_there_is_no_figure(example_run: Run) -> None:
    assert gap(example_run, "cpu") is None
