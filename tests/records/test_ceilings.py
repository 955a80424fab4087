from __future__ import annotations

from typing import Any

import pytest

from roofprobe.records.ceilings import (
    ceiling_for,
    ceilings_of,
    clock_mhz_of,
    clock_normalised_peak,
)
from roofprobe.records.schema import Ceiling, Device, Limits, Span, Telemetry

SMS, GREATEST_MHZ = 132, 1980.0
H100 = Device(
    device_id="GPU-x",
    torch_device="cuda:0",
    backend="cuda",
    name="NVIDIA H100 80GB HBM3",
    architecture="sm_90",
    unit_count=SMS,
    catalogue_key="nvidia_h100_sxm5_80gb",
    limits=Limits(max_sm_clock_mhz=GREATEST_MHZ, max_mem_clock_mhz=2619, memory_bus_bits=5120),
)
XEON = Device(
    device_id="GPU-x",
    torch_device="cpu",
    backend="cpu",
    name="Example CPU",
    vendor="GenuineIntel",
    family=6,
    unit_count=10,
    features=("avx512f", "avx512_bf16", "amx_bf16", "amx_tile"),
    limits=Limits(max_sm_clock_mhz=2000.0),
)


def tflops(ops_per_clock: float) -> float:
    return SMS * ops_per_clock * GREATEST_MHZ / 1e6


@pytest.mark.parametrize(
    ("case", "datasheet", "derived"),
    [
        ({"precision": "fp64", "pipe": None}, 66.9, 256),
        ({"precision": "fp64", "pipe": "vector"}, 34, 128),
        ({"precision": "fp32", "pipe": None}, 66.9, 256),
        ({"precision": "fp32", "pipe": "vector"}, 66.9, 256),
        ({"precision": "fp16", "pipe": "tensor"}, 989.4, 4096),
        ({"precision": "fp16", "pipe": "vector"}, 133.8, 512),
        ({"precision": "bf16", "pipe": "tensor"}, 989.4, 4096),
        ({"precision": "bf16", "pipe": "tensor", "sparsity": "2:4"}, 1978.9, 8192),
        ({"precision": "fp8", "pipe": "tensor"}, 1978.9, 8192),
        ({"precision": "fp8", "pipe": "tensor", "sparsity": "2:4"}, 3957.8, 16384),
    ],
)
def test_each_row_of_an_h100_is_held_to_its_own_peaks(
    make: Any, case: dict[str, Any], datasheet: float, derived: float
) -> None:
    found = ceilings_of(H100)
    printed = ceiling_for(make(1.0, **case), "datasheet", found)
    computed = ceiling_for(make(1.0, **case), "derived", found)
    assert printed is not None
    assert printed.value == pytest.approx(datasheet, rel=0.005)
    assert printed.sources
    assert computed is not None
    assert computed.value == pytest.approx(tflops(derived))
    assert computed.physical_bound


def test_there_is_one_ceiling_per_kind_precision_pipe_and_sparsity() -> None:
    for device in (H100, XEON):
        keys = [(c.kind, c.family, c.precision, c.pipe, c.sparsity) for c in ceilings_of(device)]
        assert len(keys) == len(set(keys))


@pytest.mark.parametrize("kind", ["datasheet", "derived"])
def test_no_row_takes_the_peak_of_another_pipe_or_of_dense_products(make: Any, kind: Any) -> None:
    for kept, refused in (
        ({"pipe": "tensor"}, {"pipe": "tensor", "sparsity": "2:4"}),
        ({"pipe": "tensor"}, {"pipe": "vector"}),
        ({"pipe": None}, {"pipe": "vector"}),
        ({"pipe": "tensor", "sparsity": "2:4"}, {"pipe": "tensor"}),
        ({"pipe": "vector"}, {"pipe": None}),
    ):
        ceiling = Ceiling(
            device_id="GPU-x", kind=kind, family="compute", precision="bf16", peak_key="k",
            value=1, unit="TFLOPS", basis="a test", **kept,
        )  # fmt: skip
        assert ceiling_for(make(1.0, **kept), kind, [ceiling]) is ceiling
        assert ceiling_for(make(1.0, **refused), kind, [ceiling]) is None


def test_a_ceiling_of_another_device_kind_or_family_is_not_taken(make: Any) -> None:
    ceiling = next(c for c in ceilings_of(H100) if c.precision == "bf16")
    assert ceiling_for(make(1.0), "datasheet", [ceiling]) is ceiling
    assert ceiling_for(make(1.0), "derived", [ceiling]) is None
    assert ceiling_for(make(1.0, device_id="GPU-y"), "datasheet", [ceiling]) is None
    assert ceiling_for(make(1.0, family="memory", op="copy"), "datasheet", [ceiling]) is None


def test_sparsity_is_derived_only_where_the_card_prints_twice_its_dense_peak() -> None:
    b300 = H100.model_copy(
        update={"catalogue_key": "nvidia_b300", "architecture": "sm_103", "unit_count": 148}
    )
    sparse = {(c.kind, c.precision): c.value for c in ceilings_of(b300) if c.sparsity == "2:4"}
    assert ("derived", "bf16") in sparse
    # its printed pair of FP4 is not 1 to 2, so it says nothing of what the units skip
    assert ("datasheet", "nvfp4") in sparse
    assert ("derived", "nvfp4") not in sparse


def test_a_device_without_a_catalogue_row_has_no_sparse_ceiling() -> None:
    unknown = H100.model_copy(update={"catalogue_key": None})
    assert not [c for c in ceilings_of(unknown) if c.sparsity]


def test_the_vector_pipe_of_a_processor_has_no_matrix_unit(make: Any) -> None:
    found = ceilings_of(XEON)
    product = ceiling_for(make(1.0), "derived", found)
    vector = ceiling_for(make(1.0, pipe="vector"), "derived", found)
    assert product is not None
    assert vector is not None
    assert product.value == pytest.approx(10 * 1024 * 2000 / 1e6)
    assert vector.value == pytest.approx(10 * 4 * 512 / 16 * 2000 / 1e6)


def test_the_devices_own_counter_outranks_the_drivers_samples(make: Any) -> None:
    sampled = Telemetry(sm_clock_mhz=Span(min=1, median=1400, max=2000))
    assert clock_mhz_of(make(1.0, clock=1500.0, telemetry=sampled)) == (1500.0, True)
    assert clock_mhz_of(make(1.0, telemetry=sampled)) == (1400.0, False)
    assert clock_mhz_of(make(1.0, telemetry=Telemetry())) == (None, False)


def test_an_assumed_peak_is_scaled_only_by_a_counted_clock(make: Any) -> None:
    sure = Ceiling(
        device_id="GPU-x", kind="derived", family="compute", precision="bf16", peak_key="k",
        value=1000, unit="TFLOPS", clock_mhz=2000, basis="a test",
    )  # fmt: skip
    assumed = sure.model_copy(update={"assumed": True})
    counted = make(1.0, clock=1500.0)
    sampled = make(1.0, telemetry=Telemetry(sm_clock_mhz=Span(min=1, median=1500, max=2000)))
    assert clock_normalised_peak(counted, sure) == 750.0
    assert clock_normalised_peak(counted, assumed) == 750.0
    assert clock_normalised_peak(sampled, sure) == 750.0
    assert clock_normalised_peak(sampled, assumed) is None
    assert clock_normalised_peak(make(1.0), sure) is None
    assert clock_normalised_peak(counted, None) is None
