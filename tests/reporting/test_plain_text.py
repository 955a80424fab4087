import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.reporting.plain_text import (
    as_sentence,
    clean,
    in_encoding,
    listed,
    shorten,
    with_remedy,
)


def test_control_and_invisible_characters_become_visible() -> None:
    assert clean("a\x1b[31m b\x07\u202ec\ud800") == "a\\x1b[31m b\\x07\\u202ec\\ud800"


def test_line_breaks_become_spaces() -> None:
    assert clean("one\r\n two\tthree") == "one two three"


def test_ordinary_text_of_any_script_is_kept() -> None:
    assert clean("Gerät 设备 <b>") == "Gerät 设备 <b>"


@given(st.text(st.characters()))
def test_cleaned_text_can_always_be_written_and_stays_as_it_is(text: str) -> None:
    once = clean(text)
    once.encode()
    assert clean(once) == once
    assert not any(ord(character) < 32 or ord(character) == 127 for character in once)


@pytest.mark.parametrize(
    ("encoding", "text"),
    [
        ("utf-8", "p10–p90 ±1% · 2×3 设"),
        ("ascii", "p10-p90 +-1% | 2x3 ?"),
        ("latin-1", "p10-p90 +-1% | 2x3 ?"),
        ("no-such-encoding", "p10-p90 +-1% | 2x3 ?"),
    ],
)
def test_signs_that_cannot_be_written_get_a_stand_in(encoding: str, text: str) -> None:
    assert in_encoding("p10–p90 ±1% · 2×3 设", encoding) == text


def test_long_text_and_long_lists_are_cut_visibly() -> None:
    assert shorten("abcdef", 4) == "abc…"
    assert listed(("a", "b", "c"), 2) == "a, b and 1 more"


@pytest.mark.parametrize(
    ("sentence", "remedy", "told"),
    [
        ("It failed", "try again", "It failed. Try again"),
        ("It failed.", "Try again.", "It failed. Try again."),
        ("It failed", None, "It failed"),
        ("It failed", "", "It failed"),
    ],
)
def test_a_remedy_is_a_sentence_of_its_own(sentence: str, remedy: str | None, told: str) -> None:
    assert with_remedy(sentence, remedy) == told


@pytest.mark.parametrize(
    ("remedy", "told"),
    [
        ("probe check RUN --against EARLIER_RUN", "probe check RUN --against EARLIER_RUN"),
        ("nvidia-smi --persistence-mode=1, as root", "nvidia-smi --persistence-mode=1, as root"),
        ("`probe doctor` says why", "`probe doctor` says why"),
        ("repeat; it may pass", "Repeat; it may pass"),
        ("", ""),
    ],
)
def test_a_remedy_begins_with_a_capital_unless_it_begins_with_a_command(
    remedy: str, told: str
) -> None:
    assert as_sentence(remedy) == told
