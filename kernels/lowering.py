"""Which row lowers to which instruction where: what a Triton kernel of ours really runs on.

A row's name says what was asked for; only the emitted instruction says what runs. Where a type has
no matrix instruction, Triton converts to another one or falls back to plain FMA without a word, and
the rate would be that of something else: block-scaled products, for example, become bf16 products
on Hopper. This table says what our kernels become; tests compile every entry ahead of time
(Triton 3.9) and hold it, so it cannot go stale unseen.

Patterns are regular expressions on PTX or AMDGCN assembly. An entry that starts with ``-`` is not
offered, and the rest of it is the reason.
"""

from __future__ import annotations

import re

_WGMMA = r"wgmma\.mma_async\S*\.{}"
_TCGEN = r"tcgen05\.mma\S*kind::{}"
_MMA = r"mma\.sync\S*\.{}"
_MFMA = r"v_s?mfma_{}"
_MFMA_F32 = r"v_s?mfma_f32_\d+x\d+x\d+_{}"
_MMA_FP16_SUMS = r"mma\.sync\S*\.f16\.f16\.f16\.f16"
_FMA32 = r"fma\.rn\.f32"
_FMA64 = r"fma\.rn\.f64"

_NO_TENSOR = "-Triton has no tensor instructions for sm_75: it would run on plain FMA"
_NO_FP8 = "-FP8 needs compute capability 8.9 in Triton"
_NO_CDNA_FP16_SUMS = "-the matrix instructions of CDNA add fp16 products in fp32 only"

# What ``tl.dot`` becomes with the tiles of ``triton_configs``.
_DOT: dict[str, dict[str, str]] = {
    "sm_75": {
        "fp64": _FMA64, "fp32": _FMA32, "tf32": _NO_TENSOR, "bf16": _NO_TENSOR, "fp16": _NO_TENSOR,
        "fp16-acc16": _NO_TENSOR, "fp8": _NO_FP8,
        "int8": "-Triton cannot compile int8 products for sm_75",
    },
    "sm_80": {
        "fp64": _MMA.format("f64"), "fp32": _FMA32, "tf32": _MMA.format("tf32"),
        "bf16": _MMA.format("bf16"), "fp16": _MMA.format("f16"), "fp16-acc16": _MMA_FP16_SUMS,
        "fp8": _NO_FP8, "int8": _MMA.format("s8"),
    },
    "sm_86": {
        "fp64": _FMA64, "fp32": _FMA32, "tf32": _MMA.format("tf32"), "bf16": _MMA.format("bf16"),
        "fp16": _MMA.format("f16"), "fp16-acc16": _MMA_FP16_SUMS, "fp8": _NO_FP8,
        "int8": _MMA.format("s8"),
    },
    "sm_89": {
        "fp64": _FMA64, "fp32": _FMA32, "tf32": _MMA.format("tf32"), "bf16": _MMA.format("bf16"),
        "fp16": _MMA.format("f16"), "fp16-acc16": _MMA_FP16_SUMS, "fp8": _MMA.format("e4m3"),
        "int8": _MMA.format("s8"),
    },
    "sm_90": {
        "fp64": _MMA.format("f64"), "fp32": _FMA32, "tf32": _WGMMA.format("tf32"),
        "bf16": _WGMMA.format("bf16"), "fp16": _WGMMA.format("f16"),
        "fp16-acc16": _WGMMA.format(r"f16\.f16\.f16"), "fp8": _WGMMA.format("e4m3"),
        "int8": _WGMMA.format("s8"),
    },
    "sm_100": {
        "fp64": _MMA.format("f64"), "fp32": _FMA32, "tf32": _TCGEN.format("tf32"),
        "bf16": _TCGEN.format("f16"), "fp16": _TCGEN.format("f16"),
        "fp16-acc16": _TCGEN.format("f16"), "fp8": _TCGEN.format("f8f6f4"),
        "int8": _TCGEN.format("i8"),
    },
    "sm_103": {
        "fp64": _MMA.format("f64"), "fp32": _FMA32, "tf32": _TCGEN.format("tf32"),
        "bf16": _TCGEN.format("f16"), "fp16": _TCGEN.format("f16"),
        "fp16-acc16": _TCGEN.format("f16"), "fp8": _TCGEN.format("f8f6f4"),
        "int8": _MMA.format("s8"),
    },
    "sm_120": {
        "fp64": _FMA64, "fp32": _FMA32, "tf32": _MMA.format("tf32"), "bf16": _MMA.format("bf16"),
        "fp16": _MMA.format("f16"), "fp16-acc16": _MMA_FP16_SUMS, "fp8": _MMA.format("e4m3"),
        "int8": _MMA.format("s8"),
    },
    "gfx942": {
        "fp64": _MFMA.format("f64"), "fp32": _MFMA_F32.format("f32"),
        "tf32": _MFMA_F32.format("xf32"), "bf16": _MFMA_F32.format("bf16"),
        "fp16": _MFMA_F32.format("f16"), "fp16-acc16": _NO_CDNA_FP16_SUMS,
        "fp8": _MFMA.format(r"\S*fp8"), "int8": _MFMA.format(r"i32\S*i8"),
    },
    "gfx950": {
        "fp64": _MFMA.format("f64"), "fp32": _MFMA_F32.format("f32"),
        "tf32": "-gfx950 has no TF32 units and Triton rejects tf32 there",
        "bf16": _MFMA_F32.format("bf16"), "fp16": _MFMA_F32.format("f16"),
        "fp16-acc16": _NO_CDNA_FP16_SUMS, "fp8": _MFMA.format(r"\S*f8"),
        "int8": _MFMA.format(r"i32\S*i8"),
    },
}  # fmt: skip

# What ``tl.dot_scaled`` becomes: a native instruction on few, a bf16 product on all others.
_UPCAST = (
    "-there are no block-scaled matrix instructions on {}: Triton would run a bf16 product and the "
    "rate would be that one's"
)
_SCALED: dict[str, dict[str, str]] = {
    "sm_100": {"mxfp8": _TCGEN.format("mxf8f6f4"), "nvfp4": _TCGEN.format("mxf4nvf4")},
    "sm_103": {"mxfp8": _TCGEN.format("mxf8f6f4"), "nvfp4": _TCGEN.format("mxf4nvf4")},
    "sm_120": {
        "mxfp8": r"mma\.sync\S*kind::mxf8f6f4", "nvfp4": r"mma\.sync\S*kind::mxf4nvf4",
    },
    "gfx950": {
        "mxfp8": r"v_mfma_scale_f32",
        "nvfp4": "-CDNA 4 scales blocks of 32 by e8m0 numbers; NVFP4 is NVIDIA's format",
    },
}  # fmt: skip

# What the pipe probes run besides ``tl.dot``: packed or plain FMA, and 4-bit integers.
_NO_INT4 = "-{} has no 4-bit integer tensor instruction (it ended with sm_89)"
_AMD_INT4 = "-CDNA has no 4-bit integer matrix instruction"
_AMD_VECTOR = {
    "fp64-vector": r"v_(pk_)?fmac?_f64", "fp32-vector": r"v_(pk_)?fmac?_f32",
    "fp16-vector": r"v_pk_fma_f16",
    "bf16-vector": "-Triton has no packed bf16 multiply-add for CDNA: it would run in fp32",
    "int4": _AMD_INT4,
}  # fmt: skip
_NVIDIA_VECTOR = {
    "fp64-vector": _FMA64, "fp32-vector": _FMA32, "fp16-vector": r"fma\.rn\.f16x2",
    "bf16-vector": r"fma\.rn\.bf16x2",
}  # fmt: skip
_INT4_FROM_80 = r"mma\.sync\.aligned\.m16n8k64\.row\.col\.s32\.s4\.s4\.s32"
_INT4: dict[str, str] = {
    "sm_75": r"mma\.sync\.aligned\.m8n8k32\.row\.col\.s32\.s4\.s4\.s32", "sm_80": _INT4_FROM_80,
    "sm_86": _INT4_FROM_80, "sm_89": _INT4_FROM_80,
}  # fmt: skip


# What the instructions in an assembly text are called, the strongest first.
_FAMILIES: tuple[tuple[str, str], ...] = (
    ("tcgen05", r"tcgen05\.mma"), ("wgmma", r"wgmma\.mma_async"), ("dmma", r"mma\.sync\S*\.f64"),
    ("mma.sync", r"mma\.sync"), ("mfma", r"v_s?mfma"), ("fma", r"fma\.rn|v_(pk_)?fmac?_"),
)  # fmt: skip


def _whole_row(arch: str) -> dict[str, str]:
    row = dict(_DOT[arch])
    row |= _SCALED.get(arch, dict.fromkeys(("mxfp8", "nvfp4"), _UPCAST.format(arch)))
    if arch.startswith("gfx"):
        return row | _AMD_VECTOR
    row |= _NVIDIA_VECTOR | {"int4": _INT4.get(arch, _NO_INT4.format(arch))}
    if arch == "sm_75":
        row["bf16-vector"] = "-bf16 arithmetic needs compute capability 8.0"
    return row


# Architecture → kind of product or pipe → pattern or reason.
TABLE: dict[str, dict[str, str]] = {arch: _whole_row(arch) for arch in _DOT}

PRODUCTS = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp16-acc16", "fp8", "int8")
SCALED_PRODUCTS = ("mxfp8", "nvfp4")
PIPES = ("fp64-vector", "fp32-vector", "fp16-vector", "bf16-vector", "int4")
KINDS = (*PRODUCTS, *SCALED_PRODUCTS, *PIPES)

# Where FP8 sums can be left short. cuBLAS documentation, CUBLASLT_MATMUL_DESC_FAST_ACCUM: the flag
# "has an effect on the following GPUs: Ada, Hopper".
FAST_SUMS = ("sm_89", "sm_90")
NO_FAST_SUMS = "fast accumulation is a switch of Ada's and Hopper's FP8 units (sm_89, sm_90) only"

# The forms of FP8 run on one instruction; how scales and sums are kept is the kernel's affair.
_FP8_FORMS = ("fp8-fast", "fp8-rowwise", "fp8-rowwise-fast", "fp8-blockwise")

# What an earlier Triton than the one the table was made with does differently. Rows: up to which
# version, architecture, kind, reason.
_OLDER: tuple[tuple[tuple[int, int], str, str, str], ...] = (
    ((3, 6), "gfx942", "fp64", "Triton 3.6 cannot compile fp64 products for gfx942"),
    ((3, 6), "sm_100", "fp64",
     "Triton 3.6 runs fp64 products on sm_100 through plain FMA, not on its matrix instruction"),
    ((3, 6), "sm_103", "fp64",
     "Triton 3.6 runs fp64 products on sm_103 through plain FMA, not on its matrix instruction"),
    ((3, 6), "sm_100", "int8",
     "Triton 3.6 runs int8 products on sm_100 through mma.sync, not on the fifth-generation tensor "
     "cores"),
)  # fmt: skip

# Element types of A and B, and of C, as Triton writes them in signatures.
TYPES: dict[str, tuple[str, str]] = {
    "fp64": ("fp64", "fp64"), "fp32": ("fp32", "fp32"), "tf32": ("fp32", "fp32"),
    "bf16": ("bf16", "bf16"), "fp16": ("fp16", "fp16"), "fp16-acc16": ("fp16", "fp16"),
    "fp8": ("fp8e4nv", "bf16"), "int8": ("i8", "i32"), "mxfp8": ("fp8e4nv", "bf16"),
    "nvfp4": ("u8", "bf16"),
}  # fmt: skip


def kind_of(row: str) -> str:
    """Return the column of the table that a row belongs to: all forms of FP8 are ``fp8``."""
    return "fp8" if row in _FP8_FORMS else row


def element_types(row: str, arch: str) -> tuple[str, str]:
    """Return Triton's names of operand and output type; CDNA 3 has its own FP8 (e4m3fnuz)."""
    operand, output = TYPES[kind_of(row)]
    return ("fp8e4b8" if operand == "fp8e4nv" and arch == "gfx942" else operand), output


def expected_instruction(row: str, arch: str) -> str | None:
    """Return the pattern that the assembly must contain, or None where it is not offered.

    ``row`` is a row of ``kernels/rows.py`` or a kind of the table.
    """
    entry = TABLE[arch][kind_of(row)]
    return None if entry.startswith("-") or _no_fast_sums(row, arch) else entry


def unsupported_reason(row: str, arch: str, triton_version: str) -> str | None:
    """Say in a sentence why our Triton kernels do not offer this row there, or return None.

    An architecture that the table does not know is tried for products, whose results are checked
    like any other; the rows whose name promises an instruction (block scales, pipes) are not.
    """
    kind = kind_of(row)
    if kind not in KINDS:
        return f"our Triton kernels do not do {row}"
    if arch not in TABLE and kind not in PRODUCTS:
        return f"nobody has checked what {row} compiles to on {arch}"
    entry = TABLE.get(arch, {}).get(kind, "")
    if entry.startswith("-"):
        return entry[1:]
    if reason := _no_fast_sums(row, arch):
        return reason
    found = re.match(r"(\d+)\.(\d+)", triton_version)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    for last, its_arch, its_kind, reason in _OLDER:
        if version <= last and (arch, kind) == (its_arch, its_kind):
            return reason
    return None


def _no_fast_sums(row: str, arch: str) -> str | None:
    if row.endswith("-fast") and arch not in FAST_SUMS:
        return NO_FAST_SUMS
    return None


def instruction_in(assembly: str) -> str | None:
    """Return the family of the strongest arithmetic instruction in PTX or AMDGCN, None for none.

    Families are named as in ``kernel_names``: a kernel that has matrix instructions works by them.
    """
    return next((name for name, pattern in _FAMILIES if re.search(pattern, assembly)), None)


def contradiction(row: str, arch: str, assembly: str) -> str | None:
    """Say in a sentence that a kernel of ours compiled to something else than the table has.

    None where it is as expected, or where the table expects nothing.
    """
    if arch not in TABLE or kind_of(row) not in KINDS:
        return None
    wanted = expected_instruction(row, arch)
    if wanted is None or re.search(wanted, assembly):
        return None
    found = instruction_in(assembly) or "other"
    return (
        f"this Triton compiled our {row} kernel for {arch} to {found} code that is not the "
        f"{_family(wanted)} form of this format"
    )


def markdown_table(kinds: tuple[str, ...] = KINDS) -> str:
    """Return the table for people: instruction families by architecture and kind."""
    lines = ["| architecture | " + " | ".join(kinds) + " |", "|---" * (len(kinds) + 1) + "|"]
    for arch, row in TABLE.items():
        cells = [_family(row[kind]) for kind in kinds]
        lines.append(f"| {arch} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _family(entry: str) -> str:
    if entry.startswith("-"):
        return "–"
    families = {
        "wgmma": "wgmma", "tcgen05": "tcgen05", "mma": "mma.sync", "v_s?mfma": "v_mfma",
        "v_mfma": "v_mfma", "v_": "FMA", "fma": "FMA",
    }  # fmt: skip
    return next(name for prefix, name in families.items() if entry.startswith(prefix))
