"""Sentences that differ in their figures only, told as one that is true of all of them.

``up to 3% of the bytes`` and ``up to 12% of the bytes`` become ``up to 3–12% of the bytes``. Other
words are another sentence. A figure inside a word (a shape, a version) has no range.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

_FIGURE: Final = re.compile(r"\d(?:[\d.,]*\d)?")
_ALONE: Final = re.compile(r"(?<![\w.\-])\d(?:[\d.,]*\d)?(?![\w\-])")


def figureless(sentence: str) -> str:
    """Return a sentence without its figures, so that those that say the same are one."""
    return _FIGURE.sub("#", sentence)


def ranged(sentences: Sequence[str]) -> str | None:
    """Return sentences that are alike but for figures as one, with the ranges of those that differ.

    None where the figures that differ are parts of words, which have no range, or the words differ.
    """
    alike = list(dict.fromkeys(sentences))
    if len(alike) == 1:
        return alike[0]
    if len({figureless(sentence) for sentence in alike}) > 1:
        return None
    told, end = [], 0
    found = [list(_FIGURE.finditer(sentence)) for sentence in alike]
    for place in zip(*found, strict=True):
        first = place[0]
        told.append(alike[0][end : first.start()])
        end = first.end()
        texts = dict.fromkeys(figure.group() for figure in place)
        if len(texts) == 1:
            told.append(first.group())
            continue
        values = {value: text for text in texts if (value := _value(text)) is not None}
        if len(values) < len(texts) or not all(_stands_alone(figure) for figure in place):
            return None
        told.append(f"{values[min(values)]}–{values[max(values)]}")
    return "".join([*told, alike[0][end:]])


def told_of_all(sentences: Sequence[str]) -> str:
    """Return one sentence for all: with ranges, or the first, said to be of the first alone."""
    found = ranged(sentences)
    if found is not None:
        return found
    others = len(set(sentences)) - 1
    return f"{sentences[0]} (so of the first; {others} more with other figures)"


def _value(text: str) -> float | None:
    try:
        return float(text.replace(",", ""))
    except ValueError:
        return None


def _stands_alone(figure: re.Match[str]) -> bool:
    return _ALONE.match(figure.string, figure.start()) is not None
