"""A planted fault is found, whatever its kind, and told by where it is."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from roofprobe.kernels import memory_check
from roofprobe.kernels.memory_check import PATTERNS, check_memory

WORDS = 4096


@pytest.fixture(autouse=True)
def _small_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every chunk fall into several slices, the last of them short."""
    monkeypatch.setattr(memory_check, "_SLICE_WORDS", 1000)


def chunks() -> list[torch.Tensor]:
    return [
        torch.empty(WORDS, dtype=torch.int64),
        torch.empty(8 * 77, dtype=torch.uint8),
        torch.empty(64, 32, dtype=torch.float32),
    ]


def test_good_memory_has_no_problem_and_every_byte_is_counted() -> None:
    done = check_memory(chunks(), seed=3)
    assert done.checked_bytes == 8 * WORDS + 8 * 77 + 64 * 32 * 4
    assert [(r.pattern, r.wrong_words, r.first_bad_offset_bytes) for r in done.results] == [
        (name, 0, None) for name in ("0x00", "0xff", "0x55", "0xaa", "address", "random")
    ]
    assert (done.problem, done.first_bad, done.wrong_words) == (None, None, 0)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_one_changed_bit_is_found_where_it_is(pattern: str) -> None:
    memory = chunks()

    def flip() -> None:
        memory[0][2345] ^= 1 << 17

    done = check_memory(memory, seed=3, patterns=(pattern,), between=flip)
    result = done.results[0]
    assert result.wrong_words == 1
    assert result.first_bad_offset_bytes == 2345 * 8
    assert result.flipped_bits == 1 << 17
    assert done.first_bad == result
    assert f"1 words of 8 bytes came back changed; the first with pattern {pattern}" in str(
        done.problem
    )


def test_offsets_go_on_through_the_chunks_and_the_first_wrong_word_counts() -> None:
    memory = chunks()

    def spoil() -> None:
        memory[1][8 * 5 + 7] ^= 0x80  # the highest bit of the sixth word of the second chunk
        memory[1][8 * 9] ^= 1
        memory[2][63, 31] = 1.5

    result = check_memory(memory, seed=3, patterns=("0x55",), between=spoil).results[0]
    assert result.wrong_words == 3
    assert result.first_bad_offset_bytes == 8 * (WORDS + 5)
    assert result.expected == 0x5555555555555555
    assert result.found == 0xD555555555555555
    assert result.flipped_bits == 1 << 63


def stuck(bit: int, *, at: int) -> Callable[[torch.Tensor], None]:
    def hold(words: torch.Tensor) -> None:
        if at:
            words[100] |= 1 << bit
        else:
            words[100] &= ~(1 << bit)

    return hold


@pytest.mark.parametrize("at", [0, 1])
def test_a_stuck_bit_is_found_by_one_of_the_plain_patterns(at: int) -> None:
    memory = [torch.empty(WORDS, dtype=torch.int64)]
    done = check_memory(memory, seed=0, between=lambda: stuck(40, at=at)(memory[0]))
    found = {result.pattern for result in done.results if result.wrong_words}
    assert ("0xff" if at == 0 else "0x00") in found
    assert ("0x00" if at == 0 else "0xff") not in found


def test_a_stuck_address_line_is_found_by_addresses_and_not_by_constants() -> None:
    memory = [torch.empty(WORDS, dtype=torch.int64)]

    def alias() -> None:
        # Line 10 is stuck: words with it set are those without it, and hold what came last.
        pairs = memory[0].view(-1, 2, 1024)
        pairs[:, 0] = pairs[:, 1]

    done = check_memory(memory, seed=0, between=alias)
    wrong = {result.pattern: result.wrong_words for result in done.results}
    assert wrong == {"0x00": 0, "0xff": 0, "0x55": 0, "0xaa": 0, "address": 2048, "random": 2048}


def test_random_words_use_every_bit_and_differ_by_seed_and_place() -> None:
    memory = torch.empty(1 << 14, dtype=torch.int64)
    check_memory([memory], seed=1, patterns=("random",))
    assert memory.unique().numel() == memory.numel()
    for bit in range(64):
        share = float(((memory >> bit) & 1).double().mean())
        assert 0.45 < share < 0.55, bit
    again, other = torch.empty_like(memory), torch.empty_like(memory)
    check_memory([again], seed=1, patterns=("random",))
    check_memory([other], seed=2**40, patterns=("random",))
    assert torch.equal(memory, again)
    assert not bool((memory == other).any())


def test_random_words_are_splitmix64() -> None:
    # The first outputs of the reference implementation for seed 0.
    memory = torch.empty(3, dtype=torch.int64)
    check_memory([memory], seed=0, patterns=("random",))
    assert [word & (2**64 - 1) for word in memory.tolist()] == [
        0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F,
    ]  # fmt: skip


def test_a_word_that_heals_before_it_is_looked_at_again_still_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    memory = [torch.empty(10, dtype=torch.int64)]

    def flip() -> None:
        memory[0][4] += 1

    monkeypatch.setattr(memory_check, "_first_bad", lambda *_: None)
    done = check_memory(memory, seed=0, patterns=("0x00",), between=flip)
    assert (done.wrong_words, done.results[0].first_bad_offset_bytes) == (1, None)
    assert done.problem == (
        "1 words of 8 bytes came back changed, pattern 0x00, and were right when they were read "
        "again"
    )


def test_no_memory_is_no_fault() -> None:
    done = check_memory([], seed=0)
    assert (done.checked_bytes, done.problem) == (0, None)
