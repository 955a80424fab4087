"""Which precision lowers to which instruction where: what a Triton product really runs on.

A row's name says what was asked for; only the emitted instruction says what runs. Where a type has
no matrix instruction, Triton converts to another one or falls back to plain FMA without a word, and
the rate would be that of something else. This table says what ``tl.dot`` becomes with our tiles;
tests compile every entry ahead of time (Triton 3.9) and hold it, so it cannot go stale unseen.

Patterns are regular expressions on PTX or AMDGCN assembly. An entry that starts with ``-`` is not
offered, and the rest of it is the reason.
"""

from __future__ import annotations

import re

_WGMMA = r"wgmma\.mma_async\S*\.{}"
_TCGEN = r"tcgen05\.mma\S*kind::{}"
_MMA = r"mma\.sync\S*\.{}"
_MFMA = r"v_s?mfma_{}"
_FMA32 = r"fma\.rn\.f32"
_FMA64 = r"fma\.rn\.f64"

_NO_TENSOR = "-Triton has no tensor instructions for sm_75: it would run on plain FMA"
_NO_FP8 = "-FP8 needs compute capability 8.9 in Triton"

TABLE: dict[str, dict[str, str]] = {
    "sm_75": {
        "fp64": _FMA64, "fp32": _FMA32, "tf32": _NO_TENSOR, "bf16": _NO_TENSOR, "fp16": _NO_TENSOR,
        "fp8": _NO_FP8, "int8": "-Triton cannot compile int8 products for sm_75",
    },
    "sm_80": {
        "fp64": _MMA.format("f64"), "fp32": _FMA32, "tf32": _MMA.format("tf32"),
        "bf16": _MMA.format("bf16"), "fp16": _MMA.format("f16"), "fp8": _NO_FP8,
        "int8": _MMA.format("s8"),
    },
    "sm_86": {
        "fp64": _FMA64, "fp32": _FMA32, "tf32": _MMA.format("tf32"), "bf16": _MMA.format("bf16"),
        "fp16": _MMA.format("f16"), "fp8": _NO_FP8, "int8": _MMA.format("s8"),
    },
    "sm_89": {
        "fp64": _FMA64, "fp32": _FMA32, "tf32": _MMA.format("tf32"), "bf16": _MMA.format("bf16"),
        "fp16": _MMA.format("f16"), "fp8": _MMA.format("e4m3"), "int8": _MMA.format("s8"),
    },
    "sm_90": {
        "fp64": _MMA.format("f64"), "fp32": _FMA32, "tf32": _WGMMA.format("tf32"),
        "bf16": _WGMMA.format("bf16"), "fp16": _WGMMA.format("f16"), "fp8": _WGMMA.format("e4m3"),
        "int8": _WGMMA.format("s8"),
    },
    "sm_100": {
        "fp64": _MMA.format("f64"), "fp32": _FMA32, "tf32": _TCGEN.format("tf32"),
        "bf16": _TCGEN.format("f16"), "fp16": _TCGEN.format("f16"),
        "fp8": _TCGEN.format("f8f6f4"), "int8": _TCGEN.format("i8"),
    },
    "sm_103": {
        "fp64": _MMA.format("f64"), "fp32": _FMA32, "tf32": _TCGEN.format("tf32"),
        "bf16": _TCGEN.format("f16"), "fp16": _TCGEN.format("f16"),
        "fp8": _TCGEN.format("f8f6f4"), "int8": _MMA.format("s8"),
    },
    "sm_120": {
        "fp64": _FMA64, "fp32": _FMA32, "tf32": _MMA.format("tf32"), "bf16": _MMA.format("bf16"),
        "fp16": _MMA.format("f16"), "fp8": _MMA.format("e4m3"), "int8": _MMA.format("s8"),
    },
    "gfx942": {
        "fp64": _MFMA.format("f64"), "fp32": _MFMA.format("f32_\\d+x\\d+x\\d+_f32"),
        "tf32": _MFMA.format("f32_\\d+x\\d+x\\d+_xf32"),
        "bf16": _MFMA.format("f32_\\d+x\\d+x\\d+_bf16"),
        "fp16": _MFMA.format("f32_\\d+x\\d+x\\d+_f16"), "fp8": _MFMA.format("\\S*fp8"),
        "int8": _MFMA.format("i32\\S*i8"),
    },
    "gfx950": {
        "fp64": _MFMA.format("f64"), "fp32": _MFMA.format("f32_\\d+x\\d+x\\d+_f32"),
        "tf32": "-gfx950 has no TF32 units and Triton rejects tf32 there",
        "bf16": _MFMA.format("f32_\\d+x\\d+x\\d+_bf16"),
        "fp16": _MFMA.format("f32_\\d+x\\d+x\\d+_f16"), "fp8": _MFMA.format("\\S*f8"),
        "int8": _MFMA.format("i32\\S*i8"),
    },
}  # fmt: skip

# What an earlier Triton than the one the table was made with does differently. Rows: up to which
# version, architecture, precision, reason.
_OLDER: tuple[tuple[tuple[int, int], str, str, str], ...] = (
    ((3, 6), "gfx942", "fp64", "Triton 3.6 cannot compile fp64 products for gfx942"),
)

PRECISIONS = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8")

# Element types of A and B, and of C, as Triton writes them in signatures.
TYPES: dict[str, tuple[str, str]] = {
    "fp64": ("fp64", "fp64"), "fp32": ("fp32", "fp32"), "tf32": ("fp32", "fp32"),
    "bf16": ("bf16", "bf16"), "fp16": ("fp16", "fp16"), "fp8": ("fp8e4nv", "bf16"),
    "int8": ("i8", "i32"),
}  # fmt: skip


def element_types(precision: str, arch: str) -> tuple[str, str]:
    """Return Triton's names of operand and output type; CDNA 3 has its own FP8 (e4m3fnuz)."""
    operand, output = TYPES[precision]
    return ("fp8e4b8" if precision == "fp8" and arch == "gfx942" else operand), output


def expected_instruction(precision: str, arch: str) -> str | None:
    """Return the pattern that the assembly must contain, or None where it is not offered."""
    entry = TABLE[arch][precision]
    return None if entry.startswith("-") else entry


def unsupported_reason(precision: str, arch: str, triton_version: str) -> str | None:
    """Say in a sentence why Triton is not offered for this precision there, or return None.

    An architecture that the table does not know is tried: its result is checked like any other.
    """
    if precision not in PRECISIONS:
        return f"our Triton kernel does not do {precision}"
    entry = TABLE.get(arch, {}).get(precision, "")
    if entry.startswith("-"):
        return entry[1:]
    found = re.match(r"(\d+)\.(\d+)", triton_version)
    version = (int(found[1]), int(found[2])) if found else (0, 0)
    for last, its_arch, its_precision, reason in _OLDER:
        if version <= last and (arch, precision) == (its_arch, its_precision):
            return reason
    return None


def markdown_table() -> str:
    """Return the table for people: instruction families by architecture and precision."""
    lines = [
        "| architecture | " + " | ".join(PRECISIONS) + " |",
        "|---" * (len(PRECISIONS) + 1) + "|",
    ]
    for arch, row in TABLE.items():
        cells = [_family(row[precision]) for precision in PRECISIONS]
        lines.append(f"| {arch} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _family(entry: str) -> str:
    if entry.startswith("-"):
        return "–"
    families = {
        "wgmma": "wgmma", "tcgen05": "tcgen05", "mma": "mma.sync", "v_s?mfma": "v_mfma",
        "fma": "FMA",
    }  # fmt: skip
    return next(name for prefix, name in families.items() if entry.startswith(prefix))
