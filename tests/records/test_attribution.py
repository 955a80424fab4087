from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from roofprobe.records.attribution import attribution_of
from roofprobe.records.schema import (
    NOT_ALONE,
    Case,
    Ceiling,
    Distribution,
    Measurement,
    Note,
    Span,
)

DERIVED = Ceiling(
    device_id="d", kind="derived", family="compute", precision="bf16", peak_key="bf16_tensor",
    value=1000.0, unit="TFLOPS", clock_mhz=2000.0, basis="100 units",
)  # fmt: skip
DATASHEET = DERIVED.model_copy(update={"kind": "datasheet", "value": 900.0, "clock_mhz": 1800.0})


def measured(tflops: float, clock_mhz: float | None, role: Any = "anchor") -> Measurement:
    case = Case(
        case_id=role, family="compute", op="gemm", precision="bf16", route="r", shape={}, role=role
    )
    rate = Distribution(
        unit="TFLOPS", median=tflops, ci_low=tflops, ci_high=tflops, p10=tflops, p90=tflops,
        best=tflops, n=1,
    )  # fmt: skip
    clock = None
    if clock_mhz is not None:
        clock = Span(min=clock_mhz, median=clock_mhz, max=clock_mhz)
    return Measurement(case=case, device_id="d", status="ok", rate=rate, clock_mhz=clock)


def test_the_factors_are_clock_pipe_and_feeding() -> None:
    found = attribution_of(measured(600.0, 1500), measured(720.0, 1600), DATASHEET, DERIVED)
    assert found is not None
    assert found.clock == pytest.approx(1500 / 1800)
    assert found.pipe == pytest.approx(720 / 800)
    assert found.feeding == pytest.approx((600 / 750) / (720 / 800))
    assert found.basis == (
        "product at 1500 MHz, pipe at 1600 MHz, counted by the device; "
        "the datasheet's 900 TFLOPS is 1800 MHz"
    )


positive = st.floats(min_value=1e-3, max_value=1e5)


@given(rate=positive, alone=positive, here=positive, there=positive, printed=positive)
def test_the_factors_always_multiply_to_the_share_of_the_datasheet(
    rate: float, alone: float, here: float, there: float, printed: float
) -> None:
    datasheet = DATASHEET.model_copy(update={"value": printed})
    found = attribution_of(measured(rate, here), measured(alone, there), datasheet, DERIVED)
    assume(found is not None)
    assert found is not None
    assert found.clock is not None
    assert found.pipe is not None
    assert found.feeding <= 1 / 0.98 + 1e-9
    assert found.clock * found.pipe * found.feeding == pytest.approx(rate / printed, rel=1e-12)


@pytest.mark.parametrize(
    ("alone", "there", "explains"),
    [(600.0, 1500, True), (590.0, 1500, True), (580.0, 1500, False), (480.0, 1200, True),
     (472.0, 1200, True), (460.0, 1200, False)],
)  # fmt: skip
def test_a_pipe_that_does_less_per_cycle_than_its_product_explains_nothing(
    alone: float, there: float, explains: bool
) -> None:
    found = attribution_of(measured(600.0, 1500), measured(alone, there), DATASHEET, DERIVED)
    assert (found is not None) is explains


def test_a_datasheet_that_its_own_clock_does_not_give_is_told() -> None:
    datasheet = DATASHEET.model_copy(update={"value": 950.0})
    found = attribution_of(measured(600.0, 1500), measured(700.0, 1500), datasheet, DERIVED)
    assert found is not None
    assert found.basis.endswith("950 TFLOPS is 1900 MHz, though it is quoted at 1800 MHz")


def test_without_the_pipes_own_rate_nothing_is_attributed() -> None:
    assert attribution_of(measured(600.0, 1500), None, DATASHEET, DERIVED) is None


def test_without_a_datasheet_the_clock_is_nobodys_fault() -> None:
    found = attribution_of(measured(600.0, 1500), measured(720.0, 1600), None, DERIVED)
    assert found is not None
    assert found.clock is None
    assert found.pipe == pytest.approx(0.9)
    assert "no datasheet" in found.basis


def test_on_a_processor_pipe_is_against_the_assumed_peak_and_feeding_as_measured() -> None:
    assumed = DERIVED.model_copy(update={"assumed": True})
    found = attribution_of(measured(600.0, None), measured(800.0, None), None, assumed)
    assert found is not None
    assert (found.clock, found.pipe, found.feeding) == (None, 0.8, 0.75)
    assert found.basis.endswith("pipe against an assumed peak: 100 units")


def test_without_a_clock_or_a_derived_peak_only_feeding_is_known() -> None:
    for derived in (DERIVED, None):
        found = attribution_of(measured(600.0, None), measured(800.0, None), DATASHEET, derived)
        assert found is not None
        assert (found.clock, found.pipe, found.feeding) == (None, None, 0.75)


def test_a_row_of_the_pipe_alone_feeds_itself() -> None:
    pipe = measured(720.0, 1600, "pipe")
    found = attribution_of(pipe, pipe, DATASHEET, DERIVED)
    assert found is not None
    assert found.feeding == 1.0
    assert attribution_of(pipe, pipe, None, None) is None


@pytest.mark.parametrize("disturbed", ["product", "pipe"])
def test_what_neighbours_took_is_nobodys_factor(disturbed: str) -> None:
    both = {"product": measured(600.0, 1500), "pipe": measured(720.0, 1600)}
    note = Note(code=NOT_ALONE, sentence="others took half of the cores")
    both[disturbed] = both[disturbed].model_copy(update={"notes": (note,)})
    assert attribution_of(both["product"], both["pipe"], DATASHEET, DERIVED) is None
