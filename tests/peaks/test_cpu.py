import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.peaks.cpu import cpu_peaks
from roofprobe.peaks.precisions import NAMES

AVX2 = {"sse2", "avx", "avx2", "fma"}
AVX512 = AVX2 | {"avx512f", "avx512_bf16", "avx512_vnni"}
SAPPHIRE_RAPIDS = AVX512 | {"avx512_fp16", "amx_bf16", "amx_int8", "amx_tile"}


def ops_per_core(**kwargs: object) -> dict[str, float]:
    """Operations per clock and core by precision, from one core at 1 GHz."""
    peaks = cpu_peaks(1, clock_mhz=1000, **kwargs)  # type: ignore[arg-type]
    return {name: peak.ops_per_clock for name, peak in peaks.items()}


def test_avx2_core_with_two_fma_units() -> None:
    assert ops_per_core(flags=AVX2) == {"fp64": 16, "fp32": 32}


def test_value_is_cores_times_operations_times_clock() -> None:
    peak = cpu_peaks(8, AVX2, 3000)["fp32"]
    assert peak.value == 8 * 32 * 3000 / 1e6
    assert peak.unit == "TFLOPS"
    assert peak.at_clock(1500) == peak.value / 2


def test_avx512_server_core() -> None:
    assert ops_per_core(flags=AVX512, vendor="GenuineIntel", family=6, model=85) == {
        "fp64": 32,
        "fp32": 64,
        "bf16": 128,
        "int8": 256,
    }


def test_zen_4_gains_nothing_from_avx512_but_the_new_types() -> None:
    zen4 = ops_per_core(flags=AVX512, vendor="AuthenticAMD", family=25, model=17)
    avx2 = ops_per_core(flags=AVX2, vendor="AuthenticAMD", family=25, model=1)
    assert zen4 == {"fp64": 16, "fp32": 32, "bf16": 64, "int8": 128}
    assert avx2 == {"fp64": 16, "fp32": 32}


def test_zen_5_server_has_full_width_and_mobile_has_not() -> None:
    server = ops_per_core(flags=AVX512, vendor="AuthenticAMD", family=26, model=0x02)
    mobile = ops_per_core(flags=AVX512, vendor="AuthenticAMD", family=26, model=0x24)
    assert server["fp32"] == 64
    assert mobile["fp32"] == 32


def test_zen_1_has_half_the_width() -> None:
    assert ops_per_core(flags=AVX2, vendor="AuthenticAMD", family=23, model=1)["fp32"] == 16
    assert ops_per_core(flags=AVX2, vendor="AuthenticAMD", family=23, model=0x31)["fp32"] == 32


def test_intel_client_cores_have_one_512_bit_unit() -> None:
    tiger_lake = ops_per_core(flags=AVX512, vendor="GenuineIntel", family=6, model=0x8C)
    assert tiger_lake["fp32"] == 32


def test_amx_replaces_the_vector_rate() -> None:
    ops = ops_per_core(flags=SAPPHIRE_RAPIDS, vendor="GenuineIntel", family=6, model=0x8F)
    assert ops["bf16"] == 1024
    assert ops["int8"] == 2048
    assert ops["fp16"] == 128
    assert ops["fp32"] == 64


def test_avx_vnni_is_a_256_bit_instruction() -> None:
    assert ops_per_core(flags=AVX2 | {"avx_vnni"})["int8"] == 128


def test_older_x86_has_no_fma() -> None:
    assert ops_per_core(flags={"sse2", "avx"}) == {"fp64": 8, "fp32": 16}
    assert ops_per_core(flags={"sse2"}) == {"fp64": 4, "fp32": 8}


def test_arm_cores_are_counted_as_neon() -> None:
    assert ops_per_core(flags={"asimd", "asimdhp", "asimddp", "bf16"}, vendor="ARM") == {
        "fp64": 8,
        "fp32": 16,
        "fp16": 32,
        "bf16": 32,
        "int8": 64,
    }
    assert "SVE of unknown width" in cpu_peaks(1, {"asimd", "sve"}, 2000)["fp32"].basis


def test_flags_are_read_with_or_without_underscores() -> None:
    written = {flag.replace("_", "").upper() for flag in SAPPHIRE_RAPIDS}
    assert ops_per_core(flags=written) == ops_per_core(flags=SAPPHIRE_RAPIDS)


def test_the_assumption_stands_in_the_basis_and_it_is_no_bound() -> None:
    for peak in cpu_peaks(4, SAPPHIRE_RAPIDS, 2000).values():
        assert peak.assumed
        assert not peak.physical_bound
    assert "2 FMA units of 256 bit assumed" in cpu_peaks(4, AVX2, 2000)["fp64"].basis
    zen4 = cpu_peaks(4, AVX512, 2000, "AuthenticAMD", family=25, model=17)["fp64"].basis
    assert zen4.startswith("4 cores x 2000 MHz x 16 operations per clock (AVX-512, Zen 4")


@pytest.mark.parametrize(("cores", "clock"), [(None, 2000), (0, 2000), (4, None), (4, 0), (-1, 1)])
def test_without_cores_or_clock_there_is_no_peak(cores: int | None, clock: float | None) -> None:
    assert cpu_peaks(cores, AVX2, clock) == {}


def test_an_unknown_instruction_set_has_no_peak() -> None:
    assert cpu_peaks(4, {"rv64gc"}, 2000) == {}
    assert cpu_peaks(4, (), 2000) == {}


@given(
    st.lists(st.sampled_from(sorted(SAPPHIRE_RAPIDS | {"asimd", "sve", "bf16"})) | st.text()),
    st.none() | st.sampled_from(["GenuineIntel", "AuthenticAMD", "ARM"]) | st.text(),
    st.none() | st.integers(),
    st.none() | st.integers(),
)
def test_any_flags_give_known_precisions_and_positive_peaks(
    flags: list[str], vendor: str | None, family: int | None, model: int | None
) -> None:
    peaks = cpu_peaks(2, flags, 2500.0, vendor, family=family, model=model)
    assert peaks.keys() <= set(NAMES)
    assert all(peak.value > 0 for peak in peaks.values())
