from collections import Counter

import pytest

from roofprobe.peaks.catalogue import load
from roofprobe.peaks.founding_notes import (
    FoundingCell,
    FoundingColumn,
    founding_column_of,
    founding_columns,
)
from roofprobe.peaks.precisions import PEAK_TITLES

COLUMNS = founding_columns()


def test_the_ten_columns_and_fourteen_rows_are_there() -> None:
    assert list(COLUMNS) == [
        "T4",
        "A100",
        "A800",
        "L20",
        "H20 96G",
        "H20 141G",
        "H200",
        "910B",
        "910C(A+K)",
        "910C(X+X)",
    ]
    assert all(len(column.cells) == 14 for column in COLUMNS.values())


@pytest.mark.parametrize(
    ("column", "row", "verbatim"),
    [
        ("T4", "上市时间", "2018-09"),
        ("T4", "FP16(TFLOPS)", "16.2"),
        ("T4", "GPU显存带宽(GB/s)", "300"),
        ("A100", "TF32 Tensor Core(TFLOPS)", "156/312*"),
        ("A100", "INT4(TOPS)", "-"),
        ("A800", "FP64 Tensor Core(TFLOPS)", "19.5"),
        ("L20", "FP8 Tensor Core(TFLOPS)", "238"),
        ("L20", "FP32(TFLOPS)", "59.6"),
        ("H20 96G", "FP32(TFLOPS)", "39.5"),
        ("H20 141G", "GPU显存(GB)", "141"),
        ("H200", "BFloat16 Tensor Core(TFLOPS)", "989/1979*"),
        ("H200", "FP8 Tensor Core(TFLOPS)", "1979/3958*"),
        ("910B", "FP16(TFLOPS)", "376"),
        ("910B", "GPU显存(GB)", "96"),
        ("910C(A+K)", "FP32(TFLOPS)", "192"),
        ("910C(X+X)", "GPU显存带宽(GB/s)", "3200"),
    ],
)
def test_cells_are_verbatim(column: str, row: str, verbatim: str) -> None:
    assert COLUMNS[column].cell(row).verbatim == verbatim


def test_whole_columns_are_verbatim() -> None:
    def cells(title: str) -> list[str]:
        return [cell.verbatim for cell in COLUMNS[title].cells]

    h20 = "2023-11 - - 39.5 74 - 148 148 296 296 - 96 HBM3 4000"
    ascend = "2023 - - 96 - 376 - - - - - 96 HBM2e 1600"
    h200 = "2024 34 67 67 494/989* - 989/1979* 989/1979* 1979/3958* 1979/3958* - 141 HBM3e 4800"
    assert cells("H20 96G") == h20.split()
    assert cells("910B") == ascend.split()
    assert cells("H200") == h200.split()
    assert cells("910C(A+K)") == cells("910C(X+X)")


def test_columns_and_rows_of_the_catalogue_point_at_each_other() -> None:
    for column in COLUMNS.values():
        assert load()[column.accelerator_key].founding_column == column.title
        assert founding_column_of(column.accelerator_key) == column
    assert sum(row.founding_column is not None for row in load()) == 10
    assert founding_column_of("nvidia_l4") is None


def test_verdicts_counted() -> None:
    verdicts = Counter(cell.verdict for column in COLUMNS.values() for cell in column.cells)
    assert verdicts == {
        "same": 63,
        "same-rounded": 5,
        "same-coarser": 2,
        "differs": 12,
        "unconfirmed": 9,
        "notes-blank": 13,
        "both-blank": 36,
    }


def catalogue_value(column: FoundingColumn, cell: FoundingCell) -> float | str | None:
    row = load()[column.accelerator_key]
    if cell.field in PEAK_TITLES:
        return row.dense.get(cell.field)
    value: float | str | None = getattr(row, cell.field)
    return value


@pytest.mark.parametrize("column", COLUMNS.values(), ids=lambda column: column.title)
def test_each_verdict_follows_from_the_two_values(column: FoundingColumn) -> None:
    for cell in column.cells:
        ours = catalogue_value(column, cell)
        text = cell.verbatim.split("/")[0]
        theirs: float | str = text
        if isinstance(ours, int | float) and text != "-":
            theirs = float(text)
        match cell.verdict:
            case "same":
                assert theirs == ours
                assert_sparse_agrees(column, cell)
            case "same-rounded":
                assert isinstance(ours, int | float)
                assert isinstance(theirs, float)
                assert ours == pytest.approx(theirs, rel=0.005)
                assert ours != theirs
            case "same-coarser":
                assert str(ours).startswith(text) or text.startswith(str(ours))
            case "differs":
                assert ours is not None
                assert theirs != ours
            case "unconfirmed":
                assert ours is None
                assert text != "-"
            case "notes-blank":
                assert ours is not None
                assert text == "-"
            case _:
                assert ours is None
                assert text == "-"
        if cell.verdict in ("differs", "unconfirmed"):
            assert cell.remark


def assert_sparse_agrees(column: FoundingColumn, cell: FoundingCell) -> None:
    sparse = load()[column.accelerator_key].sparse.get(cell.field)
    if "/" in cell.verbatim and sparse is not None:
        assert cell.verbatim.split("/")[1] == f"{sparse:g}*"


def test_an_unknown_row_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        COLUMNS["T4"].cell("colour")
