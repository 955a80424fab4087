"""The rows of the compute result: each precision in each form in which silicon offers it.

"BF16" alone is a number without its conditions: products of bf16 may run on tensor or vector units,
sum in fp32 or fp16, take 2:4-sparse operands; FP8 may carry one scale per tensor, per row or per
block and keep its partial sums short or full. Each such form is a row of its own, is searched and
measured on its own and is held against its own peak. This table is the whole list; a row that a
device cannot do is reported as skipped with the reason, never left out.

``scaling`` names how operands get their scales: ``tensorwise`` (one fp32 scale each), ``rowwise``
(one per row of A and per column of B), ``blockwise`` (fp32, 1x128 for A and 128x128 for B, the
recipe of DeepSeek-V3, arXiv:2412.19437 section 3.3.2), ``mx32`` (e8m0 per 32 elements, OCP
Microscaling 1.0) and ``nv16`` (e4m3 per 16 elements, NVIDIA's NVFP4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Pipe = Literal["vector", "tensor"]
Scaling = Literal["tensorwise", "rowwise", "blockwise", "mx32", "nv16"]


@dataclass(frozen=True, slots=True)
class ComputeRow:
    """One row of the result.

    ``precision`` is the format by its public name, ``accumulator`` what partial sums are kept in,
    ``operand`` and ``output`` torch's names of the element types (``uint4`` stands for two e2m1
    codes in a byte). ``gemm`` is false for rows that only the pipe probe measures.
    """

    name: str
    precision: str
    title: str
    operand: str
    output: str
    accumulator: str
    pipe: Pipe | None = "tensor"
    scaling: Scaling | None = None
    fast_accum: bool | None = None
    sparsity: Literal["2:4"] | None = None
    gemm: bool = True


_E4M3 = "float8_e4m3fn"
ROWS: tuple[ComputeRow, ...] = (
    ComputeRow("fp64", "fp64", "FP64", "float64", "float64", "fp64", pipe=None),
    ComputeRow("fp64-vector", "fp64", "FP64, vector pipe", "float64", "float64", "fp64",
               pipe="vector", gemm=False),
    ComputeRow("fp32", "fp32", "FP32 (IEEE)", "float32", "float32", "fp32", pipe=None),
    ComputeRow("fp32-vector", "fp32", "FP32, vector pipe", "float32", "float32", "fp32",
               pipe="vector", gemm=False),
    ComputeRow("tf32", "tf32", "TF32", "float32", "float32", "fp32"),
    ComputeRow("bf16", "bf16", "BF16", "bfloat16", "bfloat16", "fp32"),
    ComputeRow("bf16-vector", "bf16", "BF16, vector pipe", "bfloat16", "bfloat16", "bf16",
               pipe="vector", gemm=False),
    ComputeRow("fp16", "fp16", "FP16", "float16", "float16", "fp32"),
    ComputeRow("fp16-acc16", "fp16-acc16", "FP16, FP16 sums", "float16", "float16", "fp16"),
    ComputeRow("fp16-vector", "fp16", "FP16, vector pipe", "float16", "float16", "fp16",
               pipe="vector", gemm=False),
    ComputeRow("fp8-fast", "fp8", "FP8, fast sums", _E4M3, "bfloat16", "fp32",
               scaling="tensorwise", fast_accum=True),
    ComputeRow("fp8", "fp8", "FP8", _E4M3, "bfloat16", "fp32",
               scaling="tensorwise", fast_accum=False),
    ComputeRow("fp8-rowwise-fast", "fp8", "FP8 row-wise, fast sums", _E4M3, "bfloat16", "fp32",
               scaling="rowwise", fast_accum=True),
    ComputeRow("fp8-rowwise", "fp8", "FP8 row-wise", _E4M3, "bfloat16", "fp32",
               scaling="rowwise", fast_accum=False),
    ComputeRow("fp8-blockwise", "fp8", "FP8 1x128/128x128 blocks", _E4M3, "bfloat16", "fp32",
               scaling="blockwise", fast_accum=False),
    ComputeRow("int8", "int8", "INT8", "int8", "int32", "int32"),
    ComputeRow("mxfp8", "mxfp8", "MXFP8", _E4M3, "bfloat16", "fp32", scaling="mx32"),
    ComputeRow("nvfp4", "nvfp4", "NVFP4", "uint4", "bfloat16", "fp32", scaling="nv16"),
    ComputeRow("int4", "int4", "INT4", "int4", "int32", "int32", gemm=False),
    ComputeRow("bf16-sparse", "bf16", "BF16, 2:4 sparse-equivalent", "bfloat16", "bfloat16", "fp32",
               sparsity="2:4"),
    ComputeRow("fp16-sparse", "fp16", "FP16, 2:4 sparse-equivalent", "float16", "float16", "fp32",
               sparsity="2:4"),
    ComputeRow("fp8-sparse", "fp8", "FP8, 2:4 sparse-equivalent", _E4M3, "bfloat16", "fp32",
               scaling="tensorwise", sparsity="2:4"),
    ComputeRow("int8-sparse", "int8", "INT8, 2:4 sparse-equivalent", "int8", "int32", "int32",
               sparsity="2:4"),
)  # fmt: skip

BY_NAME: dict[str, ComputeRow] = {row.name: row for row in ROWS}

# Words that --precision takes besides the names of rows and precisions.
GROUPS: dict[str, tuple[str, ...]] = {
    "all": tuple(BY_NAME),
    "dense": tuple(row.name for row in ROWS if row.sparsity is None),
    "sparse": tuple(row.name for row in ROWS if row.sparsity is not None),
    "vector": tuple(row.name for row in ROWS if row.pipe == "vector"),
    "tensor": tuple(row.name for row in ROWS if row.pipe == "tensor"),
    "half": ("bf16", "fp16", "fp16-acc16"),
    "8bit": tuple(row.name for row in ROWS if row.precision in ("fp8", "int8", "mxfp8")),
    "4bit": tuple(row.name for row in ROWS if row.precision in ("nvfp4", "int4")),
    "integer": tuple(row.name for row in ROWS if row.precision.startswith("int")),
    "serving": (
        "bf16",
        "fp16",
        "fp8-fast",
        "fp8",
        "fp8-rowwise-fast",
        "fp8-rowwise",
        "fp8-blockwise",
        "int8",
        "mxfp8",
        "nvfp4",
    ),
}


class UnknownRowError(KeyError):
    """A word that is no row, precision or group; the message lists what there is."""


def select(words: tuple[str, ...]) -> tuple[ComputeRow, ...]:
    """Return the rows that ``words`` name, in table order, each once; all of them for no words.

    A word is a group, a precision (its dense rows: ``fp8`` selects all five forms of FP8) or the
    name of one row; sparse rows come by name, by ``sparse`` or by ``all``.
    Raises ``UnknownRowError``.
    """
    if not words:
        return ROWS
    chosen: set[str] = set()
    for word in words:
        dense = [row.name for row in ROWS if row.precision == word and row.sparsity is None]
        if word in GROUPS:
            chosen.update(GROUPS[word])
        elif dense:
            chosen.update(dense)
        elif word in BY_NAME:
            chosen.add(word)
        else:
            known = dict.fromkeys((*GROUPS, *(row.precision for row in ROWS), *BY_NAME))
            raise UnknownRowError(f"there is no precision {word!r}; choose from {', '.join(known)}")
    return tuple(row for row in ROWS if row.name in chosen)
