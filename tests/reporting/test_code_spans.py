"""What stands between backticks is code in every page, and all else of a sentence is text."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.records.schema import Run
from roofprobe.records.summaries import Listed
from roofprobe.reporting.html import to_html
from roofprobe.reporting.markdown import to_markdown
from roofprobe.reporting.pages.run_index import to_index
from roofprobe.reporting.pages.shell import prose
from roofprobe.reporting.pages.side_by_side import to_comparison

SENTENCE = "See `nvidia-smi -q <x>` & <b>"
SHOWN = "See <code>nvidia-smi -q &lt;x&gt;</code> &amp; &lt;b&gt;"
# The fields of a record that hold sentences, by name, wherever they are.
PROSE = {"sentence", "remedy", "basis", "fallback", "bound_source", "simulated"}


def told(value: Any, name: str = "") -> Any:
    """Return a record as data with `SENTENCE` in the place of every sentence that it has."""
    if isinstance(value, dict):
        return {key: told(each, key) for key, each in value.items()}
    if isinstance(value, list):
        return [told(each) for each in value]
    return SENTENCE if name in PROSE and isinstance(value, str) else value


@pytest.mark.parametrize("name", ["example_run", "judged_run", "compute_run", "incomplete_run"])
@pytest.mark.parametrize("simulated", [None, "made up"])
def test_no_page_of_a_run_shows_a_backtick(
    name: str, simulated: str | None, request: pytest.FixtureRequest
) -> None:
    run: Run = request.getfixturevalue(name).model_copy(update={"simulated": simulated})
    run = Run.model_validate(told(run.model_dump(mode="json")))
    for page in to_html(run), to_comparison([run, run], "probe compare a b"):
        assert "`" not in page
        assert "<x>" not in page
        assert "<b>" not in page
    assert SHOWN in to_html(run)
    assert "`nvidia-smi -q <x>`" in to_markdown(run)  # where it is a code span


def test_the_index_shows_the_command_that_mends_a_run_as_code() -> None:
    page = to_index([Listed(Path("out/a"), None, SENTENCE, has_report=False)], "out")
    assert f'<span class="problem">{SHOWN}</span>' in page


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("`<i>`", "<code>&lt;i&gt;</code>"),
        ("a `b` c `d`", "a <code>b</code> c <code>d</code>"),
        ("a lone ` is <text>", "a lone ` is &lt;text&gt;"),
        ("``two`` and ``", "``two`` and ``"),
        ("`open <b>`` `", "`open &lt;b&gt;`` `"),
        ("", ""),
    ],
)
def test_a_single_backtick_on_each_side_makes_code(text: str, shown: str) -> None:
    assert prose(text) == shown


@given(st.text(alphabet="`<>&\"'ab \\*", max_size=20))
def test_whatever_a_sentence_has_is_escaped_and_no_character_is_lost(text: str) -> None:
    shown = str(prose(text))
    assert not re.search(r"<(?!/?code>)", shown)
    assert shown.count("<code>") == shown.count("</code>")
    plain = shown.replace("<code>", "`").replace("</code>", "`")
    for sign, escaped in (("<", "&lt;"), (">", "&gt;"), ('"', "&#34;"), ("'", "&#39;")):
        plain = plain.replace(escaped, sign)
    assert plain.replace("&amp;", "&") == text
