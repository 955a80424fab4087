"""Parts of a Markdown report, and how they are kept within what a forge accepts.

GitHub refuses an issue, a comment or a pull request of more than 65,536 characters (its answer is
quoted in https://github.com/PyGithub/PyGithub/issues/1906). What is read comes first and stays;
what is looked up goes first when there is too much, everywhere alike, and the report says what
went.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from roofprobe.reporting.markdown_text import escape, folded
from roofprobe.reporting.plain_text import listed

MOST_CHARACTERS: Final = 65_000  # leaves room for a line that whoever pastes it writes above
_MOST_NAMES: Final = 12


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its text, and unless it must stay its ``name`` and how early it goes.

    Parts of the highest ``rank`` go first; rank 0 stays.
    """

    text: str
    name: str = ""
    rank: int = 0


def lookup(name: str, bodies: Sequence[str], rank: int) -> Part:
    """Return a part that is folded away under its name."""
    return Part(folded(escape(name), "\n\n".join(bodies)), name, rank)


def opened(name: str, bodies: Sequence[str], rank: int = 0, level: int = 3) -> Part:
    """Return a part that is read at once, under its heading."""
    return Part("\n\n".join([f"{'#' * level} {escape(name)}", *bodies]), name, rank)


def joined(parts: Sequence[Part], most: int = MOST_CHARACTERS) -> str:
    """Join parts; where that is more than ``most`` characters, leave out what is looked up.

    All parts of one name go together, so that devices stay comparable.
    """
    kept = [part for part in parts if part.text]
    gone: list[str] = []
    while (text := _text(kept, gone)) and len(text) > most:
        highest = max(part.rank for part in kept)
        if highest == 0:
            return _cut(text, most)
        # of equals the one that takes most room
        sizes: dict[str, int] = {}
        for part in kept:
            if part.rank == highest:
                sizes[part.name] = sizes.get(part.name, 0) + len(part.text)
        name = max(sizes, key=sizes.__getitem__)
        gone.append(name)
        kept = [part for part in kept if (part.rank, part.name) != (highest, name)]
    return text


def _text(parts: Sequence[Part], gone: Sequence[str]) -> str:
    texts = [part.text for part in parts]
    if gone:
        names = listed(tuple(escape(name) for name in dict.fromkeys(gone)), _MOST_NAMES)
        texts.append(f"*Left out for length, and in report.html: {names}.*")
    return "\n\n".join(texts) + "\n"


def _cut(text: str, most: int) -> str:
    """Cut a text that is too long without anything to leave out, between two lines."""
    end = "\n\n*The rest was cut for length; report.html has it all.*\n"
    return text[: text.rfind("\n", 0, most - len(end))].rstrip() + end
