"""Collectives as data: factors, sizes and exact values, held against operations done by hand."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
import torch

from roofprobe.kernels import accuracy, collectives
from roofprobe.kernels.collectives import BY_NAME, OPERATIONS, Layout, layout_of
from roofprobe.kernels.work import Unsupported

NAMES = [operation.name for operation in OPERATIONS]


@pytest.fixture
def alone() -> Iterator[None]:
    """A process group of this process only."""
    dist: Any = torch.distributed  # its stubs do not name the stores
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def sent_by(layout: Layout, rank: int) -> torch.Tensor:
    return collectives.sent_values(layout, rank, torch.arange(layout.sent))


def received_by(layout: Layout, rank: int) -> torch.Tensor:
    return collectives.received_values(layout, rank, torch.arange(layout.received))


def by_hand(layout: Layout, rank: int) -> torch.Tensor:
    """Return what ``rank`` gets when the operation is done on all inputs as its name says."""
    inputs = [sent_by(layout, source) for source in range(layout.world_size)]
    own = slice(rank * layout.part, (rank + 1) * layout.part)
    return {
        "all_reduce": lambda: torch.stack(inputs).sum(dim=0),
        "all_gather": lambda: torch.cat(inputs),
        "reduce_scatter": lambda: torch.stack(inputs).sum(dim=0)[own],
        "all_to_all": lambda: torch.cat([sent[own] for sent in inputs]),
    }[layout.operation.name]()


@pytest.mark.parametrize(
    ("name", "two", "eight"),
    [
        ("all_reduce", Fraction(1), Fraction(7, 4)),
        ("all_gather", Fraction(1, 2), Fraction(7, 8)),
        ("reduce_scatter", Fraction(1, 2), Fraction(7, 8)),
        ("all_to_all", Fraction(1, 2), Fraction(7, 8)),
    ],
)
def test_bus_factors_are_those_of_nccl_tests(name: str, two: Fraction, eight: Fraction) -> None:
    assert BY_NAME[name].bus_factor(2) == two
    assert BY_NAME[name].bus_factor(8) == eight
    assert BY_NAME[name].bus_factor(1) == 0, "nothing crosses a bus of one"


@pytest.mark.parametrize("name", NAMES)
def test_the_size_is_that_of_the_larger_buffer(name: str) -> None:
    layout = layout_of(name, "bf16", 4, 1 << 20)
    assert max(layout.sent, layout.received) * 2 == layout.size_bytes == 1 << 20
    parts = {"all_gather": layout.sent, "reduce_scatter": layout.received}
    assert parts.get(name, layout.part) in (0, (1 << 20) // 2 // 4)


def test_buffers_are_counted_once_where_the_operation_is_in_place() -> None:
    assert [layout_of(name, "fp32", 4, 4096).buffer_bytes for name in NAMES] == [
        4096, 5120, 5120, 8192,
    ]  # fmt: skip


def test_parts_are_equal_and_whole_words_whatever_the_number_of_ranks() -> None:
    layout = layout_of("all_gather", "bf16", 3, 1000)
    assert (layout.part, layout.whole, layout.size_bytes) == (160, 480, 960)
    assert layout_of("all_reduce", "fp32", 3, 1001).size_bytes == 1000


def test_a_size_without_a_word_for_each_rank_is_unsupported() -> None:
    with pytest.raises(Unsupported, match="less than 16 for each of 128 ranks") as caught:
        layout_of("all_to_all", "fp32", 128, 1024)
    assert caught.value.code == "too-small"
    assert layout_of("all_reduce", "fp32", 128, 1024).whole == 256, "its buffer has no parts"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("world_size", [2, 3, 4, 7, 8])
@pytest.mark.parametrize("name", NAMES)
def test_expected_values_are_those_of_the_operation_done_by_hand(
    name: str, world_size: int, precision: str
) -> None:
    layout = layout_of(name, precision, world_size, 8192)
    for rank in range(world_size):
        expected = by_hand(layout, rank)
        assert torch.equal(received_by(layout, rank), expected)
        stored = expected.to(getattr(torch, collectives.DTYPES[precision]))
        assert torch.equal(stored.long(), expected), "each value is exact in its type"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", NAMES)
def test_inputs_differ_between_neighbours_and_results_between_places(
    name: str, precision: str
) -> None:
    for world_size in (2, 3, 8, 64, 128):
        layout = layout_of(name, precision, world_size, 1 << 14)
        assert not torch.equal(sent_by(layout, 0), sent_by(layout, 1))
        out = received_by(layout, 0)
        assert not torch.equal(out, out.roll(1)), (world_size, "a shift would go unnoticed")
        if layout.part and layout.operation.receives_whole:
            assert not torch.equal(out, out.roll(layout.part)), (world_size, "so would a swap")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_sums_stay_exact_and_depend_on_the_position_for_any_number_of_ranks(precision: str) -> None:
    for world_size in range(2, 129):
        layout = layout_of("all_reduce", precision, world_size, 2048)
        sums = received_by(layout, 0)
        assert int(sums.max()) <= {"bf16": 256, "fp32": 2**24}[precision]
        assert int(sums.min()) < int(sums.max())


def test_sums_that_no_bf16_holds_are_unsupported_and_said_so() -> None:
    with pytest.raises(Unsupported, match="over 129 ranks are not exact in bf16") as caught:
        layout_of("reduce_scatter", "bf16", 129, 1 << 20)
    assert caught.value.code == "inexact-sum"
    assert layout_of("all_to_all", "bf16", 129, 1 << 20).part, "nothing is added there"
    assert layout_of("reduce_scatter", "fp32", 129, 1 << 20).part


@pytest.mark.parametrize("name", NAMES)
def test_a_group_of_one_exchanges_with_itself(name: str, alone: None) -> None:
    layout = layout_of(name, "bf16", 1, 4096)
    exchange = collectives.prepare(layout, 0, torch.device("cpu"))
    check = exchange.check()
    assert check.problem is None
    assert check.checked_elements == 2048
    assert exchange.call.startswith(f"torch.distributed.{name}")


def test_chunks_are_joined_without_a_seam(alone: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accuracy, "_CHUNK_ELEMENTS_CPU", 100)
    layout = layout_of("all_to_all", "fp32", 1, 4096)
    assert collectives.prepare(layout, 0, torch.device("cpu")).check().problem is None


def test_a_result_of_another_rank_is_wrong(alone: None) -> None:
    layout = layout_of("all_gather", "fp32", 1, 4096)
    out = torch.empty(layout.received)
    sent = torch.empty(layout.sent)

    def launch_wrongly() -> None:
        out.copy_(collectives.sent_values(layout, 1, torch.arange(layout.sent)))

    check = collectives._check(layout, 0, out, sent, launch_wrongly)
    assert check.problem is not None
    assert check.error > 0


def test_an_output_that_nothing_wrote_is_wrong() -> None:
    layout = layout_of("all_gather", "fp32", 2, 4096)
    out, sent = torch.empty(layout.received), torch.empty(layout.sent)
    check = collectives._check(layout, 0, out, sent, lambda: out[:512].copy_(sent))
    assert check.problem == "512 of 1024 elements were not written or are not finite"


def test_a_torch_without_the_function_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    layout = layout_of("all_gather", "fp32", 2, 4096)
    unknown = replace(layout, operation=replace(layout.operation, calls=("all_gather_tomorrow",)))
    with pytest.raises(Unsupported, match="all_gather_tomorrow"):
        collectives.prepare(unknown, 0, torch.device("cpu"))
