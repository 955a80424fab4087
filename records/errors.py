"""Errors that a user can do something about: one sentence, a code, an exit code.

They are raised anywhere and caught once, by the command. Exit codes: 1 a check failed, 2 usage or
configuration, 3 unknown or incomplete.
"""

from __future__ import annotations


class RoofprobeError(Exception):
    """A problem with what was asked or with the host; the text says what, why and what to do."""

    def __init__(self, code: str, sentence: str, *, exit_code: int = 2) -> None:
        """Keep the stable ``code``, the ``sentence`` for the user and the exit code."""
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.exit_code = exit_code
