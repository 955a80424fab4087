"""The table of rows holds together: names, groups, types, and what each word selects."""

from __future__ import annotations

import pytest
import torch

from roofprobe.kernels import accuracy, rows
from roofprobe.kernels.rows import BY_NAME, GROUPS, ROWS, ComputeRow, UnknownRowError, select

PUBLIC = (
    "fp64", "fp32", "tf32", "bf16", "fp16", "fp16-acc16", "fp8", "int8", "mxfp8", "nvfp4", "int4",
)  # fmt: skip
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def names(*words: str) -> list[str]:
    return [row.name for row in select(words)]


def test_every_public_precision_has_a_row_and_no_other_is_there() -> None:
    assert set(PUBLIC) == {row.precision for row in ROWS}


def test_names_and_titles_are_unique() -> None:
    assert len(BY_NAME) == len({row.title for row in ROWS}) == len(ROWS)


def test_no_two_rows_mean_the_same_product() -> None:
    keys = [
        (row.precision, row.accumulator, row.pipe, row.scaling, row.fast_accum, row.sparsity)
        for row in ROWS
    ]
    assert len(set(keys)) == len(keys)


@every_row
def test_element_types_are_torch_s_or_packed_codes(row: ComputeRow) -> None:
    for name in (row.operand, row.output):
        assert name in ("uint4", "int4") or isinstance(getattr(torch, name), torch.dtype)


@every_row
def test_a_row_of_products_has_a_tolerance_and_the_others_are_for_the_pipe(row: ComputeRow) -> None:
    if row.gemm:
        assert row.precision in accuracy.TOLERANCES
    else:
        assert row.pipe == "vector" or row.name == "int4"


@every_row
def test_a_title_tells_what_its_figure_must_not_be_confused_with(row: ComputeRow) -> None:
    assert ("2:4 sparse-equivalent" in row.title) == (row.sparsity is not None)
    assert ("vector pipe" in row.title) == (row.pipe == "vector")
    assert ("fast sums" in row.title) == bool(row.fast_accum)


@every_row
def test_eight_bits_and_less_carry_scales_unless_they_are_integers(row: ComputeRow) -> None:
    narrow = row.precision in ("fp8", "mxfp8", "nvfp4")
    assert (row.scaling is not None) == narrow


def test_no_word_selects_everything_in_the_order_of_the_table() -> None:
    assert select(()) == ROWS
    assert select(("all",)) == ROWS


def test_a_precision_selects_its_dense_rows_and_a_name_one() -> None:
    assert names("fp8") == [
        "fp8-fast", "fp8", "fp8-rowwise-fast", "fp8-rowwise", "fp8-blockwise",
    ]  # fmt: skip
    assert names("fp8-rowwise") == ["fp8-rowwise"]
    assert names("bf16") == ["bf16", "bf16-vector"]
    assert names("bf16-sparse") == ["bf16-sparse"]
    assert names("fp16") == ["fp16", "fp16-vector"]


def test_selection_is_in_table_order_and_each_row_once() -> None:
    assert names("int8", "fp32", "half", "fp32") == [
        "fp32", "fp32-vector", "bf16", "fp16", "fp16-acc16", "int8",
    ]  # fmt: skip


def test_dense_and_sparse_share_the_table_out_between_them() -> None:
    dense, sparse = names("dense"), names("sparse")
    assert set(dense).isdisjoint(sparse)
    assert names("dense", "sparse") == [row.name for row in ROWS]
    assert sparse == ["bf16-sparse", "fp16-sparse", "fp8-sparse", "int8-sparse"]


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        ("vector", {"fp64-vector", "fp32-vector", "bf16-vector", "fp16-vector"}),
        ("half", {"bf16", "fp16", "fp16-acc16"}),
        ("4bit", {"nvfp4", "int4"}),
        ("integer", {"int8", "int4", "int8-sparse"}),
        (
            "serving",
            {
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
            },
        ),
    ],
)
def test_a_group_is_what_its_name_says(group: str, expected: set[str]) -> None:
    assert set(names(group)) == expected


def test_tensor_rows_and_8bit_rows_are_found_by_their_fields() -> None:
    assert {row.pipe for row in select(("tensor",))} == {"tensor"}
    assert all(torch.empty(0, dtype=getattr(torch, row.operand)).element_size() == 1
               for row in select(("8bit",)))  # fmt: skip
    assert {row.precision for row in select(("8bit",))} == {"fp8", "int8", "mxfp8"}


def test_every_group_names_rows_and_no_group_is_a_row_or_a_precision() -> None:
    for members in GROUPS.values():
        assert members
        assert set(members) <= set(BY_NAME)
    assert set(GROUPS).isdisjoint({*BY_NAME, *PUBLIC})


@pytest.mark.parametrize("word", ["fp13", "", "BF16", "fp8 "])
def test_an_unknown_word_is_refused_with_all_that_are_known(word: str) -> None:
    with pytest.raises(UnknownRowError) as refused:
        select(("bf16", word))
    sentence = refused.value.args[0]
    assert repr(word) in sentence
    for known in (*rows.GROUPS, *PUBLIC, *BY_NAME):
        assert known in sentence
