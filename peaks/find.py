"""Find a catalogue row by what a person types: "h200", "H20 96G", "T4", "910C(A+K)".

A person may be shorter than a driver, so here words count instead of whole names: every typed word
must be a word of the row's names, and the model ("h200", "4090") must be among them. Words are
compared whole, so "H20" never finds an H200. What fits several rows is asked back, not guessed.
"""

from __future__ import annotations

import difflib
import functools
from typing import Final

from roofprobe.peaks.accelerator import Accelerator
from roofprobe.peaks.catalogue import load
from roofprobe.peaks.names import shown, words

_CLOSEST: Final = 5
_LONGEST_QUERY: Final = 200


class UnknownAcceleratorError(LookupError):
    """No row, or more than one, has the name that was asked for; ``candidates`` are the closest."""

    def __init__(self, message: str, candidates: tuple[str, ...]) -> None:
        """Keep the sentence for people and up to five names that come closest."""
        super().__init__(message)
        self.candidates = candidates


def find(query: str) -> Accelerator:
    """The row that a query names; raises `UnknownAcceleratorError` if none or several do.

    Keys, names, driver names, aliases and the founding notes' column titles are tried as a whole,
    then as words in any order.
    """
    wanted = words(query[:_LONGEST_QUERY])
    whole = [row for row in load() if wanted and wanted in _whole_names(row)]
    if len(whole) == 1:
        return whole[0]
    rows = whole or [
        row
        for row in load()
        if _model(row) in wanted and set(wanted) <= {word for n in _whole_names(row) for word in n}
    ]
    if len(rows) == 1:
        return rows[0]
    if rows:
        names = tuple(row.name for row in rows)[:_CLOSEST]
        raise UnknownAcceleratorError(
            f"{shown(query)} may be {' or '.join(names)}: say which.", names
        )
    names = _closest(query[:_LONGEST_QUERY])
    advice = f"; the closest are {', '.join(names)}" if names else ""
    advice += "; `probe peaks` lists all"
    raise UnknownAcceleratorError(f"No accelerator is called {shown(query)}{advice}.", names)


@functools.cache
def _names_of(key: str) -> tuple[str, ...]:
    row = load()[key]
    column = (row.founding_column,) if row.founding_column else ()
    return (row.key, row.name, *row.driver_names, *row.aliases, *column)


def _whole_names(row: Accelerator) -> frozenset[tuple[str, ...]]:
    return _whole_names_of(row.key)


@functools.cache
def _whole_names_of(key: str) -> frozenset[tuple[str, ...]]:
    return frozenset(words(name) for name in _names_of(key))


def _model(row: Accelerator) -> str:
    """The word that names the model: the first one with a digit ("h100", "4090", "910b2")."""
    return _first_with_digit(words(row.name)) or row.key


def _first_with_digit(names: tuple[str, ...]) -> str:
    return next((word for word in names if any(c.isdigit() for c in word)), "")


def _closest(query: str) -> tuple[str, ...]:
    """Up to five names: first models that begin like the query, then similar spellings."""
    text = " ".join(words(query))
    model = _first_with_digit(words(query))
    begun = [
        row.name
        for row in load()
        if len(model) > 1 and (_model(row).startswith(model) or model.startswith(_model(row)))
    ]
    spelled = {" ".join(words(n)): row.name for row in load() for n in _names_of(row.key)}
    near = difflib.get_close_matches(text, spelled, n=4 * _CLOSEST, cutoff=0.4)
    return tuple(dict.fromkeys([*begun, *(spelled[n] for n in near)]))[:_CLOSEST]
