"""Whether memory keeps what is written to it: bit patterns over all of it, read back and compared.

All chunks are written first, then all are read, so that between the two as many bytes pass as the
chunks hold together: what is read back comes from memory and not from a cache, as long as they hold
far more than the caches do. Each pattern has its fault in mind:

================  ================================================================================
``0x00 0xff``     bits that are stuck at one or at zero
``0x55 0xaa``     neighbouring bits or data lines that follow each other
``address``       each word holds its own number: lines of the address that are stuck or crossed
                  make two places one, of which one then holds the number of the other
``random``        a hash of the number and the seed: faults that need many bits to change at once
================  ================================================================================

Words are 8 bytes. One wrong word is a fault: nothing is rounded here and there is no tolerance.
What it does not show: memory that the chunks do not cover (other processes', the driver's own),
errors that ECC corrected on the way (its counters tell those), bits that fade slowly, and rows
disturbed by hammering. It takes no time and is no measure of bandwidth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

WORD_BYTES = 8
_MASK = (1 << 64) - 1
_SLICE_WORDS = 1 << 23
"""Words that are made or compared at a time: temporaries take a few times 64 MiB, not more."""


@dataclass(frozen=True, slots=True)
class PatternResult:
    """What one pattern found; offsets count bytes through all chunks in their order.

    ``expected`` and ``found`` are the first bad word as it should be and as it was, unsigned.
    """

    pattern: str
    wrong_words: int
    first_bad_offset_bytes: int | None = None
    expected: int | None = None
    found: int | None = None

    @property
    def flipped_bits(self) -> int | None:
        """Return a mask of the bits in which the first bad word differs."""
        if self.expected is None or self.found is None:
            return None
        return self.expected ^ self.found


@dataclass(frozen=True, slots=True)
class MemoryCheck:
    """What all patterns found over ``checked_bytes``; memory is good when ``problem`` is None."""

    checked_bytes: int
    results: tuple[PatternResult, ...]

    @property
    def wrong_words(self) -> int:
        """Return the wrong words of all patterns together; a bad place may count several times."""
        return sum(result.wrong_words for result in self.results)

    @property
    def first_bad(self) -> PatternResult | None:
        """Return the first pattern that found a wrong word."""
        return next((result for result in self.results if result.wrong_words), None)

    @property
    def problem(self) -> str | None:
        """Say in a sentence what is wrong, or return None."""
        bad = self.first_bad
        if bad is None:
            return None
        told = f"{self.wrong_words} words of {WORD_BYTES} bytes came back changed"
        if bad.flipped_bits is None:
            return f"{told}, pattern {bad.pattern}, and were right when they were read again"
        return (
            f"{told}; the first with pattern {bad.pattern} at byte {bad.first_bad_offset_bytes}, "
            f"bits {bad.flipped_bits:#x}"
        )


Maker = Callable[[int, int, "torch.device", int], "torch.Tensor | int"]
"""(first word's number, how many, device, seed) → the words as int64, or the one that all are."""


def _constant(byte: int) -> Maker:
    word = _signed(int.from_bytes(bytes([byte]) * WORD_BYTES, "little"))
    return lambda first, count, device, seed: word


def _addresses(first: int, count: int, device: torch.device, seed: int) -> torch.Tensor:
    import torch

    return torch.arange(first, first + count, dtype=torch.int64, device=device)


def _random(first: int, count: int, device: torch.device, seed: int) -> torch.Tensor:
    """Return SplitMix64 of the words' numbers: any word can be made again without the others."""
    words = _addresses(first, count, device, seed)
    # Overflow wraps, as it should.
    words.add_(1).mul_(_signed(0x9E3779B97F4A7C15)).add_(_signed(seed & _MASK))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
        # int64 shifts its sign in; the mask makes the shift that of an unsigned word.
        words.bitwise_xor_((words >> shift).bitwise_and_((1 << (64 - shift)) - 1))
        words.mul_(_signed(factor))
    return words


def _signed(word: int) -> int:
    """Return an unsigned word of 64 bits as int64 holds it."""
    return word - (1 << 64) if word >> 63 else word


PATTERNS: dict[str, Maker] = {
    "0x00": _constant(0x00),
    "0xff": _constant(0xFF),
    "0x55": _constant(0x55),
    "0xaa": _constant(0xAA),
    "address": _addresses,
    "random": _random,
}


def check_memory(
    chunks: Sequence[torch.Tensor],
    *,
    seed: int,
    patterns: Sequence[str] = tuple(PATTERNS),
    between: Callable[[], object] | None = None,
) -> MemoryCheck:
    """Write each of ``patterns`` to all ``chunks``, read them back, and count the wrong words.

    A chunk is any contiguous tensor, of whole words; its contents are lost. Chunks lie on one
    device, which needs room for some 256 MiB beside them. ``between`` is called after writing and
    before reading, to wait or to work in the meantime.
    """
    import torch

    words = [chunk.view(-1).view(torch.int64) for chunk in chunks]
    results = []
    for name in patterns:
        _write(words, PATTERNS[name], seed)
        if between is not None:
            between()
        results.append(_read_back(words, name, seed))
    return MemoryCheck(sum(chunk.nbytes for chunk in words), tuple(results))


def _write(chunks: Sequence[torch.Tensor], make: Maker, seed: int) -> None:
    first = 0
    for chunk in chunks:
        for part in chunk.split(_SLICE_WORDS):
            wanted = make(first, part.numel(), part.device, seed)
            if isinstance(wanted, int):
                part.fill_(wanted)
            else:
                part.copy_(wanted)
            first += part.numel()


def _read_back(chunks: Sequence[torch.Tensor], name: str, seed: int) -> PatternResult:
    """Count wrong words, asking the device for the count only once per chunk."""
    make = PATTERNS[name]
    wrong, first = 0, 0
    bad: tuple[int, int, int] | None = None
    for chunk in chunks:
        parts = chunk.split(_SLICE_WORDS)
        counts = []
        starts = []
        for part in parts:
            counts.append((part != make(first, part.numel(), part.device, seed)).sum())
            starts.append(first)
            first += part.numel()
        for part, start, count in zip(parts, starts, _numbers(counts), strict=True):
            wrong += count
            if count and bad is None:
                bad = _first_bad(part, make(start, part.numel(), part.device, seed), start)
    if bad is None:
        # Nothing was wrong, or what was wrong at first was right when it was read once more.
        return PatternResult(name, wrong)
    offset, expected, found = bad
    return PatternResult(name, wrong, offset, expected, found)


def _numbers(counts: list[torch.Tensor]) -> list[int]:
    import torch

    return [int(count) for count in torch.stack(counts).tolist()] if counts else []


def _first_bad(
    part: torch.Tensor, wanted: torch.Tensor | int, start: int
) -> tuple[int, int, int] | None:
    """Return (offset in bytes, expected, found) of the first wrong word of ``part``."""
    import torch

    differs = part != wanted
    if not bool(differs.any()):
        return None
    place = int(torch.argmax(differs.to(torch.uint8)))
    expected = wanted if isinstance(wanted, int) else int(wanted[place])
    return (start + place) * WORD_BYTES, expected & _MASK, int(part[place]) & _MASK
