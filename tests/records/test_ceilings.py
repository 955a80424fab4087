from __future__ import annotations

from typing import Any

import pytest

from roofprobe.peaks.links import PCIE, PCIE_BOTH
from roofprobe.records.ceilings import (
    ceiling_for,
    ceilings_for,
    ceilings_of,
    clock_mhz_of,
    clock_normalised_peak,
    pcie_peak_under_load,
)
from roofprobe.records.schema import Ceiling, Device, Limits, Peer, PeerLink, Span, Telemetry

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
        keys = [
            (c.kind, c.family, c.precision, c.pipe, c.sparsity)
            for c in ceilings_of(device)
            if c.family == "compute"
        ]
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


# Memory bandwidth, three ways


def with_memory(
    nvml: tuple[float | None, int | None] = (None, None),
    driver: tuple[float | None, int | None] = (None, None),
    key: str | None = None,
    **limits: Any,
) -> Device:
    return H100.model_copy(
        update={
            "catalogue_key": key,
            "driver_mem_clock_mhz": driver[0],
            "driver_memory_bus_bits": driver[1],
            "limits": Limits(max_mem_clock_mhz=nvml[0], memory_bus_bits=nvml[1], **limits),
        }
    )


def memory_of(device: Device) -> list[tuple[str | None, float, bool]]:
    return [
        (c.method or c.kind, round(c.value), c.physical_bound)
        for c in ceilings_of(device)
        if c.family == "memory"
    ]


def basis_of(device: Device, method: str) -> str:
    return next(c.basis for c in ceilings_of(device) if c.method == method and c.family == "memory")


def test_the_three_ways_to_a_memory_peak_stay_apart() -> None:
    h200 = with_memory((3201, 6144), (3201, 6144), "nvidia_h200_sxm_141gb")
    assert memory_of(h200) == [
        ("datasheet", 4800, False),
        ("nvml", 4917, True),
        ("driver", 4917, True),
    ]
    assert basis_of(h200, "nvml") == "2 x 3201 MHz x 6144 bits, as the driver reports them"
    assert basis_of(h200, "driver") == ("2 x 3201 MHz x 6144 bits, properties of the CUDA driver")


def test_an_h200_may_exceed_its_datasheet_but_not_its_pins(make: Any) -> None:
    h200 = with_memory((3201, 6144), (3201, 6144), "nvidia_h200_sxm_141gb")
    case = make(4850.0, family="memory", op="read")
    datasheet, derived = (ceiling_for(case, k, ceilings_of(h200)) for k in ("datasheet", "derived"))
    assert datasheet is not None
    assert derived is not None
    assert datasheet.value < 4850.0 < derived.value


def test_widths_that_differ_by_driver_are_both_told_and_none_is_clamped() -> None:
    b200 = with_memory((3996, 8192), (3996, 7680))
    assert memory_of(b200) == [("nvml", 8184, True), ("driver", 7672, True)]
    assert basis_of(b200, "nvml").endswith("; its other interface gives 7672 GB/s")
    assert basis_of(b200, "driver").endswith("; its other interface gives 8184 GB/s")


def test_either_way_stands_alone_where_the_other_is_silent() -> None:
    assert memory_of(with_memory((5001, 256))) == [("nvml", 320, True)]
    assert memory_of(with_memory((None, None), (5001, 256))) == [("driver", 320, True)]
    assert memory_of(with_memory((5001, None), (None, 256))) == []


def test_the_catalogue_is_asked_only_where_the_driver_is_silent_and_is_no_bound() -> None:
    assert memory_of(with_memory(key="nvidia_t4")) == [
        ("datasheet", 320, False),
        ("catalogue", 320, False),
    ]


def test_an_idle_memory_clock_makes_no_ceiling() -> None:
    # T4 and L20 idle at 405 MHz of 5001 and 9001; a reading of it lives in telemetry only.
    idle = Telemetry(mem_clock_mhz=Span(min=405, median=405, max=405))
    l20 = with_memory((9001, 384), (9001, 384))
    assert memory_of(l20) == memory_of(l20.model_copy(update={"health_before": idle}))
    assert [value for _, value, _ in memory_of(l20)] == [864, 864]
    assert "405" not in basis_of(l20, "nvml")


@pytest.mark.parametrize(("bits", "gbps"), [(640, 255), (1280, 510), (2560, 1020), (5120, 2039)])
def test_a_mig_slice_has_the_bandwidth_of_its_share_of_the_bus(bits: int, gbps: int) -> None:
    part = with_memory((1593, 5120), (1593, bits), "nvidia_a100_sxm4_80gb", mig_enabled=True)
    assert memory_of(part) == [("driver", gbps, True)]
    assert basis_of(part, "driver").endswith(", the slice's share of the bus")


def test_a_mig_slice_whose_share_is_not_told_has_no_memory_peak() -> None:
    part = with_memory((1593, 5120), (None, None), "nvidia_a100_sxm4_80gb", mig_enabled=True)
    assert memory_of(part) == []


@pytest.mark.parametrize(
    ("key", "ecc", "noted"),
    [
        ("nvidia_l20", True, True),
        ("nvidia_l20", False, False),
        ("nvidia_l20", None, False),
        ("nvidia_h200_sxm_141gb", True, False),
        (None, True, False),
    ],
)
def test_inline_ecc_is_told_and_is_no_bound(key: str | None, ecc: bool | None, noted: bool) -> None:
    device = with_memory((9001, 384), (9001, 384), key, ecc_enabled=ecc)
    basis = basis_of(device, "nvml")
    assert basis.endswith("leaves about 8/9 of it for data (768 GB/s)") is noted
    assert [value for method, value, _ in memory_of(device) if method == "nvml"] == [864]


def test_an_amd_gpu_s_memory_clock_makes_no_peak() -> None:
    amd = with_memory((1300, 8192), (1300, 8192)).model_copy(update={"backend": "rocm"})
    assert memory_of(amd) == []


def test_what_stays_in_a_cache_is_held_against_no_memory_peak(make: Any) -> None:
    ceilings = ceilings_of(H100)
    assert ceiling_for(make(1.0, family="memory", op="read"), "derived", ceilings) is not None
    in_l2 = make(1.0, family="memory", op="read", level="l2")
    assert list(ceilings_for(in_l2, "derived", ceilings)) == []
    assert list(ceilings_for(in_l2, "datasheet", ceilings)) == []


# Links


def linked(**limits: Any) -> Device:
    told = {
        "pcie_generation_max": 5, "pcie_width_max": 16, "pcie_generation_gpu_max": 5,
        "c2c_link_count": 0,
    }  # fmt: skip
    return H100.model_copy(update={"limits": Limits(**{**told, **limits})})


def pcie_of(device: Device) -> dict[str, tuple[float, bool]]:
    return {
        c.peak_key: (round(c.value, 2), c.physical_bound)
        for c in ceilings_of(device)
        if c.family == "interconnect" and c.kind == "derived"
    }


@pytest.mark.parametrize(
    ("generation", "gbps", "both"), [(3, 15.75, 31.51), (4, 31.51, 63.02), (5, 63.02, 126.03)]
)
def test_a_pcie_link_bounds_one_way_and_both(generation: int, gbps: float, both: float) -> None:
    device = linked(pcie_generation_max=generation, pcie_generation_gpu_max=generation)
    assert pcie_of(device) == {PCIE: (gbps, True), PCIE_BOTH: (both, True)}


@pytest.mark.parametrize(
    ("limits", "architecture", "missing", "bound"),
    [
        ({"pcie_generation_max": 3}, "sm_90", {}, False),  # a slot that may be invented
        ({"pcie_width_max": 8}, "sm_90", {}, False),
        ({"pcie_generation_gpu_max": None}, "sm_90", {}, False),
        ({"c2c_link_count": None}, "sm_90", {}, False),
        ({"c2c_link_count": None}, "sm_89", {}, True),  # older than any module with a processor
        ({"c2c_link_count": None}, None, {}, False),
        ({"c2c_link_count": None}, "sm_90", {"c2c_link_count": "not-supported (x)"}, True),
        ({"c2c_link_count": None}, "sm_90", {"c2c_link_count": "invalid-argument (x)"}, False),
    ],
)
def test_a_link_that_may_not_be_the_one_taken_is_no_bound(
    limits: dict[str, Any], architecture: str | None, missing: dict[str, str], bound: bool
) -> None:
    changes = {"architecture": architecture, "missing": missing}
    found = pcie_of(linked(**limits).model_copy(update=changes))
    assert {physical for _, physical in found.values()} == {bound}


def test_beside_a_processor_in_the_same_module_pcie_is_not_the_way_to_the_host() -> None:
    assert pcie_of(linked(c2c_link_count=10)) == {}


@pytest.mark.parametrize(
    "limits", [{"pcie_generation_max": None}, {"pcie_width_max": None}, {"pcie_generation_max": 9}]
)
def test_an_untold_or_unknown_link_has_no_peak(limits: dict[str, Any]) -> None:
    assert pcie_of(linked(**limits)) == {}


def test_each_transfer_is_held_against_its_own_link(make: Any) -> None:
    ceilings = ceilings_of(linked())
    found = {
        (op, kind): ceiling.value if ceiling else None
        for op in ("h2d", "d2h", "both", "p2p", "p2p-both", "p2p-latency", "host-copy")
        for kind in ("datasheet", "derived")
        for ceiling in [ceiling_for(make(1.0, family="interconnect", op=op), kind, ceilings)]
    }
    one_way = 32 * 16 / 8 * 128 / 130
    assert {key: value for key, value in found.items() if value is not None} == {
        ("h2d", "derived"): one_way,
        ("d2h", "derived"): one_way,
        ("both", "derived"): 2 * one_way,
        ("p2p", "datasheet"): 450.0,
        ("p2p-both", "datasheet"): 900.0,
    }


@pytest.mark.parametrize(
    ("link", "found"),
    [
        (PeerLink(kind="nvlink"), {"p2p": 450.0, "p2p-both": 900.0}),
        (PeerLink(kind="pcie"), {"p2p": 63.015, "p2p-both": 126.031}),
        (PeerLink(), {}),
        (None, {}),
    ],
)
def test_two_devices_are_held_against_what_the_driver_says_joins_them(
    make: Any, link: PeerLink | None, found: dict[str, float]
) -> None:
    ceilings = ceilings_of(linked())
    peer = Peer(device_id="GPU-y", torch_device="cuda:1")
    held = {}
    for op in ("p2p", "p2p-both", "p2p-latency"):
        transfer = make(1.0, family="interconnect", op=op, peer=peer, link=link)
        for kind in ("datasheet", "derived"):
            ceiling = ceiling_for(transfer, kind, ceilings)
            if ceiling is not None:
                held[op] = round(ceiling.value, 3)
    assert held == found


def test_nvlink_comes_from_the_catalogue_with_its_sources() -> None:
    nvlink = [c for c in ceilings_of(H100) if c.peak_key.startswith("nvlink")]
    assert [(c.kind, c.physical_bound) for c in nvlink] == [("datasheet", False)] * 2
    assert all(c.sources for c in nvlink)
    assert not [c for c in ceilings_of(with_memory(key="nvidia_t4")) if "nvlink" in c.peak_key]


def test_the_link_under_load_is_the_one_that_was_sampled(make: Any) -> None:
    trained = Telemetry(
        pcie_generation=Span(min=1, median=4, max=4), pcie_width=Span(min=16, median=16, max=16)
    )
    assert pcie_peak_under_load(make(1.0, telemetry=trained)) == 16 * 16 / 8 * 128 / 130
    assert pcie_peak_under_load(make(1.0, telemetry=Telemetry())) is None
    assert pcie_peak_under_load(make(1.0)) is None
