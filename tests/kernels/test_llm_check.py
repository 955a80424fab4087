"""The check of a model's operation sees the whole result and each row of it."""

from __future__ import annotations

import torch

from roofprobe.kernels.llm_check import check_rows, fresh

ROWS, WIDTH = 4096, 64


def exact() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(ROWS, WIDTH, dtype=torch.float64, generator=generator)


def test_the_reference_itself_is_right_in_any_number_of_blocks() -> None:
    reference = exact()
    for blocks in (1, 7, ROWS):
        told = check_rows(reference, reference.tensor_split(blocks), 1e-12)
        assert (told.error, told.problem, told.checked_elements) == (0.0, None, ROWS * WIDTH)


def test_one_wrong_row_among_thousands_is_named() -> None:
    reference = exact()
    out = reference.clone()
    out[1234] = out[1235]
    told = check_rows(out, [reference], 0.05)
    assert told.error < 0.05, "the norm of the whole would let it pass"
    assert told.problem is not None
    assert "row 1234" in told.problem


def test_a_small_error_everywhere_is_held_against_the_norm_of_the_whole() -> None:
    reference = exact()
    told = check_rows(reference * 1.01, [reference], 5e-3)
    assert told.problem is not None
    assert 0.0099 < told.error < 0.0101


def test_what_was_not_written_is_counted() -> None:
    out = exact()
    out[5, :3] = float("nan")
    told = check_rows(out, [exact()], 1.0)
    assert told.problem is not None
    assert told.problem.startswith(f"3 of {ROWS * WIDTH} elements")


def test_a_small_row_is_held_against_the_typical_row() -> None:
    reference = exact()
    reference[7] *= 1e-6
    out = reference.clone()
    out[7] += 1e-5
    assert check_rows(out, [reference], 1e-3).problem is None


def test_a_call_that_allocates_is_launched_into_poison() -> None:
    seen = []
    source = torch.ones(1 << 12)

    def launch() -> torch.Tensor:
        out = torch.empty(1 << 12)
        seen.append(bool(out.isnan().all()))
        return out.copy_(source)

    assert torch.equal(fresh(launch), source)
    assert len(seen) == 2


def test_a_call_that_writes_only_half_of_its_result_leaves_poison() -> None:
    out = torch.empty(64)

    def launch() -> torch.Tensor:
        out[:32] = 1.0
        return out

    assert int(fresh(launch).isnan().sum()) == 32
