"""docs/founding-notes.md: every figure in it is computed again, and none stands unchecked."""

from __future__ import annotations

import doctest
import math
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from roofprobe.costmodel import founding_notes as notes
from roofprobe.costmodel.memory import UTILISATION
from roofprobe.reporting.founding_tables import BLOCKS, blocks_of, computed, main

DOCUMENT = Path(__file__).parents[2] / "docs" / "founding-notes.md"
TEXT = DOCUMENT.read_text(encoding="utf-8")
NUMBER = re.compile(r"(?<![\w.])\d[\d,]*(?:\.\d+)?(?!\w)")
# Figures of the prose that stand in no table: the share of memory that engines take, a card's
# capacity as printed and in decimal bytes.
NO_FIGURES = {f"{UTILISATION}", "80", f"{80 * 2**30 / 1e9:.1f}"}


def without_code(text: str) -> str:
    """Return the prose: no computed blocks, code, links or citations."""
    text = re.sub(r"<!-- computed: .*?<!-- end -->", "", text, flags=re.DOTALL)
    text = re.sub(r"Place: [^\s.,:]+( \d\b)?", "", text)
    text = re.sub(r"```.*?```", "", text, flags=re.DOTALL)
    text = re.sub(r"^ {4}\S.*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\(arXiv[^)]*\)|`[^`]*`|\]\([^)]*\)", "", text)
    return text


def values_of(thing: Any) -> Iterator[float]:
    """Yield every number in the notes' data."""
    if isinstance(thing, bool | str):
        return
    if isinstance(thing, int | float):
        yield float(thing)
    elif is_dataclass(thing) and not isinstance(thing, type):
        for field in fields(thing):
            yield from values_of(getattr(thing, field.name))
    elif isinstance(thing, dict):
        yield from values_of(list(thing.values()))
    elif isinstance(thing, list | tuple):
        for one in thing:
            yield from values_of(one)


def number(text: str) -> float:
    return float(text.replace(",", "").rstrip("."))


def same(shown: str, now: str) -> bool:
    """Whether two numbers are the same but for rounding or 1 %."""
    decimals = len(shown.partition(".")[2])
    apart = abs(number(shown) - number(now))
    return math.isclose(number(shown), number(now), rel_tol=0.01) or apart <= 1.01 * 10**-decimals


def is_known(shown: str, known: set[float]) -> bool:
    """Whether a number of the prose is a known one, perhaps rounded."""
    decimals = len(shown.partition(".")[2])
    return any(round(one, decimals) == number(shown) for one in known)


def test_the_document_holds_every_table_once() -> None:
    names = re.findall(r"<!-- computed: ([\w-]+) -->", TEXT)
    assert sorted(names) == sorted(BLOCKS)
    assert set(blocks_of(TEXT)) == set(BLOCKS)


@pytest.mark.parametrize("name", sorted(BLOCKS))
def test_each_table_is_what_the_model_gives(name: str) -> None:
    shown, now = blocks_of(TEXT)[name].strip(), BLOCKS[name]()
    again = "run python -m roofprobe.reporting.founding_tables docs/founding-notes.md"
    assert NUMBER.sub("#", shown) == NUMBER.sub("#", now), again
    pairs = list(zip(NUMBER.findall(shown), NUMBER.findall(now), strict=True))
    assert [(a, b) for a, b in pairs if not same(a, b)] == [], again


def test_a_wrong_figure_is_seen() -> None:
    assert same("0.58", "0.579")
    assert same("1,915", "1,916")
    assert not same("0.58", "0.61")
    assert not same("953", "1000")


def test_writing_the_document_again_changes_only_its_tables(tmp_path: Path) -> None:
    copy = tmp_path / "copy.md"
    copy.write_text("before 1\n<!-- computed: memory-rules -->\nold\n<!-- end -->\nafter 2\n")
    main([str(copy)])
    text = copy.read_text()
    assert text.startswith("before 1\n")
    assert text.endswith("after 2\n")
    assert "old" not in text
    assert computed(text) == text


@pytest.mark.parametrize("section", re.split(r"^## ", TEXT, flags=re.MULTILINE))
def test_prose_has_no_figure_that_is_neither_the_notes_nor_in_a_table_of_its_section(
    section: str,
) -> None:
    known = {number(one) for one in NUMBER.findall(" ".join(blocks_of(section).values()))}
    for name, value in vars(notes).items():
        if name.isupper():
            known |= set(values_of(value))
    said = set(NUMBER.findall(without_code(section))) - NO_FIGURES
    assert {one for one in said if not is_known(one, known)} == set()


def test_every_place_in_the_notes_is_named() -> None:
    places = [value for name, value in vars(notes).items() if name.endswith("PLACE")]
    assert len(places) == 8
    assert [place for place in places if place.partition(" (")[0] not in TEXT] == []


def test_the_examples_run() -> None:
    parser, found = doctest.DocTestParser(), []
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        found.append(parser.get_doctest(block, {}, "founding-notes", str(DOCUMENT), 0))
    assert [test for test in found if test.examples] == found != []
    runner = doctest.DocTestRunner()
    for test in found:
        runner.run(test)
    assert runner.summarize(verbose=False).failed == 0
