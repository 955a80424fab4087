from __future__ import annotations

from typing import Any

import pytest

from roofprobe.kernels.rows import ROWS, ComputeRow
from roofprobe.records.titles import has_line, is_arithmetic, label_of, title_of


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row.name))
def test_every_row_is_called_what_the_table_of_rows_calls_it(row: ComputeRow, make: Any) -> None:
    fields = ("precision", "accumulator", "pipe", "scaling", "fast_accum", "sparsity")
    case = make(row=row.name, **{name: getattr(row, name) for name in fields}).case
    assert title_of(case) == row.title
    assert label_of(case) == row.name


def test_a_case_without_a_row_is_labelled_by_its_precision(make: Any) -> None:
    assert label_of(make(row=None).case) == "bf16"
    assert label_of(make(row=None, sparsity="2:4").case) == "bf16 2:4 sparse"


def test_a_memory_kernel_is_labelled_by_its_name_and_engine(make: Any) -> None:
    copy = {"family": "memory", "op": "copy", "precision": "fp32", "row": None, "pipe": None}
    assert label_of(make(**copy).case) == "copy fp32"
    assert title_of(make(engine="copy-engine", **copy).case) == "copy fp32 (copy engine)"


def test_a_processors_product_is_no_row_of_the_vector_pipe(make: Any) -> None:
    assert title_of(make(precision="fp32", row="fp32", pipe="vector").case) == "FP32 (IEEE)"


@pytest.mark.parametrize(
    ("label", "fields"),
    [
        ("decode GEMM bf16", {"op": "gemm", "shape": {"m": 16, "n": 8, "k": 8}}),
        ("prefill GEMM fp8", {"op": "gemm", "shape": {"m": 256, "n": 8, "k": 8},
                              "precision": "fp8"}),
        ("prefill attention bf16", {"op": "attention_prefill", "shape": {"query_len": 1},
                                    "kv_precision": "bf16"}),
        ("decode attention bf16, fp8 KV", {"op": "attention_decode", "shape": {"batch": 2},
                                           "kv_precision": "fp8"}),
        ("decode MLA bf16", {"op": "mla_decode", "shape": {}, "kv_precision": "bf16"}),
        ("prefill experts bf16", {"op": "grouped_gemm", "shape": {"tokens": 4096}}),
    ],
)  # fmt: skip
def test_an_operation_is_called_by_the_phase_that_it_belongs_to(
    label: str, fields: dict[str, Any], make: Any
) -> None:
    case = make(**{"family": "llm", "precision": "bf16", "row": None, **fields}).case
    assert label_of(case) == title_of(case) == label
    assert is_arithmetic(case) == label.startswith("prefill")
    assert has_line(case)


def test_what_works_row_by_row_has_no_line_of_its_own(make: Any) -> None:
    case = make(family="llm", op="rmsnorm", shape={"rows": 4096, "width": 8}, row=None).case
    assert not has_line(case)
    assert not is_arithmetic(case)
    assert has_line(make().case)
