"""The document of checks is what the tables say, and has a line for each."""

from __future__ import annotations

from pathlib import Path

import pytest

from roofprobe.acceptance.bands import load_bands
from roofprobe.acceptance.checks import CHECKS
from roofprobe.reporting.checks_doc import document

DOCUMENT = Path(__file__).parents[2] / "docs" / "checks.md"


def test_the_document_is_up_to_date() -> None:
    assert DOCUMENT.read_text(encoding="utf-8") == document(), (
        "write it anew: python -m roofprobe.reporting.checks_doc docs/checks.md"
    )


@pytest.mark.parametrize("code", CHECKS)
def test_each_check_has_one_line(code: str) -> None:
    assert document().count(f"| `{code}` |") == 1


def test_each_band_has_a_line_of_as_many_cells_as_its_table() -> None:
    lines = document().splitlines()
    rows = [line for line in lines[lines.index("## Bands") :] if line.startswith("| ")]
    assert len(rows) == 3 + len(load_bands().compute) + len(load_bands().memory) + len(
        load_bands().nvlink
    )
    assert {line.replace("\\|", "").count("|") for line in rows} == {6, 4}
