from __future__ import annotations

from typing import Any

import pytest

from roofprobe.kernels.rows import ROWS, ComputeRow
from roofprobe.records.titles import label_of, title_of


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
