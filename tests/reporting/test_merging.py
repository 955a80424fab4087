"""Sentences that differ in their figures are one, with ranges that hold of each of them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.reporting.merging import figureless, ranged, told_of_all


@pytest.mark.parametrize(
    ("sentences", "told"),
    [
        (("3% of 5", "12% of 5"), "3–12% of 5"),
        (("±2.5%; so", "±1.0%; so"), "±1.0–2.5%; so"),
        (("1,000 B of 9.", "200 B of 9."), "200–1,000 B of 9."),
        (("a 2x3", "a 4x3"), None),
        (("version 1.2.3", "version 1.3.0"), None),
        (("sm_89", "sm_90"), None),
        (("all of 3", "half of 3"), None),
        (("same", "same"), "same"),
    ],
)
def test_alike_sentences_are_told_with_ranges(sentences: tuple[str, ...], told: str | None) -> None:
    assert ranged(sentences) == told


def test_what_has_no_range_is_said_of_the_first_alone() -> None:
    told = told_of_all(["a 2x3", "a 4x3", "a 4x3", "a 5x3"])
    assert told == "a 2x3 (so of the first; 2 more with other figures)"


@given(st.lists(st.text("ab 1.,%x", max_size=12), min_size=1, max_size=4))
def test_any_sentences_can_be_merged_or_not(sentences: list[str]) -> None:
    told = ranged(sentences)
    assert told is None or len({figureless(s) for s in sentences}) == 1
