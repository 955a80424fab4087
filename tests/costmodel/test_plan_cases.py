"""Reading cases: what is wrong with a file stops, what is wrong with a row stays with the row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.costmodel.plan_cases import COLUMNS, BadCase, PlanCase, case_from, read_cases
from roofprobe.records.errors import RoofprobeError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cases.csv"


def read(file: Path, text: str, **defaults: Any) -> list[PlanCase | BadCase]:
    file.write_text(text)
    return read_cases(file, defaults)


def code_of(case: PlanCase | BadCase) -> str:
    assert isinstance(case, BadCase), case
    return case.code


def test_columns_are_the_promised_options() -> None:
    assert COLUMNS == (
        "model", "precision", "kv_precision", "tp", "pp", "ep", "dp", "batch", "concurrency",
        "input_len", "output_len", "gpus", "ttft_ms", "tpot_ms", "tokens_per_minute",
        "requests_per_second",
    )  # fmt: skip


def test_rows_are_read_in_order_and_empty_cells_take_the_option(file: Path) -> None:
    text = "model,tp,concurrency,input_len\na,2,8.0,100\nb,,,\n"
    assert read(file, text, tp=4, output_len=7, concurrency=3) == [
        PlanCase("a", tp=2, concurrency=8, input_len=100, output_len=7),
        PlanCase("b", tp=4, concurrency=3, output_len=7),
    ]


def test_a_rows_batch_replaces_the_options_concurrency(file: Path) -> None:
    assert read(file, "model,batch\na,4\n", concurrency=8) == [PlanCase("a", batch=4)]


def test_a_byte_order_mark_and_windows_line_ends_are_fine(file: Path) -> None:
    file.write_bytes("\ufeffmodel,tp\r\na,2\r\n\r\n".encode())
    assert read_cases(file, {}) == [PlanCase("a", tp=2)]


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("", "empty-cases"),
        ("\n\n", "empty-cases"),
        ("model,tp\n", "empty-cases"),
        ("model,tp\n,\n\n", "empty-cases"),
        ("model,tensor\na,1\n", "unknown-column"),
        ("model,tp,tp\na,1,2\n", "repeated-column"),
        ("tp\n1\n", "no-model"),
    ],
)
def test_what_is_wrong_with_the_file_is_an_error(file: Path, text: str, code: str) -> None:
    with pytest.raises(RoofprobeError) as error:
        read(file, text)
    assert error.value.code == code
    assert str(file) in error.value.sentence


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", b"model\n\x00\xff"])
def test_what_is_no_text_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(RoofprobeError) as error:
        read_cases(file, {})
    assert error.value.code == "unreadable-cases"


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError, match=r"cannot read .*none\.csv"):
        read_cases(tmp_path / "none.csv", {})
    with pytest.raises(RoofprobeError, match="cannot read"):
        read_cases(tmp_path, {})


@pytest.mark.parametrize(
    ("cells", "code"),
    [
        ("a,NaN,1,1", "bad-value"),
        ("a,inf,1,1", "bad-value"),
        ("a,two,1,1", "bad-value"),
        ("a,0,1,1", "bad-value"),
        ("a,-1,1,1", "bad-value"),
        ("a,1.5,1,1", "bad-value"),
        ("a,1e99,1,1", "absurd-value"),
        ("nan,1,1,1", "bad-value"),
        (",1,1,1", "no-model"),
        ("a,1,1,1,9", "bad-row"),
        ("a,1,999999999999,1", "absurd-value"),
        ("a,1,1,-5", "bad-value"),
    ],
)
def test_what_is_wrong_with_a_row_stays_with_the_row(file: Path, cells: str, code: str) -> None:
    bad, good = read(file, f"model,tp,input_len,tpot_ms\n{cells}\nb,2,3,4\n")
    assert code_of(bad) == code
    assert good == PlanCase("b", tp=2, input_len=3, tpot_ms=4.0)


def test_batch_and_concurrency_exclude_each_other() -> None:
    assert code_of(case_from({"model": "a", "batch": 1, "concurrency": 2}, {})) == (
        "batch-and-concurrency"
    )


def test_a_case_of_numbers_is_checked_like_one_of_texts() -> None:
    assert case_from({"model": "a", "tp": 2, "ttft_ms": 5}, {}) == PlanCase("a", tp=2, ttft_ms=5.0)
    assert code_of(case_from({"model": "a", "tp": float("nan")}, {})) == "bad-value"
    assert code_of(case_from({"model": float("nan")}, {})) == "bad-value"
    assert code_of(case_from({"model": "a", "tensor": 1}, {})) == "unknown-column"
    assert code_of(case_from({}, {})) == "no-model"


@given(st.text(max_size=200))
def test_any_text_is_cases_or_an_error(tmp_path_factory: Any, text: str) -> None:
    file = tmp_path_factory.mktemp("any") / "cases.csv"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        cases = read_cases(file, {"model": "m"})
    except RoofprobeError:
        return
    assert all(isinstance(case, PlanCase | BadCase) for case in cases)


@given(st.dictionaries(st.sampled_from(COLUMNS), st.one_of(st.text(), st.floats(), st.integers())))
def test_any_values_are_a_case_or_a_bad_one(values: dict[str, Any]) -> None:
    assert isinstance(case_from(values, {}), PlanCase | BadCase)
