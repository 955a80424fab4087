"""Reading fields of a config.json, whatever they hold: a size of the right kind, or one sentence.

A config is written by others; a field may be missing, null, text, negative, or absurdly large.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from roofprobe.peaks.names import shown
from roofprobe.records.errors import RoofprobeError

#: No published model comes near these; above them a config is a mistake and sums lose their sense.
LARGEST_SIZE: Final = 100_000_000
LARGEST_CONTEXT: Final = 1_000_000_000
MOST_LAYERS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Fields:
    """The fields of one config object.

    ``names`` maps our word for a size to the fields that may hold it, the usual one first;
    ``defaults`` are the values that the publisher's config class takes for absent fields;
    ``where`` begins each sentence.
    """

    config: Mapping[str, object]
    where: str
    names: Mapping[str, tuple[str, ...]]
    defaults: Mapping[str, object]

    def fail(self, problem: str) -> NoReturn:
        """Raise `RoofprobeError` with the sentence "<where>: <problem>."."""
        raise RoofprobeError("bad-model", f"{self.where}: {problem}.")

    def name(self, size: str) -> str:
        """The field that holds our word ``size``; an unlisted word is a field itself."""
        names = self.names.get(size, (size,))
        return next((name for name in names if self.config.get(name) is not None), names[0])

    def raw(self, size: str) -> object:
        """The value as it stands, else the default of the config class; null counts as absent."""
        field = self.name(size)
        value = self.config.get(field)
        return self.defaults.get(field) if value is None else value

    def whole(
        self, size: str, *, least: int = 1, most: int = LARGEST_SIZE, default: int | None = None
    ) -> int:
        """A whole number from ``least`` to ``most``; raises `RoofprobeError` if it is none."""
        value = self.optional(size, least=least, most=most)
        if value is None:
            value = default
        if value is None:
            self.fail(f"the field {self.name(size)!r} is missing, and nothing else says its size")
        return value

    def optional(self, size: str, *, least: int = 1, most: int = LARGEST_SIZE) -> int | None:
        """Like `whole`, but ``None`` where the field is absent or null."""
        value = self.raw(size)
        if value is None:
            return None
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        if not whole or isinstance(value, bool) or not least <= value <= most:  # type: ignore[operator]
            self.fail(
                f"{self.name(size)!r} is {shown(_text(value))}, but must be a whole number "
                f"from {least:,} to {most:,}"
            )
        return int(value)  # type: ignore[call-overload, no-any-return]

    def flag(self, rule: bool | str) -> bool:
        """The rule itself, or what the field that it names says (absent: false)."""
        if isinstance(rule, bool):
            return rule
        value = self.raw(rule)
        if value is None:
            return False
        if not isinstance(value, bool):
            self.fail(f"{rule!r} is {shown(_text(value))}, but must be true or false")
        return value

    def texts(self, field: str) -> tuple[str, ...]:
        """A list of texts; empty where the field is absent."""
        value = self.raw(field)
        if value is None:
            return ()
        if not isinstance(value, Sequence) or isinstance(value, str | bytes):
            self.fail(f"{field!r} is {shown(_text(value))}, but must be a list of texts")
        for item in value:
            if not isinstance(item, str):
                self.fail(f"{field!r} holds {shown(_text(item))}, but must be a list of texts")
        return tuple(value)

    def inner(self, field: str) -> Mapping[str, object] | None:
        """An object inside the config; ``None`` where it is absent."""
        value = self.raw(field)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self.fail(f"{field!r} is {shown(_text(value))}, but must be an object")
        return value


def _text(value: object) -> str:
    """A value for a sentence; a number of a million digits cannot be printed at all."""
    try:
        return str(value)
    except (ValueError, RecursionError):
        return "too large to print"
