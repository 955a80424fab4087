from __future__ import annotations

from typing import Any

import pytest

from roofprobe.acceptance.verdict.formats import no_slow_formats, slow_formats
from roofprobe.records.headlines import headlines_of
from roofprobe.records.schema import (
    NOT_ALONE,
    Case,
    Ceiling,
    Device,
    Distribution,
    Environment,
    Finding,
    Measurement,
    Note,
    Options,
    Run,
)


def product(precision: str, rate: float, **case: Any) -> Measurement:
    unit = "TOPS" if precision.startswith("int") else "TFLOPS"
    made = {"row": precision, "pipe": "tensor", "op": "gemm", **case}
    return Measurement(
        case=Case(
            case_id=f"{made['row']}-{rate}", family="compute", precision=precision,
            route="torch.mm", shape={"m": 1, "n": 1, "k": 1}, **made,
        ),
        device_id="d",
        status="ok",
        rate=Distribution(
            unit=unit, median=rate, ci_low=rate * 0.95, ci_high=rate * 1.05, p10=rate, p90=rate,
            best=rate, n=10,
        ),
    )  # fmt: skip


def peak(precision: str, value: float) -> Ceiling:
    return Ceiling(
        device_id="d", kind="derived", family="compute", precision=precision, peak_key=precision,
        value=value, unit="TFLOPS", basis="a test",
    )  # fmt: skip


def found(
    *measurements: Measurement, backend: str = "cuda", ceilings: tuple[Ceiling, ...] = ()
) -> list[Finding]:
    return list(slow_formats(run_of(measurements, backend, ceilings)))


def run_of(
    measurements: tuple[Measurement, ...], backend: str, ceilings: tuple[Ceiling, ...]
) -> Run:
    device = Device(device_id="d", torch_device=backend, backend=backend, name="Example")
    return Run(
        run_id="r",
        status="complete",
        started_at="2000-01-01T00:00:00+00:00",
        options=Options(families=("compute",)),
        environment=Environment(host="h", os="o", kernel="k", python="3", roofprobe="0"),
        devices=(device,),
        measurements=measurements,
        ceilings=ceilings,
        headlines=headlines_of((device,), measurements, ceilings),
    )


def disturbed(m: Measurement) -> Measurement:
    note = Note(code=NOT_ALONE, sentence="others were at work", figures={"share": 0.77})
    return m.model_copy(update={"notes": (note,)})


def passing(*measurements: Measurement, ceilings: tuple[Ceiling, ...]) -> str | None:
    run = run_of(measurements, "cpu", ceilings)
    return no_slow_formats(run, run.devices[0])


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [("bf16", "fp32"), ("fp16", "fp32"), ("fp8", "bf16"), ("int8", "bf16")],
)
def test_a_narrower_format_below_the_wider_one_is_a_warning_with_both_figures(
    narrow: str, wide: str
) -> None:
    (finding,) = found(product(narrow, 80.0), product(wide, 100.0))
    assert (finding.code, finding.judgement) == ("RP-SLOW-FALLBACK", "warn")
    assert (finding.figure, finding.bound) == (80.0, 100.0)
    assert "80" in finding.sentence
    assert "100" in finding.sentence
    assert found(product(narrow, 120.0), product(wide, 100.0)) == []


def test_each_form_of_a_format_is_judged_by_itself() -> None:
    findings = found(
        product("bf16", 100.0),
        product("fp8", 180.0, row="fp8-fast"),
        product("fp8", 60.0, row="fp8-blockwise"),
    )
    assert [finding.case_id for finding in findings] == ["fp8-blockwise-60.0"]


def test_figures_whose_intervals_touch_are_not_told_apart() -> None:
    assert found(product("int8", 96.0), product("bf16", 100.0)) == []


def test_a_device_whose_peaks_promise_no_gain_is_not_held_to_one() -> None:
    pair = (product("int8", 30.0), product("bf16", 100.0))
    assert found(*pair, ceilings=(peak("int8", 40.0), peak("bf16", 120.0))) == []
    assert len(found(*pair, ceilings=(peak("int8", 240.0), peak("bf16", 120.0)))) == 1


def test_a_format_that_the_device_has_no_units_for_is_not_expected_to_gain() -> None:
    pair = (product("fp8", 30.0), product("bf16", 100.0))
    assert found(*pair, ceilings=(peak("bf16", 120.0),)) == []


def test_a_processor_is_judged_only_by_the_instructions_that_it_has() -> None:
    pair = (product("bf16", 0.01), product("fp32", 0.1))
    assert found(*pair, backend="cpu") == []
    assert found(*pair, backend="cpu", ceilings=(peak("fp32", 0.2),)) == []
    with_dot = (peak("fp32", 0.2), peak("bf16", 0.4))
    assert len(found(*pair, backend="cpu", ceilings=with_dot)) == 1


def test_vector_sparse_and_settled_rows_are_no_party_to_it() -> None:
    wide = product("fp32", 100.0)
    for row in (
        product("fp16", 50.0, row="fp16-vector", pipe="vector", op="pipe", role="pipe"),
        product("bf16", 50.0, row="bf16-sparse", sparsity="2:4"),
        product("bf16", 50.0, regime="settled", role="settled"),
    ):
        assert found(row, wide) == []


def test_a_figure_that_others_held_down_accuses_nobody() -> None:
    (told,) = found(disturbed(product("int8", 80.0)), product("bf16", 100.0))
    assert (told.judgement, told.required) == ("unknown", False)
    assert told.sentence.startswith("Others were at work while int8 was measured")
    assert told.remedy == "repeat on an idle host"
    (still,) = found(product("int8", 80.0), disturbed(product("bf16", 100.0)))
    assert still.judgement == "warn", "undisturbed, the wider format would be faster still"
    (unproved,) = found(product("int8", 120.0), disturbed(product("bf16", 100.0)))
    assert unproved.judgement == "unknown", "undisturbed, the wider format may be the faster one"


def test_what_passes_names_the_formats_that_were_held_and_those_that_were_not() -> None:
    rows = (product("fp32", 0.25), product("bf16", 0.9), product("fp16", 0.04))
    ceilings = (peak("fp32", 0.4), peak("bf16", 1.0))
    assert passing(*rows, ceilings=ceilings) == (
        "No narrower format is slower than the wider one that it should beat: bf16 (aside: fp16, "
        "since no peak says that this device gains from them)"
    )
    assert passing(rows[0], rows[2], ceilings=ceilings) is None, "nothing was asked"
    assert passing(disturbed(rows[0]), rows[1], ceilings=ceilings) is None
