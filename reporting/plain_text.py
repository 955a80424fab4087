"""Text that came from a device, a driver or a file, made safe to show.

A device name or an error text may hold anything: terminal escapes, direction overrides, lone
surrogates. ``clean`` turns such characters into visible escapes, so that every renderer gets text
that is only text; what Markdown or HTML would read as markup is escaped by those renderers.
"""

from __future__ import annotations

import re

from roofprobe.records.errors import visible

_ASCII = str.maketrans(
    {
        "–": "-",
        "—": "-",
        "−": "-",
        "·": "|",
        "×": "x",
        "±": "+-",
        "…": "...",
        "†": "*",
        "≤": "<=",
        "≥": ">=",
        "→": "->",
        "²": "^2",
        "³": "^3",
        "µ": "u",
        "°": "",
        "’": "'",
        "“": '"',
        "”": '"',
    }
)

# Commands whose names are words; other names (nvidia-smi) have signs in them that words have not.
_COMMANDS = frozenset(
    {"docker", "dmesg", "echo", "export", "modprobe", "numactl", "pip", "probe", "python", "sudo",
     "sysctl", "systemctl", "ulimit", "unset"}
)  # fmt: skip


def clean(text: str) -> str:
    """Return ``text`` on one line, with control and invisible characters as visible escapes."""
    return visible(" ".join(text.split()))


def in_encoding(text: str, encoding: str) -> str:
    """Return ``text`` with what ``encoding`` cannot write replaced by its nearest ASCII."""
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return text.translate(_ASCII).encode(encoding, "replace").decode(encoding)
    except LookupError:
        return text.translate(_ASCII).encode("ascii", "replace").decode("ascii")
    return text


def nearest_ascii(error: UnicodeError) -> tuple[str, int]:
    """Handle what an encoding cannot write, as ``codecs.register_error`` asks: nearest ASCII.

    Raises ``error`` where it is not about writing.
    """
    if not isinstance(error, UnicodeEncodeError):
        raise error
    signs = error.object[error.start : error.end].translate(_ASCII)
    return signs.encode("ascii", "replace").decode("ascii"), error.end


def shorten(text: str, width: int) -> str:
    """Return ``text`` cut to ``width`` characters, with an ellipsis where something was cut."""
    return text if len(text) <= width else text[: width - 1] + "…"


def listed(labels: tuple[str, ...], most: int) -> str:
    """Join labels with commas; beyond ``most`` of them only their number is told."""
    if len(labels) <= most:
        return ", ".join(labels)
    return f"{', '.join(labels[:most])} and {len(labels) - most} more"


def code_spans(text: str) -> list[str]:
    """Return the parts of a sentence: words and, at odd places, what stands in single backticks."""
    return re.split(r"(?<!`)`([^`]+)`(?!`)", text)


def with_remedy(sentence: str, remedy: str | None) -> str:
    """Return what is wrong and what to do about it as two sentences, however they were written."""
    if not remedy:
        return sentence
    stop = "" if sentence.endswith((".", "!", "?", ":")) else "."
    return f"{sentence}{stop} {as_sentence(remedy)}"


def as_sentence(remedy: str) -> str:
    """Return ``remedy`` with a capital at its start, unless it starts with a command to type."""
    first = remedy.partition(" ")[0].rstrip(",;:.")
    if first in _COMMANDS or not first.isalpha():
        return remedy
    return f"{remedy[:1].upper()}{remedy[1:]}"
