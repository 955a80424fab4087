"""Plain text on a terminal: paragraphs, marks and packed lines, wrapped to the console's width.

Colour, width and encoding are the console's business; where it cannot write a sign, plain ASCII
stands in. No text is read as markup.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from roofprobe.records.schema import Judgement
from roofprobe.reporting.plain_text import clean, in_encoding

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

JUDGEMENT_STYLES: Final[dict[Judgement, str]] = {
    "pass": "green", "warn": "yellow", "fail": "bold red", "unknown": "magenta",
}  # fmt: skip
MARK_WIDTH: Final = 8


def cell_width(text: str) -> int:
    """Return how many columns ``text`` takes."""
    from rich.cells import cell_len

    return cell_len(text)


class Page:
    """Prints plain text to a console: no markup, no highlighting, signs that it can write."""

    def __init__(self, console: Console) -> None:
        """Print to ``console``."""
        self._console = console
        self._blank = True

    @property
    def width(self) -> int:
        """Return how many columns a line has."""
        return self._console.width

    def text(self, text: str) -> str:
        """Return ``text`` in signs of the console's encoding."""
        return in_encoding(text, self._console.encoding)

    def gap(self) -> None:
        """Leave one blank line, but none at the top and never two."""
        if not self._blank:
            self._console.print()
        self._blank = True

    def styled(self, text: object, *, soft_wrap: bool = False) -> None:
        """Print something that is already text of rich."""
        self._console.print(text, markup=False, highlight=False, emoji=False, soft_wrap=soft_wrap)
        self._blank = False

    def line(self, text: str, *, indent: int = 0, style: str = "", hang: int = 0) -> None:
        """Print one paragraph; lines that it breaks into are ``hang`` columns further in."""
        from rich.text import Text

        self._paragraph(Text(" " * indent), text, style, hang=hang)

    def packed(self, parts: Sequence[str], *, indent: int, style: str = "", hang: int = 0) -> None:
        """Print parts in a row, on further lines where needed, without breaking one if it fits.

        Lines after the first are ``hang`` columns further in.
        """
        lines: list[str] = []
        for part in map(self.text, parts):
            longer = f"{lines[-1]}{self.text(' · ')}{part}" if lines else ""
            deep = indent + (hang if len(lines) > 1 else 0)
            if lines and deep + cell_width(longer) <= self._console.width:
                lines[-1] = longer
            else:
                lines.append(part)
        for number, line in enumerate(lines):
            deeper = hang if number else 0
            self.line(line, indent=indent + deeper, style=style, hang=hang - deeper)

    def marked(self, mark: str, style: str, lines: Sequence[str]) -> None:
        """Print paragraphs with a coloured word before the first, all indented behind it."""
        from rich.text import Text

        for number, line in enumerate(lines):
            word = Text(self.text(mark) if number == 0 else "", style=style)
            word.pad_right(MARK_WIDTH - len(word))
            self._paragraph(word, line, "")

    def _paragraph(self, before: Text, text: str, style: str, *, hang: int = 0) -> None:
        from rich.text import Text

        words = Text(self.text(text), style=style)
        width = max(20, self._console.width - len(before))
        if cell_width(words.plain) > width:
            width = max(20, width - hang)
        for number, line in enumerate(words.wrap(self._console, width, overflow="fold")):
            line.rstrip()
            self.styled(before + line)
            if number == 0:
                before = Text(" " * (len(before) + hang))

    def labelled(self, label: str, word: str, style: str, rest: str) -> None:
        """Print one line in which one word has a colour."""
        from rich.text import Text

        text = Text.assemble((label, "bold"), " ", (word.upper(), style), self.text(rest))
        self.styled(text)

    def path(self, label: str, path: Path) -> None:
        """Print where a file is, on one line that can be copied whole."""
        from rich.text import Text

        self.styled(Text(self.text(f"{label}: {clean(str(path))}")), soft_wrap=True)
