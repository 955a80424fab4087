"""The contents of a page: every part gets an id as it is written, and lists link to all of them.

Ids are made of the titles, so that a link to a part of a report still leads there in the next one.
"""

from __future__ import annotations

import re

_LONGEST = 40


class Contents:
    """Collects parts by the part that they belong to; the page's own belong to ``""``."""

    def __init__(self) -> None:
        """Begin without a part."""
        self._parts: dict[str, list[tuple[str, str]]] = {}
        self._taken: set[str] = set()

    def add(self, owner: str, title: str, key: str = "") -> str:
        """Note a part of ``owner`` and return its id: ``key``, or made of owner and title."""
        words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:_LONGEST].strip("-")
        plain = key or "-".join(part for part in (owner, words) if part) or "part"
        found, number = plain, 1
        while found in self._taken:
            number += 1
            found = f"{plain}-{number}"
        self._taken.add(found)
        self._parts.setdefault(owner, []).append((found, title))
        return found

    def of(self, owner: str = "") -> tuple[tuple[str, str], ...]:
        """Return ids and titles of the parts of ``owner``, in their order on the page."""
        return tuple(self._parts.get(owner, ()))
