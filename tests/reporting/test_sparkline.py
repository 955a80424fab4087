"""Figures as one line of signs."""

from __future__ import annotations

from roofprobe.reporting.sparkline import sparkline


def test_signs_rise_with_the_values() -> None:
    assert sparkline([1, 2, 3, 4, 5, 6, 7, 8]) == "▁▂▃▄▅▆▇█"


def test_noise_of_a_percent_stays_level() -> None:
    assert set(sparkline([100, 100.3, 99.8, 100.1])) <= {"▄", "▅"}


def test_many_values_become_medians_of_groups() -> None:
    assert sparkline([1] * 500 + [2] * 500, width=10) == "▁" * 5 + "█" * 5


def test_an_encoding_without_blocks_gets_ascii() -> None:
    assert sparkline([1, 2], encoding="ascii") == "_#"
    assert sparkline([1, 2], encoding="no-such") == "_#"


def test_nothing_and_one_value_are_shown_too() -> None:
    assert sparkline([]) == ""
    assert len(sparkline([0.0])) == 1
