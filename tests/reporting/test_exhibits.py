"""The parts of a page together: in order, in every renderer, small, and safe with hostile names."""

from __future__ import annotations

import re

from roofprobe.records.schema import Run
from roofprobe.reporting.beside import Beside
from roofprobe.reporting.exhibits import brief_tables
from roofprobe.reporting.html import to_html
from roofprobe.reporting.markdown import to_markdown

MOST_SVG_BYTES = 25_000


def titles(page: str) -> list[str]:
    return re.findall(r"<h3[^>]*>(.*?)</h3>", page)


def test_a_page_shows_the_parts_about_language_models_in_order(served: tuple[Run, Beside]) -> None:
    shown = titles(to_html(*served))
    wanted = [
        "Language-model operations on the roofline",
        "Prefill and decode of llama-3.1-8b, predicted",
        "Predictions against a real model",
        "What fits",
    ]
    assert [title for title in shown if title in wanted] == wanted


def test_what_needs_no_calibration_is_shown_without_one(served: tuple[Run, Beside]) -> None:
    shown = titles(to_html(served[0]))
    assert "What fits" in shown
    assert "Predictions against a real model" not in shown
    assert not any(title.startswith("Prefill and decode") for title in shown)


def test_figures_are_small_and_each_has_its_words(served: tuple[Run, Beside]) -> None:
    figures = re.findall(r"<svg.*?</svg>", to_html(*served), re.DOTALL)
    assert len(figures) >= 6
    for figure in figures:
        assert len(figure) < MOST_SVG_BYTES
        label = re.search(r'aria-label="([^"]*)"', figure)
        assert label is not None
        assert len(label[1]) > 40


def test_the_same_run_gives_the_same_page(served: tuple[Run, Beside]) -> None:
    assert to_html(*served) == to_html(*served)


def test_markdown_has_the_short_tables(served: tuple[Run, Beside]) -> None:
    run, beside = served
    text = to_markdown(run, beside)
    tables = brief_tables(run, run.devices[0].device_id, beside)
    assert len(tables) == 3
    for table in tables:
        assert table.title in text
    assert "| interactive | 500 ms | 30 ms |" in text


def test_hostile_names_stay_text(hostile_served: tuple[Run, Beside]) -> None:
    run, beside = hostile_served
    page, text = to_html(run, beside), to_markdown(run, beside)
    assert "<script>alert(1)</script>" not in page
    assert not any(sign in page + text for sign in "\x1b\x07\u202e")
    assert "Predictions against a real model" in titles(page)
