"""Kernel names as published profiles give them, verbose output of real libraries, real launches."""

from __future__ import annotations

import os
import re
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.kernels import identity, kernel_names
from roofprobe.kernels.identity import Identity, LibraryCall
from roofprobe.kernels.work import Target

CPU = Target("cpu", "cpu", "x86_64", 2)


def gpu(architecture: str) -> Target:
    kind = "rocm" if architecture.startswith("gfx") else "cuda"
    return Target(kind, "cuda:0", architecture, 100)


# (name as published, architecture, precision, library, instruction). Sources are those of
# kernel_names.PATTERNS; each of these ran what its precision should run on.
GOOD: list[tuple[str, str, str, str, str | None]] = [
    ("nvjet_sm103_hsh_128x256_64x6_2x1_2cta_v_bz_NNT", "sm_103", "fp16", "cuBLASLt", "tcgen05"),
    ("nvjet_sm90_hss_320x128_64x3_1x2_h_bz_coopB_NNT", "sm_90", "fp16", "cuBLASLt", "wgmma"),
    ("nvjet_sm90_tst_192x192_64x3_2x1_v_bz_coopB_NTN", "sm_90", "bf16", "cuBLASLt", "wgmma"),
    ("nvjet_tst_256x256_64x4_2x1_v_bz_coopA_TNN", "sm_90", "bf16", "cuBLASLt", "wgmma"),
    ("nvjet_hsh_256x128_64x4_2x1_v_bz_TNN", "sm_100", "fp16", "cuBLASLt", "tcgen05"),
    ("nvjet_qqtst_128x256_128x6_2x1_2cta_v_bz_TNT", "sm_100", "fp8", "cuBLASLt", "tcgen05"),
    ("nvjet_qqtst_112x128_128x7_2x1_v_bz_coopA_algo2_TNN", "sm_90", "fp8", "cuBLASLt", "wgmma"),
    ("nvjet_sm100_qqtst_128x256_128x6_2x1_2cta_v_bz_bias_TNT", "sm_100", "fp8", "cuBLASLt",
     "tcgen05"),
    ("nvjet_sm100_qqsss_128x128_128x8_2x4_2cta_h_bz_Avec32UE8M0_Bvec32UE8M0_TNT", "sm_100",
     "mxfp8", "cuBLASLt", "tcgen05"),
    ("nvjet_sss_tf32_128x256_TNT", "sm_90", "tf32", "cuBLASLt", "wgmma"),
    ("nvjet_sm120_tst_mma_64x64x128_3_32x32x128_tmaAB_alignCD4_bz_TNNN", "sm_120", "bf16",
     "cuBLASLt", "mma.sync"),
    ("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1_execute_"
     "segment_k_off_kernel__5x_cublas", "sm_90", "bf16", "cuBLAS", "wgmma"),
    ("sm90_xmma_gemm_e4m3bf16_e4m3f32_f32_tn_n_tilesize128x128x128_warpgroupsize1x1x1_execute_"
     "segment_k_off_kernel__5x_cublas", "sm_90", "fp8", "cuBLAS", "wgmma"),
    ("sm90_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x128x32_warpgroupsize1x1x1_execute_"
     "segment_k_off_kernel__5x_cublas", "sm_90", "tf32", "cuBLAS", "wgmma"),
    ("sm90_xmma_gemm_i8i32_i8i32_i32_tn_n_tilesize128x128x128_warpgroupsize1x1x1", "sm_90", "int8",
     "cuBLAS", "wgmma"),
    ("sm90_xmma_gemm_f64f64_f64f64_f64_nn_n_tilesize64x128x16_stage3_warpsize2x2x1_"
     "tensor16x8x8_execute", "sm_90", "fp64", "cuBLAS", "dmma"),
    ("void cutlass::Kernel2<cutlass_80_tensorop_d884gemm_128x64_16x3_nn_align1>(T1::Params)",
     "sm_80", "fp64", "CUTLASS", "dmma"),
    ("cutlass_80_tensorop_d884gemm_64x128_16x3_nn_align1", "sm_100", "fp64", "CUTLASS", "dmma"),
    ("cutlass3x_sm100_tensorop_s256x256x8tf32gemm_f32_f32_f32_2sm_bias_f32_relu", "sm_103", "tf32",
     "CUTLASS", "tcgen05"),
    ("cutlass3x_sm90_tensorop_s64x128x32gemm_e4m3_e4m3_f32_f32_e5m2_64x128x128_1x2x1_0_tnn_"
     "align16_warpspecialized_pingpong_fp8_fastaccum_epi_nosmem", "sm_90", "fp8", "CUTLASS",
     "wgmma"),
    ("cutlass3x_sm120_bstensorop_s16x8x32gemm_ue8m0xe4m3_ue8m0xe4m3_f32_void_e5m2_128x128x128_"
     "1x1x1_0_tnt_align128_pingpong_q", "sm_120", "mxfp8", "CUTLASS", "mma.sync"),
    ("cutlass_75_tensorop_bf16_s1688gemm_bf16_256x128_nn_align1", "sm_80", "bf16", "CUTLASS",
     "mma.sync"),
    ("cutlass_80_tensorop_i16832gemm_s8_256x128_64x3_tn_align16", "sm_80", "int8", "CUTLASS",
     "mma.sync"),
    ("ampere_bf16_s16816gemm_bf16_128x256_ldg8_f2f_stages_64x3_tn", "sm_80", "bf16", "cuBLAS",
     "mma.sync"),
    ("ampere_s16816gemm_bf16_128x128_nt", "sm_86", "bf16", "cuBLAS", "mma.sync"),
    ("ampere_fp16_s16816gemm_fp16_64x64_sliced1x2_ldg8_relu_f2f_stages_64x5_tn", "sm_80", "fp16",
     "cuBLAS", "mma.sync"),
    ("ampere_sgemm_128x64_tn", "sm_80", "fp32", "cuBLAS", "fma"),
    ("volta_dgemm_128x64_nn", "sm_70", "fp64", "cuBLAS", "fma"),
    ("volta_dgemm_64x64_nn", "sm_89", "fp64", "cuBLAS", "fma"),
    ("sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize128x128x8_stage3_warpsize2x2x1_ffma_aligna4_"
     "alignc4_execute_kernel__5x_cublas", "sm_90", "fp32", "cuBLAS", "fma"),
    ("cutlass3x_sm100_simt_sgemm_f32_f32_f32_f32_f32_64x32x16_1x1x1_3_nnn_align1_bias_f32_relu",
     "sm_100", "fp32", "CUTLASS", "fma"),
    ("void cutlass::Kernel2<cutlass_80_simt_sgemm_64x64_8x5_nn_align1>(T1::Params)", "sm_100",
     "fp32", "CUTLASS", "fma"),
    ("Cijk_Alik_Bljk_BBS_BH_Bias_HA_S_SAV_UserArgs_MT256x208x64_MI16x16x1_SN_LDSB1_AFC0", "gfx942",
     "bf16", "Tensile", "mfma"),
    ("Cijk_Alik_Bljk_HHS_MT128x128x32_MI16x16x16x1", "gfx1100", "fp16", "Tensile", "wmma"),
    ("Cijk_Alik_Bljk_SB_MT64x128x16_MI32x32x2x1_SN_1LDSB0_", "gfx908", "fp32", "Tensile", "mfma"),
    ("Cijk_Alik_Bljk_SB_MT64x128x16_SN_1LDSB0_", "gfx908", "fp32", "Tensile", "fma"),
    ("matmul_kernel", "sm_90", "bf16", "Triton", None),
]  # fmt: skip

# (name, architecture, precision, words of the sentence): what must not pass for the precision.
BAD: list[tuple[str, str, str, str]] = [
    ("cutlass_80_tensorop_i16832gemm_s8_128x64_128x3_tn_align16", "sm_103", "int8",
     "older generation.*tcgen05"),
    ("cutlass_80_wmma_tensorop_i161616gemm_s8_forwardCompat_128x128_32x2_nn_align4", "sm_103",
     "int8", "older generation"),
    ("cutlass_80_tensorop_i16832gemm_s8_128x64_128x3_tn_align16", "sm_90a", "int8",
     "older generation.*wgmma"),
    ("ampere_bf16_s16816gemm_bf16_128x256_ldg8_f2f_stages_64x3_tn", "sm_90", "bf16",
     "older generation"),
    ("ampere_sgemm_128x64_tn", "sm_80", "bf16", "multiplies fp32 operands, not bf16"),
    ("cutlass_80_simt_sgemm_64x64_8x5_nn_align1", "sm_100", "tf32", "fp32 operands, not tf32"),
    ("sm80_xmma_gemm_f32f32_f32f32_f32_tn_n_tilesize128x128x8_stage3_warpsize2x2x1_ffma_aligna4_"
     "alignc4_execute_kernel__5x_cublas", "sm_90", "tf32", "fp32 operands, not tf32"),
    ("sm90_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize128x128x32_warpgroupsize1x1x1_execute",
     "sm_90", "fp32", "tf32 operands, not fp32"),
    ("nvjet_tst_256x256_64x4_2x1_v_bz_coopA_TNN", "sm_90", "fp8", "bf16 operands, not fp8"),
    ("volta_dgemm_128x64_nn", "sm_90", "fp64", "fp64 tensor units"),
    ("void oz2_int8_dgemm<8>(int)", "sm_120", "fp64", "emulates fp64"),
    ("ampere_fp16_s16816gemm_fp16_64x64_sliced1x2_ldg8_relu_f2f_stages_64x5_tn", "sm_80",
     "fp16-acc16", "accumulates in fp32"),
    ("cutlass_80_simt_hgemm_128x64_8x5_nn_align1", "sm_80", "fp16", "vector lanes"),
    ("Cijk_Alik_Bljk_BBS_BH_MT32x128x16", "gfx942", "bf16", "vector lanes"),
    ("Cijk_Alik_Bljk_S_B_Bias_HA_S_SAV_UserArgs_MT16x16x256_MI16x16x1_SN_LDSB1", "gfx942", "bf16",
     "fp32 operands, not bf16"),
]  # fmt: skip

HELPERS = (
    "void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16, float>(int)",
    "void splitKreduce_kernel<float, float, float, float>(cublasSplitKParams<float>)",
    "Memset (Device)",
    "void scal_kernel<double, double, 1, true, 6, 5, 5, 3>(cublasTransposeParams<double>)",
    "Cijk_SB_GG_BiasS_HAS_ScaleAlphaVec_PostGSU8_VW2",
)
CONVERSION = (
    "void at::native::vectorized_elementwise_kernel<(int)4, at::native::float8_copy_kernel_cuda"
    "(at::TensorIteratorBase &)::[lambda(float)]>(int)"
)


@pytest.mark.parametrize(
    ("name", "architecture", "precision", "library", "instruction"), GOOD, ids=lambda v: str(v)[:50]
)
def test_a_proper_kernel_is_known_and_raises_no_alarm(
    name: str, architecture: str, precision: str, library: str, instruction: str | None
) -> None:
    found = identity.describe_device_kernels((name,), architecture)
    assert (found.library, found.instruction) == (library, instruction)
    assert identity.fallback(found, precision, gpu(architecture)) is None


@pytest.mark.parametrize(("name", "architecture", "precision", "words"), BAD)
def test_a_fallback_is_named_in_one_sentence(
    name: str, architecture: str, precision: str, words: str
) -> None:
    found = identity.describe_device_kernels((name,), architecture)
    sentence = identity.fallback(found, precision, gpu(architecture))
    assert sentence is not None
    assert name in sentence
    assert "\n" not in sentence
    assert re.search(words, sentence)


@pytest.mark.parametrize("helper", HELPERS)
def test_helpers_around_a_product_are_no_fallback_and_do_not_hide_it(helper: str) -> None:
    for name, architecture, precision, library, instruction in GOOD:
        names = (helper, name, helper)
        found = identity.describe_device_kernels(names, architecture)
        assert found.names == names
        assert (found.library, found.instruction) == (library, instruction)
        assert found.converts == ()
        assert identity.fallback(found, precision, gpu(architecture)) is None


def test_a_conversion_kernel_in_the_launch_is_a_fallback_that_names_the_real_product() -> None:
    product = "nvjet_tst_256x256_64x4_2x1_v_bz_coopA_TNN"
    found = identity.describe_device_kernels((CONVERSION, product), "sm_90")
    assert found.converts == (CONVERSION,)
    assert found.instruction == "wgmma"
    sentence = identity.fallback(found, "bf16", gpu("sm_90"))
    assert sentence is not None
    assert "float8_copy_kernel" in sentence
    assert product in sentence


@given(st.text(max_size=80))
def test_a_name_that_nothing_is_known_of_never_raises(name: str) -> None:
    found = identity.describe_device_kernels((f"zz{name}",), "sm_90")
    assert found.names == (f"zz{name}",)
    if found.library is None and not found.converts:
        assert identity.fallback(found, "bf16", gpu("sm_90")) is None


def test_every_pattern_is_reached_by_a_name_of_this_file() -> None:
    names = [row[0] for row in GOOD] + [row[0] for row in BAD] + [*HELPERS, CONVERSION]
    names += [  # families that need no verdict of their own
        "void at::native::vectorized_elementwise_kernel<4, at::native::FillFunctor<float>>(int)",
        "void at::native::unrolled_elementwise_kernel<at::native::direct_copy_k>(int)",
        "sm80_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_stage3_tensor16x8x16",
        "sm90_xmma_gemm_f16f16_f32",
        "cutlass3x_sm90_tensorop_d16x8x16gemm_f64",
        "cute::MMA_Atom<cute::SM100_MMA_F16BF16_SS<cutlass::bfloat16_t>>",
        "cute::MMA_Atom<cute::SM90_64x128x16_F32BF16BF16_SS<>>",
        "void gemv2T_kernel_val<int, int, float, float>(int)",
    ]
    for row in kernel_names.PATTERNS:
        reached = [n for n in names if _first_match(n) is row]
        assert reached, row.pattern


def _first_match(name: str) -> kernel_names.NamePattern | None:
    return next((row for row in kernel_names.PATTERNS if re.search(row.pattern, name)), None)


@pytest.mark.parametrize(
    ("architecture", "instruction"),
    [
        ("sm_70", "mma.sync"), ("sm_80", "mma.sync"), ("sm_89", "mma.sync"), ("sm_90", "wgmma"),
        ("sm_90a", "wgmma"), ("sm_100", "tcgen05"), ("sm_103a", "tcgen05"), ("sm_120", "mma.sync"),
        ("gfx90a", "mfma"), ("gfx942", "mfma"), ("gfx950", "mfma"), ("gfx1201", "wmma"),
        ("x86_64", None), (None, None), ("sm_60", None), ("gfx1030", None),
    ],
)  # fmt: skip
def test_each_architecture_has_its_own_tensor_instruction(
    architecture: str | None, instruction: str | None
) -> None:
    assert kernel_names.native_instruction(architecture) == instruction


# Real output: oneDNN 3.12 and MKL 2024.0 under torch 2.13 on a Zen 4 host; older oneDNN formats and
# AMX as published (addresses and sizes shortened).
ONEDNN = """\
onednn_verbose,v1,info,oneDNN v3.12.0 (commit 80afa71049cd69a3df32adcccb623b12cd7baa22)
onednn_verbose,v1,info,cpu,isa:Intel AVX-512 with Intel DL Boost and bfloat16 support
onednn_verbose,v1,primitive,info,template:operation,engine,primitive,implementation,prop_kind
onednn_verbose,v1,primitive,create:cache_miss,cpu,matmul,brg_matmul:avx512_core_bf16,undef,,1x1
onednn_verbose,v1,primitive,exec,cpu,matmul,brg_matmul:avx512_core_bf16,undef,src:bf16,,,256,4.1
onednn_verbose,v1,primitive,exec,cpu,gemm_api,,undef,src_s8::blocked:ab:f0,,,256x256:256x256,9.1
onednn_verbose,exec,cpu,matmul,gemm:jit:f32,undef,src_f32::blocked:ab::f0,,4x2:2x5,0.849854
onednn_verbose,v1,primitive,exec,cpu,matmul,brg_matmul:avx10_1_512_amx,undef,src:bf16,,128,1.18311
onednn_verbose,1693.25,primitive,exec,cpu,reorder,jit:uni,undef,src_f32,,,2x2,0.01
"""
MKL = """\
MKL_VERBOSE oneMKL 2024.0 Update 2 Product build 20240605 for Intel(R) 64 architecture, Lnx 2.60GHz
MKL_VERBOSE SGEMM(T,N,256,256,256,0x7ffe,0x5610,256,0x5610,256,0x7ffe,0x561,256) 615.45us CNR:OFF
MKL_VERBOSE DGEMM(T,N,256,256,256,0x7ffe,0x5610,256,0x5610,256,0x7ffe,0x561,256) 22.03ms CNR:OFF
MKL_VERBOSE GEMM_BF16BF16F32(T,N,2,2,2,0x7,0x5,2,0x5,2,0x7,0x5,2) 41ns CNR:OFF Dyn:1
"""


def test_onednn_calls_are_read_in_every_format_and_nothing_else_is() -> None:
    assert [(call.routine, call.implementation) for call in identity.read_calls(ONEDNN)] == [
        ("matmul", "brg_matmul:avx512_core_bf16"),
        ("gemm_api", ""),
        ("matmul", "gemm:jit:f32"),
        ("matmul", "brg_matmul:avx10_1_512_amx"),
        ("reorder", "jit:uni"),
    ]


def test_mkl_calls_are_read_without_the_banner() -> None:
    assert [call.routine for call in identity.read_calls(MKL)] == [
        "SGEMM",
        "DGEMM",
        "GEMM_BF16BF16F32",
    ]


def test_calls_of_both_libraries_keep_their_order() -> None:
    lines = [MKL.splitlines()[1], ONEDNN.splitlines()[4], MKL.splitlines()[2]]
    assert [call.library for call in identity.read_calls("\n".join(lines))] == [
        "MKL",
        "oneDNN",
        "MKL",
    ]


@given(st.text())
def test_any_text_is_read_without_an_error(text: str) -> None:
    for line in text.splitlines():
        assert len(identity.read_calls(line)) <= 1
    assert len(identity.read_calls(text)) <= len(text.splitlines())


WORD = st.from_regex(r"[A-Za-z][A-Za-z0-9_]{0,12}", fullmatch=True)


@given(WORD, st.lists(st.from_regex(r"[A-Z0-9x]{1,6}", fullmatch=True), max_size=8),
       st.floats(0, 1e6), st.sampled_from(["ns", "us", "ms", "s"]))  # fmt: skip
def test_every_mkl_line_gives_its_routine(
    routine: str, arguments: list[str], duration: float, unit: str
) -> None:
    line = f"MKL_VERBOSE {routine}({','.join(arguments)}) {duration:.2f}{unit} CNR:OFF Dyn:1"
    assert identity.read_calls(line) == (LibraryCall("MKL", routine, ""),)


@given(
    st.sampled_from(["onednn_verbose,v1,primitive,exec", "onednn_verbose,exec",
                     "onednn_verbose,primitive,exec", "dnnl_verbose,exec",
                     "onednn_verbose,v1,17.25,primitive,exec"]),
    WORD,
    st.from_regex(r"([a-z0-9_]+:[a-z0-9_]+)?", fullmatch=True),
)  # fmt: skip
def test_every_onednn_line_gives_its_primitive_and_implementation(
    head: str, primitive: str, implementation: str
) -> None:
    line = f"{head},cpu,{primitive},{implementation},undef,src,,,2x2,0.5"
    assert identity.read_calls(line) == (LibraryCall("oneDNN", primitive, implementation),)


@pytest.mark.parametrize(
    ("implementation", "precision", "words"),
    [
        ("brg_matmul:avx512_core_bf16", "bf16", None),
        ("brg_matmul:avx10_1_512_amx", "bf16", None),
        ("brg_matmul:avx512_core_amx_fp16", "fp16", None),
        ("brg_matmul:avx512_core_fp16", "fp16", None),
        ("brg_matmul:avx512_core_vnni", "int8", None),
        ("gemm:jit:f32", "fp32", None),
        ("", "int8", None),
        ("zendnn:matmul:f32|bf16:amd", "bf16", None),
        ("gemm:acl", "bf16", None),
        ("brg_matmul:avx512_core", "bf16", "no bf16 multiply"),
        ("brg_matmul:avx512_core_bf16", "fp16", "no fp16 multiply"),
        ("brg_matmul:avx2_vnni_2", "bf16", "no bf16 multiply"),
        ("ref:any", "bf16", "reference implementation"),
        ("ref_int8:any", "int8", "reference implementation"),
    ],
)
def test_a_onednn_implementation_is_judged_by_its_instruction_set(
    implementation: str, precision: str, words: str | None
) -> None:
    found = identity.describe_cpu(("aten::mm",), (LibraryCall("oneDNN", "matmul", implementation),))
    sentence = identity.fallback(found, precision, CPU)
    assert (sentence is None) == (words is None)
    assert words is None or (sentence is not None and words in sentence)


@pytest.mark.parametrize(
    ("routine", "precision", "words"),
    [
        ("SGEMM", "fp32", None),
        ("DGEMM", "fp64", None),
        ("GEMM_BF16BF16F32", "bf16", None),
        ("gemm_s8u8s32", "int8", None),
        ("SGEMM", "bf16", "SGEMM multiplies fp32, not bf16"),
        ("DGEMM", "fp32", "DGEMM multiplies fp64, not fp32"),
    ],
)
def test_an_mkl_routine_is_judged_by_its_format(
    routine: str, precision: str, words: str | None
) -> None:
    found = identity.describe_cpu(("aten::mm",), (LibraryCall("MKL", routine, ""),))
    assert identity.fallback(found, precision, CPU) == (None if words is None else f"MKL's {words}")


def test_operands_converted_before_a_library_call_are_a_fallback() -> None:
    operations = ("aten::_scaled_mm", "aten::_to_copy", "aten::copy_", "aten::mm")
    found = identity.describe_cpu(operations, (LibraryCall("MKL", "SGEMM", ""),))
    sentence = identity.fallback(found, "fp8", CPU)
    assert sentence == "the operands are converted by aten::_to_copy before SGEMM multiplies them"


def test_a_copy_that_was_asked_for_is_no_conversion() -> None:
    found = identity.describe_cpu(("aten::clone", "aten::copy_"), ())
    assert found.converts == ()
    assert identity.fallback(found, "bf16", CPU) is None


def _mm(dtype: torch.dtype, n: int = 256) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    a = torch.rand(n, n, generator=generator).to(dtype)
    return a, a.t(), torch.empty(n, n, dtype=dtype)


@pytest.mark.skipif(not torch.backends.mkl.is_available(), reason="this torch has no MKL")
@pytest.mark.parametrize(
    ("dtype", "precision", "routine"),
    [(torch.float32, "fp32", "SGEMM"), (torch.float64, "fp64", "DGEMM")],
)
def test_a_real_product_through_mkl_is_known_by_its_routine(
    dtype: torch.dtype, precision: str, routine: str
) -> None:
    a, b, out = _mm(dtype)
    found = identity.identify(lambda: void(torch.mm(a, b, out=out)), CPU)
    if found.library == "oneDNN":
        pytest.skip("this torch sends the product to oneDNN")
    assert found == Identity((routine,), "MKL")
    assert identity.fallback(found, precision, CPU) is None


def test_a_real_bf16_product_is_known_and_is_the_right_one_where_the_processor_has_it() -> None:
    a, b, out = _mm(torch.bfloat16)
    found = identity.identify(lambda: void(torch.mm(a, b, out=out)), CPU)
    assert found.names
    assert found.library in ("oneDNN", "MKL", "ATen")
    if found.instruction in ("avx512_bf16", "amx"):
        assert identity.fallback(found, "bf16", CPU) is None


def test_a_real_emulated_fp8_product_is_seen_as_converted() -> None:
    a = _mm(torch.float8_e4m3fn, 64)[0]
    one = torch.ones(())

    def launch() -> None:
        torch._scaled_mm(a, a.t(), one, one, out_dtype=torch.bfloat16)

    found = identity.identify(launch, CPU)
    if found.library == "oneDNN" and not found.converts:
        pytest.skip("this processor's oneDNN takes fp8")
    assert "aten::_to_copy" in found.converts
    sentence = identity.fallback(found, "fp8", CPU)
    assert sentence is not None
    assert "converted by aten::_to_copy" in sentence


def void(_: object) -> None:
    """Drop a value, so that a lambda launches and returns nothing."""


def test_nothing_that_was_launched_gives_no_name_and_a_reason() -> None:
    found = identity.identify(lambda: None, CPU)
    assert found.names == ()
    assert found.reason is not None
    assert identity.fallback(found, "bf16", CPU) is None


@pytest.mark.skipif(torch.cuda.is_available(), reason="this host has a GPU")
def test_a_gpu_that_the_profiler_cannot_see_gives_a_reason_and_no_error() -> None:
    found = identity.identify(lambda: None, gpu("sm_90"))
    assert found.names == ()
    assert found.reason is not None
    assert "CUDA" in found.reason
    assert identity.fallback(found, "bf16", gpu("sm_90")) is None


def test_the_work_is_launched_twice_and_its_errors_go_through() -> None:
    launches: list[int] = []
    identity.identify(lambda: launches.append(1), gpu("sm_90"))
    assert len(launches) == 2

    def broken() -> None:
        raise ArithmeticError("broken work")

    with pytest.raises(ArithmeticError, match="broken work"):
        identity.identify(broken, CPU)


def test_output_outside_the_watched_launch_is_not_swallowed(
    capfd: pytest.CaptureFixture[str],
) -> None:
    print("before")
    sys.stdout.flush()
    identity.identify(lambda: None, CPU)
    os.write(1, b"after\n")
    os.write(2, b"still here\n")
    seen = capfd.readouterr()
    assert seen.out == "before\nafter\n"
    assert seen.err == "still here\n"


def test_an_error_in_the_watched_launch_leaves_the_descriptors_as_they_were(
    capfd: pytest.CaptureFixture[str],
) -> None:
    calls: list[int] = []

    def second_time() -> None:
        calls.append(1)
        if len(calls) > 1:
            raise ArithmeticError("later")

    with pytest.raises(ArithmeticError, match="later"):
        identity.identify(second_time, CPU)
    os.write(1, b"visible\n")
    assert capfd.readouterr().out == "visible\n"
