"""What a kernel's name says: whose it is, which instruction multiplies, and in which format.

Library kernels carry their make in their names. The names are no contract, so this is a table of
patterns, the first match counts, and each row says where such a name was seen. A name that no row
knows is unknown, never a fallback: a wrong alarm would be worse than none.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Role = Literal["product", "helper", "conversion"]

NATIVE = "native"  # the architecture's own tensor instruction, which the name leaves unsaid

# The tensor instruction that each architecture's fastest kernels use, by architecture prefix.
_NATIVE_INSTRUCTION: tuple[tuple[str, str], ...] = (
    (r"sm_7\d|sm_8\d|sm_12\d", "mma.sync"),
    (r"sm_90", "wgmma"),
    (r"sm_10\d|sm_11\d", "tcgen05"),
    (r"gfx9(08|0a|4\d|5\d)", "mfma"),
    (r"gfx1[12]\d\d", "wmma"),
)


@dataclass(frozen=True, slots=True)
class NamePattern:
    """A pattern of kernel names; ``instruction`` is a family, ``NATIVE``, or None when unsaid."""

    pattern: str
    library: str
    instruction: str | None
    role: Role = "product"


# Sources, by public repository: [187094] pytorch/pytorch#187094 (GB300); [1391]
# NVIDIA/TransformerEngine#1391 (H100); [582] GindaChen/nsys-ai#582 (H100, H200); [157]
# Dao-AILab/quack#157 (B200); [309] NVIDIA/CUDALibrarySamples#309 (sm_100); [2286]
# NVIDIA/cutlass#2286 (A30); [1139] NVIDIA/cutlass#1139 (H100); [2186] NVIDIA/cutlass#2186 (sm_120);
# [156203] pytorch/pytorch#156203 (B200); [3230] ROCm/rocm-libraries#3230 (gfx950).
# "profiles" means names in published profiler output of several projects.
PATTERNS: tuple[NamePattern, ...] = (
    # Not the product, and no sign of a fallback.
    NamePattern(r"splitKreduce_kernel|splitK_reduce", "cuBLASLt", None, "helper"),  # [157]
    NamePattern(r"^Mem(set|cpy)\b", "driver", None, "helper"),  # profiles
    NamePattern(r"scal_kernel", "cuBLAS", None, "helper"),  # profiles: alpha and beta of fp64
    NamePattern(r"_PostGSU\d", "hipBLASLt", None, "helper"),  # profiles: split-K sum of Tensile
    NamePattern(r"FillFunctor", "ATen", None, "helper"),  # profiles
    # Operands rewritten in another format before the product.
    NamePattern(r"(copy|cast)_kernel|_to_copy|\bCast", "ATen", None, "conversion"),  # profiles
    NamePattern(r"unrolled_elementwise_kernel<at::native::direct_copy", "ATen", None, "conversion"),
    # fp64 from several int8 products: cuBLAS emulation (switched by CUBLAS_EMULATE_…). profiles
    NamePattern(r"oz\d?_?int8|ozaki", "cuBLAS", "emulation"),
    # cuBLASLt's own generator. A tag names the architecture where there is one; older ones have
    # none ("nvjet_tst_…" on H100 and B200), and then it is the device's own instruction.
    NamePattern(r"nvjet_\w*_mma(_|\b)", "cuBLASLt", "mma.sync"),  # profiles (sm_120)
    NamePattern(r"nvjet_sm1[01]\d_", "cuBLASLt", "tcgen05"),  # [187094], profiles
    NamePattern(r"nvjet_sm90_", "cuBLASLt", "wgmma"),  # [582]
    NamePattern(r"nvjet_", "cuBLASLt", NATIVE),  # profiles
    # xmma: "warpgroupsize" marks wgmma; the fp64 kernels of sm_90 say "tensor16x8x…" instead.
    NamePattern(r"sm\d+_xmma_\w*f64f64", "cuBLAS", "dmma"),  # profiles (H100)
    NamePattern(r"sm\d+_xmma_\w*_ffma", "cuBLAS", "fma"),  # profiles (A100)
    NamePattern(r"sm90_xmma_gemm_\w*warpgroupsize", "cuBLAS", "wgmma"),  # [1391]
    NamePattern(r"sm90_xmma_gemm_", "cuBLAS", "wgmma"),  # profiles (names cut short)
    NamePattern(r"sm(7|8)\d_xmma_\w*(tensor|gemm)", "cuBLAS", "mma.sync"),  # profiles (A100)
    # CUTLASS instances inside cuBLAS and torch.
    NamePattern(r"cutlass\w*_simt_", "CUTLASS", "fma"),  # [309]
    NamePattern(r"cutlass_\d+_(wmma_)?tensorop_d884", "CUTLASS", "dmma"),  # profiles (A100, GB200)
    NamePattern(r"cutlass_\d+_(wmma_)?tensorop_", "CUTLASS", "mma.sync"),  # [187094], [2286]
    NamePattern(r"cutlass3x_sm12\d_\w*tensorop", "CUTLASS", "mma.sync"),  # [2186]
    NamePattern(r"cutlass3x_sm1[01]\d_\w*tensorop", "CUTLASS", "tcgen05"),  # [187094]
    NamePattern(r"cutlass3x_sm90_\w*tensorop_d", "CUTLASS", "dmma"),  # by the naming of [1139]
    NamePattern(r"cutlass3x_sm90_\w*tensorop", "CUTLASS", "wgmma"),  # [1139]
    NamePattern(r"MMA_Atom<cute::SM100_MMA|Sm100\w*Umma", "CUTLASS", "tcgen05"),  # [156203]
    NamePattern(r"MMA_Atom<cute::SM90_\d+x\d+x\d+|MainloopSm90\w*Gmma", "CUTLASS", "wgmma"),
    # cuBLAS's older kernels, named after the generation that they were written for.
    NamePattern(r"(ampere|turing|volta)\w*_[shi]\d{3,}gemm", "cuBLAS", "mma.sync"),
    NamePattern(r"(ampere|turing|volta|maxwell)_(s|d|h|z|c)gemm", "cuBLAS", "fma"),  # profiles
    NamePattern(r"gemmSN|gemv\w*_kernel|magma_[sd]gemm|gemmk1_kernel", "cuBLAS", "fma"),
    # Tensile: MT is the tile, MI the matrix instruction; without MI it multiplies on vector lanes.
    NamePattern(r"Cijk_\w*_MI\d+x\d+", "Tensile", NATIVE),  # [3230]
    NamePattern(r"Cijk_", "Tensile", "fma"),  # profiles (gfx908, fp32)
    # What a Triton kernel of ours compiles to is read from its assembly, not from its name.
    NamePattern(
        r"^(matmul_kernel|persistent_kernel|persistent_tma_kernel|scaled_kernel)", "Triton", None
    ),
)

# The format of the operands, from names of products; the first match counts.
_OPERANDS: tuple[tuple[str, str], ...] = (
    (r"e4m3|e5m2", "fp8"),  # "e4m3bf16_e4m3f32": fp8 in, bf16 out [1391]
    (r"nvjet_(sm\d+_)?qq", "fp8"),
    (r"tf32|s1688gemm_(?!bf16|f16|fp16)|s1688tf32", "tf32"),
    (r"bf16|nvjet_(sm\d+_)?ts", "bf16"),  # nvjet's letters: t bf16, h fp16, s fp32, q e4m3
    (r"i8i8|i8i32|gemm_s8|int8|imma|nvjet_(sm\d+_)?bi", "int8"),
    (r"f64|dgemm|d884|tensorop_d\d", "fp64"),
    (r"sgemm|gemm_f32f32", "fp32"),
    (r"fp16|f16f16|_f16_|hgemm|[hs]16816gemm|h1688gemm|[hs]884gemm|nvjet_(sm\d+_)?h", "fp16"),
    (r"Cijk_\w*?_(BBS|BSS|BB)_", "bf16"),  # Tensile: types of A and B, C and D, of the sum
    (r"Cijk_\w*?_(HHS|HSS|HH|HBH)_", "fp16"),
    (r"Cijk_\w*?_F8", "fp8"),
    (r"Cijk_\w*?_I8", "int8"),
    (r"Cijk_\w*?_(DB|D_B|DD)_", "fp64"),
    (r"Cijk_\w*?_(SB|S_B|SS)_", "fp32"),
)


@dataclass(frozen=True, slots=True)
class KernelName:
    """What one name says; unknown parts are None, an unknown name counts as a product."""

    name: str
    role: Role
    library: str | None
    instruction: str | None
    operand: str | None


def native_instruction(architecture: str | None) -> str | None:
    """Return the tensor instruction of an architecture's own generation, None if unknown."""
    for pattern, instruction in _NATIVE_INSTRUCTION:
        if re.fullmatch(f"({pattern})[a-z]?", architecture or ""):
            return instruction
    return None


def read_name(name: str, architecture: str | None = None) -> KernelName:
    """Read one device kernel's name as the profiler gives it."""
    for row in PATTERNS:
        if re.search(row.pattern, name):
            instruction = row.instruction
            if instruction == NATIVE:
                instruction = native_instruction(architecture)
            operand = _operand(name) if row.role == "product" else None
            return KernelName(name, row.role, row.library, instruction, operand)
    return KernelName(name, "product", None, None, None)


def _operand(name: str) -> str | None:
    return next((kind for pattern, kind in _OPERANDS if re.search(pattern, name)), None)
