"""The pieces of GitHub's Markdown: text made safe, code spans, tables, folds."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from roofprobe.reporting.numbers import UNKNOWN
from roofprobe.reporting.plain_text import code_spans


def escape(text: str) -> str:
    """Return ``text`` so that Markdown and HTML show it as it is."""
    text = text.replace("\\", "\\\\").replace("&", "&amp;")
    text = text.replace("<", "&lt;").replace(">", "&gt;")
    text = re.sub(r"([`*\[\]|#~$])", r"\\\1", text)
    # an underscore inside a word marks nothing up
    return re.sub(r"(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])", r"\\_", text)


def prose(text: str) -> str:
    """Return a sentence escaped but for its code spans, whose text Markdown shows as it is."""
    return "".join(code(part) if n % 2 else escape(part) for n, part in enumerate(code_spans(text)))


def opening(text: str) -> str:
    """Return ``text`` escaped for the start of a line, where ``-`` or ``1.`` begin a list."""
    return _beginning_no_list(escape(text))


def opening_prose(text: str) -> str:
    """Return a sentence as `prose` for the start of a line."""
    return _beginning_no_list(prose(text))


def _beginning_no_list(text: str) -> str:
    return re.sub(r"^(\d*)([-+.)])", r"\1\\\2", text)


def code(text: str) -> str:
    """Return ``text`` as a code span."""
    if not text or text == UNKNOWN:
        return text
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * (longest + 1)
    space = " " if text[0] in "` " or text[-1] in "` " else ""
    return f"{fence}{space}{text}{space}{fence}"


def named(title: str, label: str) -> str:
    """Return a row's words and, where it differs, the name that the command line knows it by."""
    return escape(title) if title == label else f"{escape(title)} {code(label)}"


def folded(summary: str, body: str) -> str:
    """Return ``body`` folded away under ``summary``, which is HTML already."""
    return f"<details><summary>{summary}</summary>\n\n{body}\n\n</details>"


def table(head: Sequence[str], rows: Sequence[Sequence[str]], right: Iterable[int] = ()) -> str:
    """Return a table of cells that are Markdown already; ``right`` are columns of numbers."""
    to_right = set(right)
    rule = ["---:" if column in to_right else "---" for column in range(len(head))]
    # in a table a pipe parts cells even inside a code span
    cells = [[re.sub(r"(?<!\\)\|", r"\|", cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in [head, rule, *cells])
