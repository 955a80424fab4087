"""Numbers with their nouns, for sentences of any room."""

from __future__ import annotations


def plural(count: int, noun: str) -> str:
    """Return ``1 case``, ``3 cases`` or ``1,250 cases``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def are(count: int, noun: str) -> str:
    """Return ``1 device is`` or ``3 devices are``."""
    return f"{plural(count, noun)} {'is' if count == 1 else 'are'}"
