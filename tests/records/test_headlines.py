from __future__ import annotations

from typing import Any

import pytest

from roofprobe.records.headlines import headlines_of
from roofprobe.records.schema import Ceiling, Device, Headline

GPU = Device(device_id="GPU-x", torch_device="cuda:0", backend="cuda", name="Example GPU")


def only(*measurements: Any, ceilings: tuple[Ceiling, ...] = ()) -> Headline:
    (headline,) = headlines_of((GPU,), measurements, ceilings)
    return headline


def test_each_row_has_its_own_headline_in_the_order_of_the_plan(make: Any) -> None:
    found = headlines_of(
        (GPU,),
        [
            make(100.0, precision="fp8", row="fp8-fast", scaling="tensorwise", fast_accum=True),
            make(90.0, precision="fp8", row="fp8", scaling="tensorwise", fast_accum=False),
            make(170.0, row="bf16-sparse", sparsity="2:4"),
            make(110.0, precision="fp8", row="fp8-fast", scaling="tensorwise", fast_accum=True),
        ],
        (),
    )
    assert [(h.label, h.title, h.precision, h.row, h.sparsity, h.rate.median) for h in found] == [
        ("fp8-fast", "FP8, fast sums", "fp8", "fp8-fast", None, 110.0),
        ("fp8", "FP8", "fp8", "fp8", None, 90.0),
        ("bf16-sparse", "BF16, 2:4 sparse-equivalent", "bf16", "bf16-sparse", "2:4", 170.0),
    ]


@pytest.mark.parametrize("role", ["anchor", "route", "tune"])
def test_products_of_uniform_data_compete_whatever_shape_brought_them(make: Any, role: str) -> None:
    best = make(200.0, role=role)
    assert only(make(100.0), best, make(150.0)).case_id == best.case.case_id


@pytest.mark.parametrize(
    "fields",
    [
        {"role": "pattern", "pattern": "zeros"},
        {"role": "anchor", "pattern": "zeros"},
        {"role": "search"},
        {"role": "surface"},
        {"role": "layout"},
        {"role": "stability"},
        {"role": "alignment"},
        {"role": "pipe"},
        {"status": "invalid"},
        {"status": "failed"},
    ],
)
def test_what_the_row_is_not_about_never_wins(make: Any, fields: dict[str, Any]) -> None:
    assert only(make(100.0), make(900.0, **fields)).rate.median == 100.0
    assert headlines_of((GPU,), [make(900.0, **fields)], ()) == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"precision": "fp64", "row": "fp64-vector", "pipe": "vector"},
        {"precision": "int4", "row": "int4"},
    ],
)
def test_a_row_of_the_pipe_alone_has_the_pipes_rate(make: Any, fields: dict[str, Any]) -> None:
    headline = only(make(30.0, role="pipe", **fields), make(31.0, role="pipe", **fields))
    assert headline.rate.median == 31.0
    assert headline.pipe_rate is None


def test_the_settled_figure_and_its_energy_stand_beside_the_burst(make: Any) -> None:
    headline = only(
        make(100.0, energy_j_per_tflop=5.0),
        make(90.0, role="settled", regime="settled", energy_j_per_tflop=6.0),
        make(95.0, role="settled", regime="settled", energy_j_per_tflop=7.0),
        make(120.0, role="pipe"),
    )
    assert (headline.regime, headline.rate.median) == ("burst", 100.0)
    assert headline.settled is not None
    assert headline.settled.median == 95.0
    assert headline.settled_case_id == "case-3"
    assert headline.energy_j_per_tflop == 7.0
    assert headline.pipe_rate is not None
    assert headline.pipe_rate.median == 120.0


def test_energy_is_that_of_settled_work_and_never_of_a_burst(make: Any) -> None:
    burst = make(100.0, energy_j_per_tflop=5.0)
    settled = make(95.0, role="settled", regime="settled", energy_j_per_tflop=0.7)
    assert only(burst, settled).energy_j_per_tflop == 0.7
    assert only(burst, make(95.0, role="settled", regime="settled")).energy_j_per_tflop is None
    assert only(burst).energy_j_per_tflop is None


def test_a_row_with_nothing_but_settled_figures_says_that_it_is_settled(make: Any) -> None:
    headline = only(make(95.0, role="settled", regime="settled"))
    assert (headline.regime, headline.rate.median) == ("settled", 95.0)


def test_a_settled_figure_above_the_burst_does_not_replace_it(make: Any) -> None:
    headline = only(make(100.0), make(101.0, role="settled", regime="settled"))
    assert (headline.regime, headline.rate.median) == ("burst", 100.0)


def test_cases_of_older_runs_go_by_precision(make: Any) -> None:
    old = [make(10.0, row=None), make(30.0, row=None, role="anchor"), make(20.0, row=None)]
    headline = only(*old)
    assert (headline.label, headline.row, headline.rate.median) == ("bf16", None, 30.0)


def test_shares_are_of_the_rows_own_ceilings(make: Any) -> None:
    def ceiling(kind: Any, value: float, **fields: Any) -> Ceiling:
        return Ceiling(
            device_id="GPU-x", kind=kind, family="compute", precision="bf16", peak_key="k",
            value=value, unit="TFLOPS", clock_mhz=2000, basis="a test", **fields,
        )  # fmt: skip

    headline = only(
        make(300.0, row="bf16-sparse", sparsity="2:4", clock=1500.0),
        ceilings=(
            ceiling("datasheet", 500, pipe="tensor"),
            ceiling("derived", 550, pipe="tensor"),
            ceiling("datasheet", 1000, pipe="tensor", sparsity="2:4"),
            ceiling("derived", 1200, pipe="tensor", sparsity="2:4"),
        ),
    )
    assert (headline.datasheet, headline.derived) == (1000, 1200)
    assert (headline.share_datasheet, headline.share_derived) == (0.3, 0.25)
    assert (headline.clock_normalised, headline.share_clock_normalised) == (900.0, 300 / 900)
    assert (headline.sm_clock_mhz, headline.clock_measured) == (1500.0, True)


def test_a_models_operations_compete_within_their_phase_and_only_as_replayed(make: Any) -> None:
    def layer(rate: float, m: int, **more: Any) -> Any:
        shape = {"m": m, "n": 8, "k": 8}
        return make(rate, family="llm", op="gemm", row=None, shape=shape, **more)

    found = headlines_of(
        (GPU,),
        [
            layer(100.0, 1), layer(120.0, 4), layer(900.0, 4, role="eager"), layer(500.0, 4096),
            make(700.0, family="llm", op="rmsnorm", row=None, shape={"rows": 1, "width": 8}),
        ],
        (),
    )  # fmt: skip
    assert [(h.family, h.label, h.rate.median) for h in found] == [
        ("llm", "decode GEMM bf16", 120.0), ("llm", "prefill GEMM bf16", 500.0),
    ]  # fmt: skip
