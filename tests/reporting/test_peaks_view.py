import dataclasses
import io
import json

import pytest
from rich.cells import cell_len
from rich.console import Console

from roofprobe.peaks.accelerator import Accelerator, Conflict, ConflictValue
from roofprobe.peaks.catalogue import load
from roofprobe.peaks.find import find
from roofprobe.reporting.peaks_view import (
    accelerator_json,
    catalogue_json,
    render_accelerator,
    render_catalogue,
)

ROWS = list(load())


def console(width: int = 80) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=False, color_system=None)


def text_of(out: Console) -> str:
    assert isinstance(out.file, io.StringIO)
    return out.file.getvalue()


def detail(row: Accelerator, width: int = 80) -> str:
    out = console(width)
    render_accelerator(out, row)
    return text_of(out)


def test_the_list_shows_every_accelerator_in_80_columns() -> None:
    out = console()
    render_catalogue(out)
    text = text_of(out)
    flat = " ".join(text.split())
    for name in ("H100 SXM5 80GB", "H20 141GB", "Instinct MI300X", "Gaudi 3", "910C (X+X)"):
        assert name in flat
    assert "54 accelerators." in text
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert "…" not in text
    assert text.index("V100 SXM2 16GB") < text.index("H100 SXM5") < text.index("Instinct MI210")


def test_the_list_leaves_unknown_cells_empty() -> None:
    out = console()
    render_catalogue(out)
    (line,) = [each for each in text_of(out).splitlines() if "H800 PCIe" in each]
    assert line.split() == ["H800", "PCIe", "80GB", "80", "GB", "HBM2e", "2040"]
    assert "None" not in text_of(out)
    assert "inf" not in text_of(out).casefold().replace("infinity", "")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.key)
def test_each_accelerator_renders_in_80_columns_and_as_json(row: Accelerator) -> None:
    text = detail(row)
    assert max(cell_len(line) for line in text.splitlines()) <= 80
    assert row.key in text
    assert "None" not in text
    data = accelerator_json(row)
    assert json.loads(json.dumps(data, allow_nan=False)) == data
    used = {key for keys in data["value_sources"].values() for key in keys}
    assert used <= set(data["sources"])


def test_detail_shows_residual_conflict_and_founding_notes() -> None:
    text = " ".join(detail(find("H20 96G")).split())
    assert "FP32 vector 44 39.54 -10.1% indep." in text
    assert "BF16 tensor 148 146.2 -1.2% fitted" in text
    assert "44 would need 2203 MHz" in text
    assert "Conflicts between sources" in text
    assert "Founding notes, column H20 96G" in text
    assert "DIFFERS" in text


def test_detail_shows_dense_beside_sparse_and_the_memory_arithmetic() -> None:
    text = " ".join(detail(find("H200")).split())
    assert "BF16 tensor 989.5 1979 989.4 -0.0%" in text
    assert "(1593 MHz x 4 x 6144 bit / 8 = 4893.7 GB/s, +2.0%)" in text
    assert "rounded down" in text


def test_detail_without_any_peak_says_so() -> None:
    text = detail(load()["nvidia_gb300"])
    assert "not checked, no unit count or clock." in text
    nothing = dataclasses.replace(load()["nvidia_gb300"], dense={}, sparse={})
    assert "No peak is published for it" in detail(nothing)


def test_hostile_text_is_printed_as_text() -> None:
    hostile = "[red]x[/red] \x1b[31m\u202e"
    row = dataclasses.replace(
        load()["nvidia_t4"],
        name=hostile,
        driver_names=(hostile,),
        conflicts=(Conflict("fp32", (ConflictValue(hostile, ("nv-t4",)),), hostile),),
    )
    text = detail(row, width=200)
    assert text.count("[red]x[/red]") == 4
    assert "\x1b" not in text
    assert "\u202e" not in text


def test_the_list_as_json() -> None:
    data = json.loads(json.dumps(catalogue_json(), allow_nan=False))
    rows = {row["key"]: row for row in data["accelerators"]}
    assert len(rows) == 54
    assert rows["nvidia_h100_sxm5_80gb"]["dense_peaks"]["bf16"] == 989.4
    assert rows["nvidia_h800_pcie_80gb"]["dense_peaks"] == {}
    assert "mxfp8" not in rows["nvidia_h100_sxm5_80gb"]["dense_peaks"]


def test_the_detail_as_json() -> None:
    data = accelerator_json(find("H20 96G"))
    fp32 = next(peak for peak in data["peaks"] if peak["key"] == "fp32")
    assert fp32["dense"] == 44
    assert fp32["derived"] == pytest.approx(39.54, abs=0.01)
    assert fp32["rate_basis"] == "independent"
    assert fp32["residual"] == pytest.approx(-0.10144, abs=1e-5)
    assert data["founding_notes"]["column"] == "H20 96G"
    cells = {cell["row"]: cell for cell in data["founding_notes"]["cells"]}
    assert cells["FP32(TFLOPS)"]["notes"] == "39.5"
    assert cells["FP32(TFLOPS)"]["catalogue"] == 44
    assert data["headline_keys"]["fp16"] == "fp16_tensor"
    assert accelerator_json(find("L4"))["founding_notes"] is None
