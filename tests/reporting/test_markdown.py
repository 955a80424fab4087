import os
import re
from pathlib import Path

import pytest

from roofprobe.records.schema import Run
from roofprobe.reporting.markdown import code, escape, opening, to_markdown

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("name", ["example_run", "incomplete_run", "empty_run"])
def test_the_report_is_the_golden_one(name: str, request: pytest.FixtureRequest) -> None:
    text = to_markdown(request.getfixturevalue(name))
    golden = GOLDEN / f"{name}.md"
    if os.environ.get("ROOFPROBE_GOLDEN") == "write":
        golden.write_text(text, encoding="utf-8")
    assert text == golden.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("<b>&amp;", "&lt;b&gt;&amp;amp;"),
        ("a|b `c` *d* [e](f)", "a\\|b \\`c\\` \\*d\\* \\[e\\](f)"),
        ("snake_case_name _x_", "snake_case_name \\_x\\_"),
        ("back\\slash $m$ ~~s~~ # h", "back\\\\slash \\$m\\$ \\~\\~s\\~\\~ \\# h"),
    ],
)
def test_markup_in_text_is_shown_as_text(text: str, escaped: str) -> None:
    assert escape(text) == escaped


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("- a", "\\- a"),
        ("1. a", "1\\. a"),
        ("12) a", "12\\) a"),
        ("1 a", "1 a"),
        ("a - b", "a - b"),
    ],
)
def test_text_at_the_start_of_a_line_begins_no_list(text: str, escaped: str) -> None:
    assert opening(text) == escaped


@pytest.mark.parametrize(
    ("text", "span"),
    [("a", "`a`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("``", "``` `` ```"), ("–", "–")],
)
def test_a_code_span_holds_backticks(text: str, span: str) -> None:
    assert code(text) == span


def test_hostile_text_breaks_no_table(hostile_run: Run) -> None:
    text = to_markdown(hostile_run)
    tables = re.findall(r"(?:^\|.*\n)+", text, flags=re.MULTILINE)
    assert tables
    for table in tables:
        cells = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines()}
        assert len(cells) == 1


def test_hostile_text_brings_no_html_outside_code(hostile_run: Run) -> None:
    text = re.sub(r"(`+)(?!`).*?(?<!`)\1(?!`)", "", to_markdown(hostile_run))
    assert set(re.findall(r"<[^>]*>", text)) == {
        "<details>",
        "</details>",
        "<summary>",
        "</summary>",
    }
