"""A reduction that read something else is caught by what its parts left, not by the grand total."""

from __future__ import annotations

import pytest
import torch

from roofprobe.kernels.stream_check import check_programs, products, runs_of, sums_by_program

BLOCK, BLOCKS, PROGRAMS = 256, 64, 8
COUNT = BLOCK * BLOCKS - 3


def values(dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.empty(BLOCK * BLOCKS).uniform_(-1, 1, generator=generator).to(dtype)


def block_sums(terms: torch.Tensor) -> torch.Tensor:
    padded = torch.cat((terms.float(), torch.zeros(-terms.numel() % BLOCK)))
    return padded.view(-1, BLOCK).sum(1)


def left_by(blocks: torch.Tensor) -> torch.Tensor:
    """Return what each program leaves that walks over ``blocks`` by stride."""
    return blocks.view(-1, PROGRAMS).sum(0)


def test_a_right_result_passes_in_one_type_whatever_the_array_holds() -> None:
    a = values(torch.bfloat16)[:COUNT]
    partials = torch.empty(PROGRAMS)
    right = left_by(block_sums(a))
    check = check_programs(partials, products((a,)), COUNT, BLOCK, lambda: partials.copy_(right))
    assert (check.problem, check.tolerance, check.checked_elements) == (None, 1e-5, COUNT)


@pytest.mark.parametrize("fault", ["skipped", "twice", "elsewhere", "half"])
def test_a_block_that_was_not_read_as_it_should_be_is_caught(fault: str) -> None:
    a = values()[:COUNT]
    blocks = block_sums(a)
    if fault == "skipped":
        blocks[17] = 0
    elif fault == "twice":
        blocks[17] *= 2
    elif fault == "elsewhere":
        blocks[17] = blocks[18]
    else:
        blocks[BLOCKS // 2 :] = 0
    partials = torch.empty(PROGRAMS)
    check = check_programs(
        partials, products((a,)), COUNT, BLOCK, lambda: partials.copy_(left_by(blocks))
    )
    assert check.problem is not None
    assert check.error > 10 * check.tolerance


def test_a_program_that_left_nothing_is_caught() -> None:
    a = values()[:COUNT]
    partials = torch.empty(PROGRAMS)

    def launch() -> None:
        partials[:-1] = left_by(block_sums(a))[:-1]

    check = check_programs(partials, products((a,)), COUNT, BLOCK, launch)
    assert check.problem == "1 of 8 partial sums were not written or are not finite"


@pytest.mark.parametrize("block", [16, 64, 256])
def test_pages_are_expected_in_the_order_of_the_index(block: int) -> None:
    a = values()
    index = torch.randperm(64, dtype=torch.int32)
    pages = a.view(64, 256)[index.long()].double()
    for order, same in ((index, True), (index.flip(0), False)):
        sums, _ = sums_by_program(
            runs_of(a, order, 256, 256), a.numel(), block, a.numel() // block, a.device
        )
        assert torch.allclose(sums, pages.reshape(-1, block).sum(1)) is same


def test_sectors_are_expected_where_the_stride_puts_them() -> None:
    a = values()
    terms = runs_of(a, None, 8, 32)(0, a.numel() // 4)
    assert torch.equal(terms, a.view(-1, 32)[:, :8].double().reshape(-1))


def test_the_reference_leaves_arrays_as_they_were() -> None:
    a = values(torch.float64)
    before = a.clone()
    sums_by_program(products((a,)), a.numel(), BLOCK, PROGRAMS, a.device)
    assert torch.equal(a, before)


def test_chunks_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    from roofprobe.kernels import accuracy

    a, b = values(), values().flip(0)
    whole = sums_by_program(products((a, b)), COUNT, BLOCK, 5, a.device)
    monkeypatch.setattr(accuracy, "_CHUNK_ELEMENTS_CPU", 3 * BLOCK)
    parts = sums_by_program(products((a, b)), COUNT, BLOCK, 5, a.device)
    for one, other in zip(whole, parts, strict=True):
        assert torch.equal(one, other)
