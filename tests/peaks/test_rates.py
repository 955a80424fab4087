from typing import Any

import pytest

from roofprobe.peaks.catalogue import load
from roofprobe.peaks.rates import agreed_rates, load_rates, parse_rates
from roofprobe.peaks.sources import CatalogueError

MULTIPLIERS = {"techpowerup": {"HBM2": 2}, "cuda_driver": 2}


def a_class(**changes: Any) -> dict[str, Any]:
    rate = {"rate": 64, "basis": "independent", "source": ["tpu-db"]}
    return {"description": "d", "unit": "SM", "rates": {"fp64": rate}} | changes


def a_table(**classes: dict[str, Any]) -> dict[str, Any]:
    return {"multipliers": MULTIPLIERS, "class": classes}


def test_the_data_sheet_rates_of_the_main_architectures() -> None:
    classes = load_rates().classes
    assert classes["sm_80"].rates["bf16_tensor"].ops_per_clock == 2048
    assert classes["sm_90"].rates["bf16_tensor"].ops_per_clock == 4096
    assert classes["sm_100"].rates["fp4_tensor"].ops_per_clock == 32768
    assert classes["gfx942"].rates["fp8_tensor"].ops_per_clock == 4096
    assert classes["sm_103"].boost_clock_keys == ("int8",)


def test_a_variant_overrides_its_base_and_drops_what_is_not_known() -> None:
    classes = load_rates().classes
    h20, h800, hopper = classes["sm_90_h20"], classes["sm_90_h800"], classes["sm_90"]
    assert h20.rates["bf16_tensor"].ops_per_clock * 4 == hopper.rates["bf16_tensor"].ops_per_clock
    assert h20.rates["fp32"] == hopper.rates["fp32"]
    assert not {"fp64", "fp64_tensor", "fp16_tensor_fp16acc", "fp8_tensor_fp16acc"} & set(h20.rates)
    assert not {"fp64", "fp64_tensor"} & set(h800.rates)
    assert "tf32" not in classes["sm_86_half"].rates


def test_rates_that_were_fitted_to_the_peak_they_check_are_named() -> None:
    classes = load_rates().classes
    independent = {
        name: {key for key, rate in each.rates.items() if rate.basis == "independent"}
        for name, each in classes.items()
    }
    assert independent["sm_86"] == {"fp64", "fp32", "fp16_vector"}
    assert independent["sm_89"] == {"fp64", "fp32", "fp16_vector"}
    assert independent["sm_120"] == {"fp64", "fp32", "fp16_vector"}
    assert independent["dav_c220"] == {"bf16_tensor", "fp16_cube_only"}
    assert independent["gaudi2"] == {"bf16_tensor"}
    for name in ("gfx90a", "gfx942", "gfx950", "sm_100", "gaudi3"):
        assert classes[name].fitted_keys() == ()
    for name in ("sm_86_geforce", "sm_86_half", "sm_89_geforce", "sm_89_half", "sm_120_geforce"):
        assert {"fp16_tensor", "bf16_tensor"} <= set(classes[name].fitted_keys())
    assert {"bf16_tensor", "fp8_tensor", "int8", "tf32"} <= set(classes["sm_90_h20"].fitted_keys())
    assert set(classes["sm_103"].fitted_keys()) == {"fp4_tensor", "int8", "fp64", "fp64_tensor"}
    assert set(classes["sm_70"].fitted_keys()) == {
        "fp16_vector",
        "fp16_tensor",
        "fp16_tensor_fp16acc",
    }
    assert set(classes["sm_80"].fitted_keys()) == {
        "fp64_tensor",
        "fp16_vector",
        "bf16_vector",
        "int4",
    }
    assert set(classes["sm_90"].fitted_keys()) == {"fp64_tensor", "fp16_vector", "bf16_vector"}


def test_fp32_is_independent_everywhere_but_on_ascend() -> None:
    for name, each in load_rates().classes.items():
        if "fp32" in each.rates and name != "dav_c220":
            assert each.rates["fp32"].basis == "independent", name


def test_only_fitted_rates_are_unsettled() -> None:
    for each in load_rates().classes.values():
        for rate in each.rates.values():
            assert rate.settled or rate.basis == "fitted"
    assert not load_rates().classes["sm_89_half"].rates["bf16_tensor"].settled


def test_every_class_of_the_catalogue_says_which_architecture_it_is() -> None:
    for row in load():
        each = row.rates()
        if row.vendor == "NVIDIA":
            assert each.compute_capability == row.compute_capability
        elif row.vendor == "AMD":
            assert each.gcn_arch == row.gcn_arch


def test_conflicts_between_rate_tables_name_their_sources() -> None:
    conflicts = load_rates().conflicts
    assert {(c.rate_class, c.field) for c in conflicts} == {
        ("sm_80", "fp16_vector"),
        ("sm_90", "fp16_vector"),
        ("sm_90", "tensor_clock_mhz"),
        ("sm_100", "fp16_tensor"),
        ("sm_100", "fp64_tensor"),
    }
    assert all(c.sources and c.note for c in conflicts)


def test_unknown_card_gets_the_rates_on_which_its_architecture_agrees() -> None:
    assert set(agreed_rates(compute_capability="8.9")) == {"fp64", "fp32", "fp16_vector"}
    assert set(agreed_rates(compute_capability="9.0")) == {"fp32", "fp16_vector", "bf16_vector"}
    assert agreed_rates(compute_capability="8.0")["bf16_tensor"].ops_per_clock == 2048
    assert agreed_rates(gcn_arch="gfx942:sramecc+:xnack-")["fp8_tensor"].ops_per_clock == 4096
    assert agreed_rates(compute_capability="8.7") == {}
    assert agreed_rates(gcn_arch="") == {}
    assert agreed_rates() == {}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (a_class(colour="red"), r"class\.x\.colour: unknown field"),
        (a_class(unit=3), r"class\.x\.unit: must be a text"),
        (a_class(base="y"), r"class\.x\.base: no class 'y'"),
        (a_class(rates={"fp63": {}}), r"rates\.fp63: unknown peak key"),
        (a_class(rates={"fp64": {"rate": 0}}), "rate must be a positive number"),
        (a_class(rates={"fp64": {"rate": 4, "basis": "sure"}}), "basis must be one of"),
        (
            a_class(rates={"fp64": {"rate": 4, "basis": "fitted", "source": ["x"]}}),
            "unknown source 'x'",
        ),
        (a_class(rates={"fp64": {"rate": 4, "basis": "fitted"}}), "at least one source"),
    ],
)
def test_a_malformed_class_is_refused_with_its_place(row: dict[str, Any], message: str) -> None:
    with pytest.raises(CatalogueError, match=message):
        parse_rates(a_table(x=row), file="rates.toml")


def test_missing_multipliers_are_refused() -> None:
    with pytest.raises(CatalogueError, match="missing key"):
        parse_rates({"class": {"x": a_class()}}, file="rates.toml")
