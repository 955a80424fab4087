import pytest

from roofprobe.reporting.markdown_text import (
    code,
    escape,
    named,
    opening,
    opening_prose,
    prose,
    table,
)


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
    ("text", "shown"),
    [
        (
            "with `probe all --resume`, or <b>",
            "with `probe all --resume`, or &lt;b&gt;",
        ),
        ("`<b>|*x*`", "`<b>|*x*`"),
        ("one ` and *two*", "one \\` and \\*two\\*"),
        ("``a`` b", "\\`\\`a\\`\\` b"),
    ],
)
def test_a_sentence_keeps_its_code_spans_and_nothing_else(text: str, shown: str) -> None:
    assert prose(text) == shown


def test_a_sentence_at_the_start_of_a_line_begins_no_list() -> None:
    assert opening_prose("- `a`") == "\\- `a`"
    assert opening("a `b`") == "a \\`b\\`"  # a name


@pytest.mark.parametrize(
    ("text", "span"),
    [("a", "`a`"), ("a`b", "``a`b``"), ("`a", "`` `a ``"), ("``", "``` `` ```"), ("–", "–")],
)
def test_a_code_span_holds_backticks(text: str, span: str) -> None:
    assert code(text) == span


def test_a_row_is_named_once_where_title_and_label_are_the_same() -> None:
    assert named("copy fp32", "copy fp32") == "copy fp32"
    assert named("FP8, fast sums", "fp8-fast") == "FP8, fast sums `fp8-fast`"


def test_a_pipe_in_a_cell_parts_nothing() -> None:
    assert table(["a", "b"], [["`x|y`", "1"]], right=[1]) == (
        "| a | b |\n| --- | ---: |\n| `x\\|y` | 1 |"
    )
