import pytest

from roofprobe.peaks.precisions import (
    NAMES,
    PEAK_TITLES,
    PRECISIONS,
    headline_key,
    is_vector_key,
    peak_unit,
    pipe_key,
    precision,
)


def test_names_are_the_contract_in_its_order() -> None:
    assert NAMES == (
        "fp64",
        "fp32",
        "tf32",
        "bf16",
        "fp16",
        "fp16-acc16",
        "fp8",
        "int8",
        "mxfp8",
        "nvfp4",
        "int4",
    )


def test_every_peak_key_has_a_title_and_the_unit_of_its_precision() -> None:
    for row in PRECISIONS:
        for key in row.peak_keys.values():
            assert key in PEAK_TITLES
            assert peak_unit(key) == row.unit


def test_unknown_precision_names_the_known_ones() -> None:
    with pytest.raises(KeyError, match="mxfp8"):
        precision("fp7")


def test_fp16_with_two_accumulators_are_two_peaks() -> None:
    peaks = {"fp16_tensor": 165.2, "fp16_tensor_fp16acc": 330.3}
    assert headline_key("fp16", peaks) == "fp16_tensor"
    assert headline_key("fp16-acc16", peaks) == "fp16_tensor_fp16acc"


def test_headline_is_the_tensor_peak_where_there_is_one() -> None:
    assert headline_key("fp64", {"fp64", "fp64_tensor"}) == "fp64_tensor"
    assert headline_key("fp32", {"fp32", "fp32_matrix"}) == "fp32_matrix"
    assert headline_key("fp64", {"fp64"}, rates={"fp64": 64}) == "fp64"


def test_vector_peak_is_no_headline_where_the_tensor_pipe_is_faster_but_unpublished() -> None:
    assert headline_key("fp64", {"fp64"}, rates={"fp64": 64, "fp64_tensor": 128}) is None
    assert headline_key("fp64", {"fp64"}, rates={"fp64": 128, "fp64_tensor": 128}) == "fp64"
    assert headline_key("bf16", {"bf16_vector"}) is None


def test_block_scaled_formats_have_a_peak_only_where_the_hardware_has_them() -> None:
    peaks = {"fp8_tensor", "fp4_tensor"}
    assert headline_key("mxfp8", peaks, rate_class="sm_100") == "fp8_tensor"
    assert headline_key("nvfp4", peaks, rate_class="sm_100") == "fp4_tensor"
    assert headline_key("mxfp8", peaks, rate_class="sm_90") is None
    assert headline_key("mxfp8", peaks, rate_class="sm_120_geforce") is None
    assert headline_key("nvfp4", peaks, rate_class="gfx950") is None
    assert headline_key("nvfp4", peaks) is None


def test_ascend_fp16_matmul_is_held_against_the_cube() -> None:
    peaks = {"fp16_tensor": 376.0, "bf16_tensor": 353.9}
    assert headline_key("fp16", peaks, rate_class="dav_c220") == "bf16_tensor"
    assert headline_key("fp16", {"fp16_tensor"}, rate_class="dav_c220") is None


def test_pipe_key_prefers_the_vector_unit_alone() -> None:
    assert pipe_key("fp32", "vector", {"fp32", "fp32_vector"}) == "fp32_vector"
    assert pipe_key("fp32", "vector", {"fp32"}) == "fp32"
    assert pipe_key("tf32", "vector", {"tf32"}) is None
    assert pipe_key("bf16", "tensor", {"fp32"}) is None


def test_vector_keys_are_told_from_tensor_keys() -> None:
    assert {key for key in PEAK_TITLES if is_vector_key(key)} == {
        "fp64",
        "fp32",
        "fp32_vector",
        "fp32_packed",
        "fp16_vector",
        "bf16_vector",
    }
