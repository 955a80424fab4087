"""The search over a real arena and route: what is asked, what a refusal costs, what is kept."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest

from roofprobe.kernels import matmul, routes
from roofprobe.kernels.operands import Arena
from roofprobe.kernels.routes import route_named
from roofprobe.kernels.rows import BY_NAME
from roofprobe.kernels.work import Check, Target, Unsupported, Work
from roofprobe.probes import shape_search
from roofprobe.probes.arenas import Arenas
from roofprobe.probes.backends import CpuBackend
from roofprobe.probes.candidates import Space
from roofprobe.probes.clocks import NoClock
from roofprobe.probes.measure import Policy
from roofprobe.probes.search import CandidateFailed, Found, Step
from roofprobe.probes.session import Session
from roofprobe.probes.shape_search import MatmulBench
from roofprobe.probes.timers import Launches
from roofprobe.records.schema import Case, Device

Shape = tuple[int, int, int]
GIB = 1 << 30
CPU = Device(
    device_id="cpu", torch_device="cpu", backend="cpu", name="Example", architecture="x86_64"
)
NPU = Device(device_id="npu:0", torch_device="cpu", backend="npu", name="Example NPU")


class Rated:
    """A timer for a device that does everything at one rate, and counts the launches asked."""

    name = "fake timer"

    def __init__(self, launch_s: float = 0.001) -> None:
        self.launch_s = launch_s
        self.counts: list[int] = []

    def time_batch(self, launches: Launches, count: int) -> float:
        launches[0]()
        self.counts.append(count)
        return self.launch_s * count

    def synchronize(self) -> None:
        pass


class Silent:
    def watch(self) -> nullcontext[None]:
        return nullcontext()

    def summary(self) -> None:
        return None


class Sized(CpuBackend):
    """The CPU with as much free memory as it was told."""

    def __init__(self, free_bytes: int | None) -> None:
        self._free_bytes = free_bytes

    def free_memory_bytes(self, index: int = 0) -> int | None:
        return self._free_bytes


def session_on(
    device: Device = CPU, *, free: int | None = 8 * GIB, seed: int = 0, timer: Rated | None = None
) -> Session:
    return Session.on(device, Sized(free), Silent(), NoClock(), timer=timer or Rated(), seed=seed)


def case_of(row: str, route: str) -> Case:
    return Case(
        case_id=f"search/{row}", family="compute", op="search", precision=row, route=route,
        shape={}, row=row, role="search",
    )  # fmt: skip


def bench_of(
    timer: Rated, row: str = "fp32", route: str = "torch.mm", device: Device = CPU
) -> MatmulBench:
    found = route_named(row, route)
    target = Target(device.backend, "cpu", device.architecture)
    arena = Arena(found.compute_row, target, ((64, 64, 64),), cache_bytes=None, limit_bytes=None)
    return MatmulBench(found, device, arena, timer)


def test_a_rate_is_operations_over_the_median_of_five_batches() -> None:
    timer = Rated(0.001)
    assert bench_of(timer).measure((64, 64, 64), 0.05) == pytest.approx(
        2 * 64**3 / 0.001 * 1e-12, rel=1e-12
    )
    # One launch to see how long it takes, then 50 launches in five batches.
    assert timer.counts == [1, 10, 10, 10, 10, 10]


@pytest.mark.parametrize(
    ("launch_s", "seconds", "expected"),
    [
        (0.02, 0.05, [1, 1, 1]),  # two launches fill the time
        (1.0, 0.05, [1, 1]),  # never less than one
        (1e-6, 0.5, [1, *[512] * 5]),  # never more than a stream's queue holds
        (0.0, 0.001, [1, *[512] * 5]),  # a clock that saw nothing
    ],
)
def test_launches_fill_the_time_that_was_given(
    launch_s: float, seconds: float, expected: list[int]
) -> None:
    timer = Rated(launch_s)
    try:
        bench_of(timer).measure((64, 64, 64), seconds)
    except ZeroDivisionError:
        pytest.fail("a clock that saw nothing must be no error")
    except CandidateFailed:
        assert launch_s == 0.0
    assert timer.counts == expected


@pytest.mark.parametrize(
    ("row", "route", "shape", "words"),
    [
        ("fp32", "torch.mm", (64, 64, 4096), "does not fit into the memory set aside"),
        ("int8", "torch._int_mm", (16, 32, 32), "needs m > 16"),
        ("fp8", "torch._scaled_mm", (32, 40, 32), "needs n divisible by 16"),
    ],
)
def test_a_shape_that_cannot_be_done_is_a_candidate_s_failure(
    row: str, route: str, shape: Shape, words: str
) -> None:
    timer = Rated()
    with pytest.raises(CandidateFailed, match=words):
        bench_of(timer, row, route).measure(shape, 0.01)
    assert timer.counts == []


def failing(error: Exception) -> Callable[..., Work]:
    def prepare(*_: Any, **__: Any) -> Work:
        def launch() -> None:
            raise error

        return Work((launch,), 1, 1, 1, 1, lambda: Check(0, 0, "", 1), "fake")

    return prepare


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"),
        RuntimeError("CUDA error: CUBLAS_STATUS_NOT_SUPPORTED when calling cublasLtMatmul"),
        RuntimeError("CUDA error: CUBLAS_STATUS_INVALID_VALUE when calling cublasGemmEx"),
        ValueError("scale_b must have shape 4 x 2 Float elements"),
        NotImplementedError("no such operator"),
        MemoryError(),
        RuntimeError(""),
    ],
)
@pytest.mark.parametrize("device", [CPU, NPU], ids=["cpu", "npu"])
def test_what_a_library_refuses_costs_the_candidate_and_not_the_search(
    monkeypatch: pytest.MonkeyPatch, device: Device, error: Exception
) -> None:
    monkeypatch.setattr(matmul, "prepare", failing(error))
    with pytest.raises(CandidateFailed) as failed:
        bench_of(Rated(), device=device).measure((64, 64, 64), 0.01)
    assert failed.value.reason
    assert "\n" not in failed.value.reason


@pytest.mark.parametrize(
    "text", ["CUDA error: an illegal memory access was encountered", "the device lost its context"]
)
def test_a_lost_device_is_no_candidate_s_failure(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(matmul, "prepare", failing(RuntimeError(text)))
    with pytest.raises(RuntimeError, match=text):
        bench_of(Rated(), device=NPU).measure((64, 64, 64), 0.01)


# The route


@pytest.mark.parametrize(
    ("row", "preferred", "device", "expected"),
    [
        ("fp32", "torch.mm", "cpu", "torch.mm"),
        ("fp32", "torch.mm/lt", "cpu", "torch.mm"),  # the first that works instead
        ("fp8", "triton", "cpu", "torch._scaled_mm"),
    ],
)
def test_the_first_route_that_works_is_taken(
    row: str, preferred: str, device: str, expected: str
) -> None:
    target = Target(device, "cpu", "x86_64", 2)
    assert shape_search.first_available(row, preferred, target).name == expected


def test_where_no_route_works_the_reason_is_the_preferred_one_s() -> None:
    with pytest.raises(Unsupported, match="TF32 is a GPU tensor format"):
        shape_search.first_available("tf32", "torch.mm", Target("cpu", "cpu", "x86_64", 2))


# The whole search


def policy(search_s: float = 0.05) -> Policy:
    return Policy(search_s=search_s)


@pytest.mark.parametrize(
    ("row", "route", "align"), [("int8", "torch._int_mm", 8), ("fp8", "torch._scaled_mm", 16)]
)
def test_every_shape_that_is_looked_at_suits_the_route_and_the_budget(
    row: str, route: str, align: int
) -> None:
    session = session_on()
    found, used = shape_search.search(case_of(row, route), session, policy(), "halving")
    assert used.name == found.route == route
    assert found.best is not None
    assert found.candidates > 10
    assert (found.budget_s, found.seed) == (0.05, 0)
    for m, n, k in {*(step.shape for step in found.steps), *found.untried}:
        assert (n % align, k % align) == (0, 0)
        assert m > used.above_m
    assert not [step for step in found.steps if step.failure]
    assert session.arenas._arena is not None, "the arena stays for what follows"


def test_steps_are_kept_with_six_digits() -> None:
    step = Step("rung 1", (64, 64, 64), 1.23456789, 1 / 3, 0.99999999, 0.12345678, 0.00123456)
    found = Found(
        "successive halving", None, 2.5, 2.4, "x", 3, None, (64, 64, 64), 1.25, (step,), ()
    )
    record = shape_search.record(found, 10, "torch.mm", 5)
    kept = record.steps[0]
    assert (kept.tflops, kept.score, kept.anchor_ratio) == (1.23457, 0.333333, 1.0)
    assert (kept.at_s, kept.seconds) == (0.1235, 0.00123)
    assert (record.seed, record.candidates, record.pruned) == (5, 10, 3)


def test_little_memory_means_smaller_candidates_and_none_at_all_a_reason() -> None:
    case = case_of("fp64", "torch.mm")
    sizes = []
    for free in (8 * GIB, 3 << 20):
        found, _ = shape_search.search(case, session_on(free=free), policy(), "halving")
        sizes.append(max(8 * (m * k + n * k + m * n) for m, n, k in
                         (step.shape for step in found.steps)))  # fmt: skip
        assert sizes[-1] <= free / 3 / 2
    assert sizes[1] < sizes[0]
    with pytest.raises(Unsupported) as refused:
        shape_search.search(case, session_on(free=30_000), policy(), "halving")
    assert refused.value.code == "memory"


def test_of_candidates_that_fit_each_by_itself_few_go_so_that_all_fit_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # A T4 with 14 GB free: A, B and C of the largest fp64 candidates take 5.5 GB of 4.7.
    t4 = Device(
        device_id="cuda:0", torch_device="cuda:0", backend="cuda", name="Tesla T4",
        architecture="sm_75", unit_count=40,
    )  # fmt: skip
    asked: dict[str, Any] = {}

    class Taken(Exception):
        pass

    class Noted(Arenas):
        def get(self, row: Any, target: Any, shapes: tuple[Shape, ...], **more: Any) -> Arena:
            asked.update(row=row, shapes=shapes, **more)
            raise Taken

    session = replace(
        session_on(t4), arenas=Noted(lambda: 14_000_000_000, lambda: None), timer=Rated()
    )
    monkeypatch.setattr(routes, "unavailable", lambda route, target: None)
    spaces: list[Space] = []
    real = Space.without

    def noted(self: Space, shapes: Any, reason: str) -> Space:
        spaces.extend((self, real(self, shapes, reason)))
        return spaces[-1]

    monkeypatch.setattr(Space, "without", noted)
    with pytest.raises(Taken):
        shape_search.search(case_of("fp64", "torch.mm"), session, policy(), "halving")
    room = 14_000_000_000 // 3
    assert asked["limit_bytes"] == room

    def together(shapes: tuple[Shape, ...]) -> int:
        sizes = ((m * k, n * k, m * n) for m, n, k in shapes)
        return 8 * sum(max(part) for part in zip(*sizes, strict=True))  # type: ignore[no-any-return]

    before, after = spaces
    assert together(before.shapes) > room >= together(asked["shapes"])
    assert asked["shapes"] == after.shapes
    assert 0 < len(before.shapes) - len(after.shapes) <= 5
    assert after.sentence.endswith("3 more dropped (memory for all together).")


def test_candidates_do_not_depend_on_what_an_earlier_case_left() -> None:
    """Let each kept arena take its bytes from the free memory, as on a device."""
    case = case_of("fp64", "torch.mm")
    found = []
    for before in ((), ((1024, 1024, 1024),)):
        session = session_on()
        held = session.arenas

        def free(held: Arenas = held) -> int:
            return (80 << 20) - (held._arena.nbytes if held._arena else 0)

        held._free_bytes = free
        if before:
            held.get(BY_NAME["fp32"], session.target, before, cache_bytes=None, pattern="uniform",
                     seed=0)  # fmt: skip
        found.append(shape_search.search(case, session, policy(), "halving")[0].sentence)
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("row", "route", "largest"),
    [("fp32", "torch.mm", 1024), ("bf16", "torch.mm", 256), ("fp8", "torch._scaled_mm", 256)],
)
def test_the_exhaustive_grid_is_small_where_a_processor_is_slow(
    row: str, route: str, largest: int
) -> None:
    timer = Rated(1e-3)
    case = case_of(row, route)
    found, _ = shape_search.search(case, session_on(timer=timer), policy(0.001), "exhaustive")
    assert found.method == "exhaustive"
    assert len(found.steps) == found.candidates == 64
    assert max(max(step.shape) for step in found.steps) == largest
    # The same time for every shape: the one with the most operations has the highest rate.
    assert found.best == (largest,) * 3
