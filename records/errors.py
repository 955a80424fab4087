"""Errors that a user can do something about: one sentence, a code, an exit code.

They are raised anywhere and caught once, by the command. Exit codes: 1 a check failed, 2 usage or
configuration, 3 unknown or incomplete.
"""

from __future__ import annotations

import unicodedata

# Categories of characters that steer a terminal, hide, or cannot be encoded.
INVISIBLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
_LONGEST = 2000


class RoofprobeError(Exception):
    """A problem with what was asked or with the host; the text says what, why and what to do.

    A sentence may quote paths and files, which may hold anything: what would steer a terminal or
    begin a new line is told as an escape, and a sentence ends somewhere.
    """

    def __init__(self, code: str, sentence: str, *, exit_code: int = 2) -> None:
        """Keep the stable ``code``, the ``sentence`` for the user and the exit code."""
        sentence = visible(sentence)
        if len(sentence) > _LONGEST:
            sentence = f"{sentence[:_LONGEST]}…"
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.exit_code = exit_code


def visible(text: str) -> str:
    """Return ``text`` with control and invisible characters as visible escapes."""
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode("ascii")
        if unicodedata.category(character) in INVISIBLE
        else character
        for character in text
    )
