import os
import re
from pathlib import Path

import pytest

from roofprobe.records.schema import Run
from roofprobe.reporting.markdown import to_markdown

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["example_run", "compute_run", "incomplete_run", "empty_run"])
def test_the_report_is_the_golden_one(name: str, request: pytest.FixtureRequest) -> None:
    text = to_markdown(request.getfixturevalue(name))
    golden = GOLDEN / f"{name}.md"
    if os.environ.get("ROOFPROBE_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["hostile_run", "hostile_compute_run"])
def test_hostile_text_breaks_no_table(name: str, request: pytest.FixtureRequest) -> None:
    text = to_markdown(request.getfixturevalue(name))
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert tables
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1


@pytest.mark.parametrize("name", ["hostile_run", "hostile_compute_run"])
def test_hostile_text_brings_no_html_outside_code(
    name: str, request: pytest.FixtureRequest
) -> None:
    shown = to_markdown(request.getfixturevalue(name))
    text = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", shown)
    assert set(re.findall(r"<[a-z/][^>]*>", text)) - {"<br>"} == {
        "<details>",
        "</details>",
        "<summary>",
        "</summary>",
    }


def test_a_sweep_is_one_matrix_and_a_search_one_line(compute_run: Run) -> None:
    text = to_markdown(compute_run)
    assert text.count("4096x14336") == 3  # the heads of three maps, and no case by itself
    assert text.count("halving") == 3  # two searches, and what was asked for
