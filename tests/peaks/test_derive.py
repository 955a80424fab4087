import pytest

from roofprobe.peaks.catalogue import load
from roofprobe.peaks.derive import (
    catalogue_memory_peak_gbps,
    compute_peak_tflops,
    datasheet_derived_peaks,
    derived_peaks,
    has_inline_ecc,
    inline_ecc_payload_gbps,
    memory_peak_gbps,
    memory_peak_problem,
    nvml_memory_peak_gbps,
)


def test_a_compute_peak_is_units_times_rate_times_clock() -> None:
    assert compute_peak_tflops(132, 4096, 1830) == 132 * 4096 * 1830 / 1e6
    assert compute_peak_tflops(40, 1024, 1590) == pytest.approx(65.1, abs=0.05)


def test_a_memory_peak_is_clock_times_transfers_times_width() -> None:
    assert memory_peak_gbps(1250, 256, 8) == 320.0
    assert memory_peak_gbps(1600, 4096, 2) == 1638.4


@pytest.mark.parametrize(
    ("mhz", "bits", "gbps"),
    [
        (877, 4096, 898),  # V100
        (5001, 256, 320.1),  # T4
        (6251, 384, 600.1),  # A10
        (1215, 3072, 933.1),  # A30
        (7251, 384, 696.1),  # A40
        (1215, 5120, 1555.2),  # A100 40 GB
        (1512, 5120, 1935.4),  # A100 80 GB PCIe
        (1593, 5120, 2039.0),  # A100 80 GB SXM, H100 PCIe
        (6251, 192, 300.0),  # L4
        (9001, 384, 864.1),  # L20, L40, L40S
        (10501, 384, 1008.1),  # RTX 4090
        (14001, 512, 1792.1),  # RTX 5090
        (2619, 5120, 3352.3),  # H100 SXM
        (2619, 6144, 4022.8),  # H20 96 GB
        (3201, 6144, 4916.7),  # H200
        (3996, 8192, 8183.8),  # B200, drivers before CUDA 13
        (3996, 7680, 7672.3),  # B200, CUDA 13
        (1593, 6144, 2446.8),  # the H100 variant with PCI id 2339; a public table has twice that
    ],
)
def test_nvml_clocks_are_half_the_data_rate_for_every_memory(
    mhz: float, bits: int, gbps: float
) -> None:
    assert nvml_memory_peak_gbps(mhz, bits) == pytest.approx(gbps, abs=0.06)


def test_catalogue_bandwidth_needs_a_sourced_clock_and_bus() -> None:
    assert catalogue_memory_peak_gbps(load()["nvidia_t4"]) == 320.0
    assert catalogue_memory_peak_gbps(load()["amd_mi300x"]) is None


def test_device_clock_and_datasheet_clock_give_two_peaks() -> None:
    h100 = load()["nvidia_h100_sxm5_80gb"]
    at_datasheet = datasheet_derived_peaks(h100)["bf16_tensor"]
    at_device = derived_peaks(h100, clock_mhz=1980)["bf16_tensor"]
    assert at_datasheet.value == pytest.approx(989.4, abs=0.05)
    assert at_device.value == pytest.approx(1070.5, abs=0.05)
    assert at_device.at_clock(1830) == pytest.approx(at_datasheet.value)
    assert at_datasheet.basis == "132 SM x 1830 MHz x 4096 (rates of sm_90)"
    assert at_datasheet.clock_mhz == 1830
    assert at_datasheet.unit == "TFLOPS"
    assert not at_device.assumed
    assert at_device.physical_bound


def test_reported_units_go_before_the_rows() -> None:
    h100 = load()["nvidia_h100_sxm5_80gb"]
    half = derived_peaks(h100, unit_count=66, clock_mhz=1980)["fp32"]
    assert half.value == pytest.approx(derived_peaks(h100, clock_mhz=1980)["fp32"].value / 2)


def test_fitted_and_unsettled_rates_say_so() -> None:
    l40 = derived_peaks(load()["nvidia_l40"], clock_mhz=2490)["bf16_tensor"]
    assert l40.assumed
    assert not l40.physical_bound
    assert "fitted to printed peaks, not settled" in l40.basis
    l40s = derived_peaks(load()["nvidia_l40s"], clock_mhz=2520)["bf16_tensor"]
    assert l40s.assumed
    assert l40s.physical_bound
    a100 = derived_peaks(load()["nvidia_a100_sxm4_80gb"], clock_mhz=1410)["fp64_tensor"]
    assert not a100.assumed
    assert "read off one card's printed peak" in a100.basis


def test_an_assumed_tensor_clock_is_told() -> None:
    peak = datasheet_derived_peaks(load()["nvidia_h800_sxm5_80gb"])["bf16_tensor"]
    assert peak.assumed
    assert "assumed tensor clock" in peak.basis
    assert not datasheet_derived_peaks(load()["nvidia_h800_sxm5_80gb"])["fp32"].assumed


def test_an_unknown_card_is_never_credited_with_its_sisters_tensor_cores() -> None:
    hopper = derived_peaks(None, compute_capability="9.0", unit_count=132, clock_mhz=1980)
    assert set(hopper) == {"fp32", "fp16_vector", "bf16_vector"}
    ada = derived_peaks(None, compute_capability="8.9", unit_count=142, clock_mhz=2520)
    assert "bf16_tensor" not in ada
    assert ada["fp32"].assumed
    assert not ada["fp32"].physical_bound
    assert "compute capability 8.9" in ada["fp32"].basis


def test_an_unknown_card_of_a_uniform_architecture_gets_its_rates() -> None:
    a100 = derived_peaks(None, compute_capability="8.0", unit_count=98, clock_mhz=1410)
    assert a100["bf16_tensor"].value == pytest.approx(98 * 2048 * 1410 / 1e6)
    mi308 = derived_peaks(None, gcn_arch="gfx942:sramecc+", unit_count=80, clock_mhz=2100)
    assert "80 CU" in mi308["fp8_tensor"].basis


def test_without_units_clock_or_architecture_there_is_no_peak() -> None:
    h100 = load()["nvidia_h100_sxm5_80gb"]
    assert derived_peaks(h100) == {}
    assert derived_peaks(h100, clock_mhz=0) == {}
    assert derived_peaks(h100, unit_count=-1, clock_mhz=1980) == {}
    assert derived_peaks(load()["nvidia_gb300"], clock_mhz=1900) == {}
    assert datasheet_derived_peaks(load()["nvidia_gb300"]) == {}
    assert derived_peaks(None, compute_capability="8.7", unit_count=8, clock_mhz=1000) == {}
    assert derived_peaks(None, unit_count=8, clock_mhz=1000) == {}


def test_h20_has_no_derived_fp64_and_a_quarter_of_the_tensor_peak() -> None:
    peaks = derived_peaks(load()["nvidia_h20_96gb"], clock_mhz=1980)
    assert "fp64" not in peaks
    assert peaks["bf16_tensor"].value == pytest.approx(158.1, abs=0.1)


def test_integer_peaks_are_in_tops() -> None:
    assert datasheet_derived_peaks(load()["nvidia_t4"])["int8"].unit == "TOPS"


# Memory bandwidths that stood in somebody's table, beside what the pins of that card carry.
@pytest.mark.parametrize(
    ("stated", "pins"),
    [
        pytest.param(1.792e15 / 1e9, 1792.1, id="RTX 5090, TB/s taken for GB/s"),
        pytest.param(3350.0, 300.0, id="L4, an H100's figure"),
        pytest.param(4893.7, 2446.8, id="H100 96 GB, doubled twice"),
        pytest.param(2.333, 4917.0, id="H200, GB/s taken for MB/s"),
    ],
)
def test_a_stated_bandwidth_that_is_not_the_pins_is_found(stated: float, pins: float) -> None:
    problem = memory_peak_problem(stated, pins)
    assert problem is not None
    assert problem.endswith(f"({pins:.4g} GB/s)")


@pytest.mark.parametrize(
    ("stated", "pins"), [(4800, 4917), (2000, 2039), (300, 320.1), (8000, 8184), (7700, 7672)]
)
def test_a_vendor_s_rounding_is_none(stated: float, pins: float) -> None:
    assert memory_peak_problem(stated, pins) is None


def test_no_row_of_the_catalogue_states_a_bandwidth_that_is_not_its_pins() -> None:
    problems = {
        row.key: memory_peak_problem(row.mem_bw_gbps, pins)
        for row in load()
        if row.mem_bw_gbps and (pins := catalogue_memory_peak_gbps(row))
    }
    assert len(problems) > 30
    assert {key: problem for key, problem in problems.items() if problem} == {}


def test_inline_ecc_leaves_eight_ninths_where_it_shares_the_pins() -> None:
    assert inline_ecc_payload_gbps(864.0) == 768.0
    shared = {kind: has_inline_ecc(kind) for kind in ("GDDR6", "GDDR6X", "GDDR7", "HBM3e", None)}
    assert [kind for kind, inline in shared.items() if inline] == ["GDDR6", "GDDR6X"]
