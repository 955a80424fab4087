"""Transfers on CPU tensors and doubles of the runtime: bytes, order of streams, planted errors."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from roofprobe.kernels import host_memory, transfers
from roofprobe.kernels.host_memory import HostBuffer, Place, on_cpus
from roofprobe.kernels.transfers import Copy, CudaRuntime, Leg, Runtime
from roofprobe.kernels.work import Target, Unsupported, Work
from roofprobe.records.ceilings import LINK_OF

CPU = Target("cpu", "cpu", "x86_64", 2)
GPU = Target("cuda", "cpu", "sm_90", 132)  # its tensors are the host's
GPU0, GPU1 = (Target("cuda", f"cuda:{index}", "sm_90", 132) for index in (0, 1))
NPU = Target("npu", "cpu")
SIZE = 1003  # no multiple of 8
LINKED = [row.name for row in transfers.ROWS if row.op != "host-copy"]


class FakeRuntime:
    """Writes down what it was asked; copies run at once, one after the other."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.pinned: dict[int, int] = {}

    def pin(self, address: int, size_bytes: int) -> Callable[[], object]:
        self.pinned[address] = size_bytes
        return lambda: self.pinned.pop(address)

    def at_once(self, copies: Sequence[Copy]) -> Callable[[], object]:
        def launch() -> None:
            self.calls.append(" | ".join(",".join(copy.devices) for copy in copies))
            for copy in copies:
                copy.enqueue()

        return launch

    def wait(self) -> None:
        self.calls.append("wait")


def prepare(name: str, target: Target = GPU, runtime: Runtime | None = None, **more: Any) -> Work:
    settings = {"size_bytes": SIZE, "buffer_sets": 1, "seed": 3, **more}
    return transfers.prepare(name, target, runtime=runtime or FakeRuntime(), **settings)


def peers(name: str, runtime: Runtime | None = None, **more: Any) -> Work:
    settings: dict[str, Any] = {"size_bytes": SIZE, "buffer_sets": 1, "seed": 3, **more}
    return transfers.prepare_peer(
        name, GPU0, GPU1, runtime=runtime or FakeRuntime(), can_access=lambda a, b: True,
        tensor_devices=("cpu", "cpu"), **settings,
    )  # fmt: skip


def legs_of(work: Work) -> tuple[Leg, ...]:
    legs: tuple[Leg, ...] = work.check.args[1]  # type: ignore[attr-defined]
    return legs


# Bytes


@pytest.mark.parametrize(
    ("name", "read", "written"),
    [
        ("h2d-pinned", 0, 1),
        ("d2h-pinned", 1, 0),
        ("both-pinned", 1, 1),
        ("h2d-pageable", 0, 1),
        ("d2h-pageable", 1, 0),
        ("both-pageable", 1, 1),
        ("host-copy", 1, 0),
    ],
)
def test_a_byte_counts_once_per_direction(name: str, read: int, written: int) -> None:
    work = prepare(name, CPU if name == "host-copy" else GPU)
    assert (work.bytes_read, work.bytes_written) == (read * SIZE, written * SIZE)
    assert transfers.bytes_per_launch(name, SIZE) == (work.bytes_read, work.bytes_written)
    assert (work.flops, work.array_bytes) == (0, SIZE)
    assert work.config["convention"] == "one-way"
    assert work.config["directions"] == max(1, read + written)


def test_rows_are_all_kinds_with_pinned_and_pageable_memory() -> None:
    rows = {(row.op, row.host_memory) for row in transfers.ROWS if row.op != "host-copy"}
    assert rows == {(op, m) for op in ("h2d", "d2h", "both") for m in ("pinned", "pageable")}
    assert [row.name for row in transfers.ROWS if not row.blocking] == [
        "h2d-pinned", "d2h-pinned", "both-pinned",
    ]  # fmt: skip


def test_each_link_s_load_is_known_to_the_ceilings() -> None:
    ops: set[str] = {row.op for row in transfers.ROWS} | {row.name for row in transfers.PEER_ROWS}
    assert ops - set(LINK_OF) == {"host-copy", "p2p-latency"}
    assert set(LINK_OF) <= ops


# Results


@pytest.mark.parametrize("name", LINKED)
@pytest.mark.parametrize("size", [1, 8, SIZE])
def test_every_byte_arrives(name: str, size: int) -> None:
    work = prepare(name, size_bytes=size)
    check = work.check()
    assert (check.problem, check.error, check.tolerance) == (None, 0.0, 0.0)
    assert check.checked_elements == size * len(transfers.BY_NAME[name].directions)


@pytest.mark.parametrize("name", ["h2d-pageable", "d2h-pageable"])
def test_another_accelerator_transfers_from_pageable_memory(name: str) -> None:
    work = transfers.prepare(name, NPU, size_bytes=SIZE, buffer_sets=1, seed=0)
    assert work.check().problem is None


def test_a_copy_within_the_host_is_real() -> None:
    work = prepare("host-copy", CPU, buffer_sets=2)
    assert work.check().problem is None
    assert work.kernel == "numpy.copyto (one thread)"
    assert len(work.launches) == 2


def test_data_go_on_over_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers, "_CHUNK_BYTES", 256)
    work = prepare("h2d-pinned")
    assert work.check().problem is None
    (leg,) = legs_of(work)
    leg.destination[700] ^= 1
    assert leg.wrong_bytes() == 1


def test_data_are_random_and_differ_between_sets_and_directions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds: list[int] = []
    monkeypatch.setattr(Leg, "fill", lambda leg: seeds.append(leg.seed))
    prepare("both-pinned", buffer_sets=3)
    peers("p2p-both", buffer_sets=3)
    assert seeds == [3, 4, 5, 6, 7, 8] * 2
    ((_, _, data),) = transfers._random_bytes(torch.empty(1 << 16, dtype=torch.uint8), seed=3)
    counts = torch.bincount(data.int(), minlength=256)
    assert int(counts.min()) > 150  # of 256 expected each


@pytest.mark.parametrize("seed", [0, 3, (1 << 31) - 1])
def test_data_are_a_hash_of_the_place_whatever_the_chunk(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def word(place: int) -> bytes:
        def signed_shift(value: int, by: int) -> int:
            return ((value - (1 << 64) if value >> 63 else value) >> by) % (1 << 64)

        x = (place + seed * (1 << 40) + 1) * 0x9E3779B97F4A7C15 % (1 << 64)
        x = (x ^ signed_shift(x, 30)) * 0xBF58476D1CE4E5B9 % (1 << 64)
        x = (x ^ signed_shift(x, 27)) * 0x94D049BB133111EB % (1 << 64)
        return (x ^ signed_shift(x, 31)).to_bytes(8, sys.byteorder)

    wanted = b"".join(word(place) for place in range(40))[:313]
    like = torch.empty(313, dtype=torch.uint8)
    for chunk in (64, 1 << 20):
        monkeypatch.setattr(transfers, "_CHUNK_BYTES", chunk)
        made = torch.cat([data for _, _, data in transfers._random_bytes(like, seed)])
        assert bytes(made.tolist()) == wanted


def test_what_a_buffer_holds_is_there_before_other_streams_use_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settled: list[int] = []
    monkeypatch.setattr(transfers, "_settle", lambda tensor: settled.append(tensor.data_ptr()))
    leg, back = legs_of(peers("p2p-both"))
    assert settled == [leg.source.data_ptr(), back.source.data_ptr()]
    leg.poison()
    assert settled[2:] == [leg.destination.data_ptr()]


def test_a_destination_is_poisoned_in_every_byte() -> None:
    (leg,) = legs_of(prepare("h2d-pinned"))
    leg.destination.copy_(leg.source)
    assert leg.wrong_bytes() == 0
    leg.poison()
    assert leg.wrong_bytes() == SIZE
    assert torch.equal(leg.destination, leg.source.bitwise_not())


@pytest.mark.parametrize(
    ("planted", "wrong"),
    [
        (lambda leg: None, SIZE),
        (lambda leg: leg.destination[:-3].copy_(leg.source[:-3]), 3),
        (lambda leg: leg.destination.copy_(leg.source.roll(1)), None),
        (lambda leg: leg.destination.copy_(leg.source.bitwise_xor(1)), SIZE),
    ],
    ids=["never ran", "tail missing", "shifted", "a bit flipped"],
)
def test_a_planted_error_is_found(planted: Callable[[Leg], object], wrong: int | None) -> None:
    legs = legs_of(prepare("h2d-pinned"))
    check = transfers._check(lambda: planted(legs[0]), legs, lambda: None)
    assert check.problem is not None
    if wrong is not None:
        assert check.problem == f"{wrong} of {SIZE} bytes did not arrive as they were sent"
        assert check.error == wrong / SIZE


def test_one_direction_that_fails_fails_both() -> None:
    legs = legs_of(prepare("both-pinned"))
    check = transfers._check(lambda: legs[0].destination.copy_(legs[0].source), legs, lambda: None)
    assert check.problem == f"{SIZE} of {2 * SIZE} bytes did not arrive as they were sent"
    assert check.error == 0.5


def test_the_check_waits_before_it_looks() -> None:
    runtime = FakeRuntime()
    prepare("both-pinned", runtime=runtime).check()
    assert runtime.calls == ["cpu | cpu", "wait"]


# Pinning


@pytest.mark.parametrize("name", LINKED)
def test_pinned_rows_pin_each_host_buffer_and_unpin_it_in_the_end(name: str) -> None:
    runtime = FakeRuntime()
    work = prepare(name, runtime=runtime, buffer_sets=2)
    row = transfers.BY_NAME[name]
    expected = 2 * len(row.directions) if row.host_memory == "pinned" else 0
    assert list(runtime.pinned.values()) == [SIZE] * expected
    assert work.config["blocking"] is (expected == 0)
    del work
    gc.collect()
    assert runtime.pinned == {}


@pytest.mark.parametrize(
    ("name", "asynchronous"),
    [("h2d-pinned", True), ("d2h-pinned", True), ("h2d-pageable", False), ("both-pageable", True)],
)
def test_only_what_must_not_hold_up_the_thread_is_asynchronous(
    name: str, asynchronous: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    real = transfers._copy

    def copy(leg: Leg, non_blocking: bool, buffer: HostBuffer) -> None:
        asked.append(non_blocking)
        real(leg, non_blocking, buffer)

    monkeypatch.setattr(transfers, "_copy", copy)
    prepare(name).launches[0]()
    assert set(asked) == {asynchronous}


def test_pinned_pages_are_aligned_fresh_and_touched() -> None:
    seen: list[tuple[int, int]] = []

    def pin(address: int, size_bytes: int) -> Callable[[], object]:
        seen.append((address % 4096, buffer_byte(address)))
        return lambda: None

    HostBuffer(SIZE, pin=pin)
    assert seen == [(0, 0xA5)]


def buffer_byte(address: int) -> int:
    import ctypes

    return ctypes.string_at(address, 1)[0]


# CUDA's runtime


class FakeStream:
    def __init__(self, trace: list[str], name: str) -> None:
        self._trace, self.name = trace, name

    def wait_stream(self, other: FakeStream) -> None:
        self._trace.append(f"{self.name} waits for {other.name}")


class FakeCuda:
    """Streams are numbered in the order in which they are made."""

    def __init__(self, answer: int = 0) -> None:
        self.trace: list[str] = []
        self._made = 0
        self._answer = answer

    def Stream(self, device: str) -> FakeStream:
        self._made += 1
        return FakeStream(self.trace, f"{device}/{self._made}")

    def current_stream(self, device: str) -> FakeStream:
        return FakeStream(self.trace, f"{device}/main")

    @contextmanager
    def stream(self, stream: FakeStream) -> Iterator[None]:
        self.trace.append(f"in {stream.name}")
        yield
        self.trace.append(f"out of {stream.name}")

    def synchronize(self, device: str) -> None:
        self.trace.append(f"synchronise {device}")

    def cudart(self) -> FakeCuda:
        return self

    def cudaHostRegister(self, address: int, size_bytes: int, flags: int) -> int:
        self.trace.append(f"register {address} {size_bytes} {flags}")
        return self._answer

    def cudaHostUnregister(self, address: int) -> int:
        self.trace.append(f"unregister {address}")
        return 0


def test_copies_at_once_fork_from_the_current_stream_and_join_it() -> None:
    cuda = FakeCuda()
    copies = [Copy(lambda n=n: cuda.trace.append(f"copy {n}"), ("cuda:0",)) for n in ("a", "b")]  # type: ignore[misc]
    CudaRuntime("cuda:0", cuda).at_once(copies)()
    assert cuda.trace == [
        "cuda:0/1 waits for cuda:0/main",
        "cuda:0/2 waits for cuda:0/main",
        "in cuda:0/1", "copy a", "out of cuda:0/1",
        "in cuda:0/2", "copy b", "out of cuda:0/2",
        "cuda:0/main waits for cuda:0/1",
        "cuda:0/main waits for cuda:0/2",
    ]  # fmt: skip


def test_opposite_copies_between_devices_share_no_stream_on_either() -> None:
    cuda = FakeCuda()
    there = Copy(lambda: cuda.trace.append("there"), ("cuda:1", "cuda:0"))
    back = Copy(lambda: cuda.trace.append("back"), ("cuda:0", "cuda:1"))
    CudaRuntime("cuda:0", cuda).at_once([there, back])()
    middle = cuda.trace[4:-4]
    assert middle == [
        "in cuda:1/1", "in cuda:0/2", "there", "out of cuda:0/2", "out of cuda:1/1",
        "in cuda:0/3", "in cuda:1/4", "back", "out of cuda:1/4", "out of cuda:0/3",
    ]  # fmt: skip
    assert all("waits for cuda:0/main" in line for line in cuda.trace[:4])
    assert all(line.startswith("cuda:0/main waits for") for line in cuda.trace[-4:])


def test_pinning_registers_pages_and_undoes_it() -> None:
    cuda = FakeCuda()
    unpin = CudaRuntime("cuda:0", cuda).pin(4096, 100)
    unpin()
    assert cuda.trace == ["register 4096 100 0", "unregister 4096"]


def test_a_driver_that_does_not_pin_is_a_reason() -> None:
    with pytest.raises(Unsupported) as refused:
        CudaRuntime("cuda:0", FakeCuda(answer=2)).pin(4096, 100)
    assert refused.value.code == "pinning"
    assert "cudaHostRegister returned 2" in refused.value.sentence


def test_waiting_synchronises_the_device() -> None:
    cuda = FakeCuda()
    CudaRuntime("cuda:1", cuda).wait()
    assert cuda.trace == ["synchronise cuda:1"]


# What does not exist


@pytest.mark.parametrize(
    ("name", "target", "code"),
    [
        ("h2d-pinned", CPU, "no-link"),
        ("both-pageable", CPU, "no-link"),
        ("host-copy", GPU, "host-only"),
        ("h2d-pinned", NPU, "pinning"),
        ("both-pageable", NPU, "no-streams"),
    ],
)
def test_a_transfer_that_a_device_lacks_has_a_reason(name: str, target: Target, code: str) -> None:
    reason = transfers.unavailable(name, target)
    assert reason is not None
    assert reason.code == code
    with pytest.raises(Unsupported):
        transfers.prepare(name, target, size_bytes=8, buffer_sets=1, seed=0)


def test_a_gpu_has_every_transfer_but_the_host_s_own() -> None:
    assert [row.name for row in transfers.ROWS if not transfers.unavailable(row.name, GPU0)] == (
        LINKED
    )


def test_a_plain_device_pins_nothing_and_has_no_streams() -> None:
    runtime = transfers.PlainRuntime()
    with pytest.raises(Unsupported, match="pinned"):
        runtime.pin(0, 1)
    with pytest.raises(Unsupported, match="streams"):
        runtime.at_once([])


# Places

ALLOWED = os.sched_getaffinity(0)
ONE = frozenset({min(ALLOWED)})


def test_memory_is_touched_and_pinned_on_the_place_s_cpus_and_the_thread_goes_free() -> None:
    seen = []

    def pin(address: int, size_bytes: int) -> Callable[[], object]:
        seen.append(os.sched_getaffinity(0))
        return lambda: None

    HostBuffer(SIZE, Place("near", 0, ONE), pin)
    assert seen == [ONE]
    assert os.sched_getaffinity(0) == ALLOWED


def test_a_launch_runs_on_the_place_s_cpus() -> None:
    work = prepare("h2d-pageable", place=Place("far", 1, ONE))
    assert os.sched_getaffinity(0) == ALLOWED
    with work.settings():
        assert os.sched_getaffinity(0) == ONE
    assert os.sched_getaffinity(0) == ALLOWED
    assert (work.config["place"], work.config["node"]) == ("far", 1)


def test_the_thread_goes_free_after_an_error_too() -> None:
    with pytest.raises(RuntimeError), on_cpus(ONE):
        raise RuntimeError
    assert os.sched_getaffinity(0) == ALLOWED


def test_no_cpus_bind_nothing() -> None:
    with on_cpus(frozenset()):
        assert os.sched_getaffinity(0) == ALLOWED


def test_cpus_that_the_process_may_not_use_are_a_reason() -> None:
    with pytest.raises(Unsupported) as refused, on_cpus(frozenset({max(ALLOWED) + 1})):
        pass
    assert refused.value.code == "numa-cpus"


@pytest.mark.parametrize(
    ("pages", "refused"),
    [
        ({}, False),  # the system does not tell
        ({1: 100}, False),
        ({0: 4, 1: 96}, False),
        ({0: 10, 1: 90}, True),
        ({0: 100}, True),
    ],
)
def test_pages_that_lie_elsewhere_are_a_reason(pages: dict[int, int], refused: bool) -> None:
    place = Place("far", 1, ONE)
    if not refused:
        prepare("h2d-pinned", place=place, pages_on=lambda address: pages)
        return
    with pytest.raises(Unsupported) as reason:
        prepare("h2d-pinned", place=place, pages_on=lambda address: pages)
    assert reason.value.code == "numa-placement"


def test_where_nothing_was_asked_for_pages_lie_where_they_lie() -> None:
    HostBuffer(SIZE, host_memory.ANYWHERE, None, lambda address: {0: 1, 1: 1})


# Peers


@pytest.mark.parametrize(
    ("name", "size", "read", "written"),
    [("p2p", SIZE, 1, 0), ("p2p-both", SIZE, 1, 1), ("p2p-latency", 8, 1, 0)],
)
def test_a_copy_to_a_peer_arrives_and_counts_once_per_direction(
    name: str, size: int, read: int, written: int
) -> None:
    work = peers(name)
    check = work.check()
    assert check.problem is None
    assert check.checked_elements == (read + written) * size
    assert (work.bytes_read, work.bytes_written) == (read * size, written * size)
    assert work.array_bytes == size
    assert work.config["directions"] == read + written
    assert work.config["peer"] == "cuda:1"


def test_both_ways_run_in_streams_of_both_devices_the_source_s_last() -> None:
    runtime = FakeRuntime()
    work = peers("p2p-both", runtime)
    work.launches[0]()
    assert runtime.calls == ["cuda:1,cuda:0 | cuda:0,cuda:1"]


def test_one_way_needs_no_stream_of_its_own() -> None:
    runtime = FakeRuntime()
    peers("p2p", runtime).launches[0]()
    assert runtime.calls == []


@pytest.mark.parametrize("name", ["p2p", "p2p-both"])
def test_sets_of_buffers_are_separate(name: str) -> None:
    work = peers(name, buffer_sets=3)
    assert len(work.launches) == 3
    legs_of(work)[0].poison()
    work.launches[1]()
    assert legs_of(work)[0].wrong_bytes() == SIZE


@pytest.mark.parametrize(
    ("source", "destination", "code"),
    [
        (GPU0, CPU, "no-peer"),
        (GPU0, Target("rocm", "cuda:1"), "no-peer"),
        (GPU0, GPU0, "no-peer"),
        (GPU0, GPU1, "no-peer-access"),
    ],
)
def test_devices_without_a_direct_way_have_a_reason(
    source: Target, destination: Target, code: str
) -> None:
    reason = transfers.unavailable_peer(source, destination, lambda a, b: False)
    assert reason is not None
    assert reason.code == code
    with pytest.raises(Unsupported):
        transfers.prepare_peer(
            "p2p", source, destination, size_bytes=8, buffer_sets=1, seed=0,
            can_access=lambda a, b: False,
        )  # fmt: skip


def test_access_is_asked_in_both_directions() -> None:
    asked: list[tuple[int, int]] = []

    def can_access(device: int, peer: int) -> bool:
        asked.append((device, peer))
        return device == 0

    reason = transfers.unavailable_peer(GPU0, GPU1, can_access)
    assert reason is not None
    assert asked == [(0, 1), (1, 0)]
