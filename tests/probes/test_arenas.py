"""One arena at a time: kept while it serves, replaced when it does not, within the memory."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from roofprobe.kernels.operands import Arena, set_bytes
from roofprobe.kernels.rows import BY_NAME
from roofprobe.kernels.work import Target, Unsupported
from roofprobe.probes import arenas
from roofprobe.probes.arenas import Arenas

Shape = tuple[int, int, int]
CPU = Target("cpu", "cpu", "x86_64", 2)
SHAPE = (64, 64, 64)
ONE_SET = set_bytes(BY_NAME["fp32"], *SHAPE)


@dataclass
class Memory:
    """A device that tells its free memory and counts what was given back."""

    free_bytes: int | None = None
    released: int = 0
    asked: int = 0
    arenas: Arenas = field(init=False)

    def __post_init__(self) -> None:
        self.arenas = Arenas(self.free, self.release)

    def free(self) -> int | None:
        self.asked += 1
        return self.free_bytes

    def release(self) -> None:
        self.released += 1

    def get(
        self,
        *shapes: Shape,
        row: str = "fp32",
        target: Target = CPU,
        cache: int | None = None,
        pattern: str = "uniform",
        seed: int = 0,
    ) -> Arena:
        return self.arenas.get(
            BY_NAME[row], target, shapes or (SHAPE,), cache_bytes=cache, pattern=pattern, seed=seed
        )


@pytest.fixture
def release_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every arena count as large enough to be given back at once."""
    monkeypatch.setattr(arenas, "WORTH_RELEASING_BYTES", 0)


def test_the_same_arena_serves_the_next_case_and_every_smaller_shape() -> None:
    memory = Memory()
    first = memory.get(SHAPE)
    assert memory.get(SHAPE) is first
    assert memory.get((16, 64, 64)) is first
    assert memory.get((64, 64, 64), (32, 32, 32)) is first
    assert (memory.asked, memory.released) == (1, 0)


@pytest.mark.usefixtures("release_all")
@pytest.mark.parametrize(
    "other",
    [
        {"row": "bf16"},
        {"pattern": "zeros"},
        {"seed": 1},
        {"cache": 1 << 20},
        {"target": Target("npu", "cpu")},
    ],
    ids=["row", "pattern", "seed", "cache", "target"],
)
def test_anything_that_changes_the_operands_makes_a_new_one(other: dict[str, object]) -> None:
    memory = Memory()
    first = memory.get()
    second = memory.get(**other)  # type: ignore[arg-type]
    assert second is not first
    assert memory.released == 1, "the old one goes before the new one is made"


def test_a_shape_that_does_not_fit_with_two_sets_makes_a_new_one() -> None:
    memory = Memory()
    first = memory.get(SHAPE)
    assert first.capacity((64, 64, 128)) == 1, "one set would fit, two are wanted"
    second = memory.get((64, 64, 128))
    assert second is not first
    assert second.capacity((64, 64, 128)) >= 2


def test_where_memory_is_short_an_arena_with_one_set_is_kept_and_not_asked_again() -> None:
    memory = Memory(free_bytes=3 * ONE_SET)
    first = memory.get(cache=8 * ONE_SET)
    assert first.capacity(SHAPE) == 1
    assert memory.get(cache=8 * ONE_SET) is first


def test_a_third_of_the_free_memory_may_be_used() -> None:
    assert len(Memory(3 * 5 * ONE_SET).get(cache=8 * ONE_SET).sets(SHAPE)) == 5
    assert len(Memory(None).get(cache=8 * ONE_SET).sets(SHAPE)) == 16
    with pytest.raises(Unsupported) as refused:
        Memory(3 * ONE_SET - 3).get()
    assert refused.value.code == "memory"


def test_room_is_what_the_next_arena_may_use_when_all_else_is_given_back() -> None:
    memory = Memory(free_bytes=300 * ONE_SET)
    memory.get()
    assert memory.arenas.room() == 100 * ONE_SET
    assert memory.arenas._arena is None
    assert memory.released == 1, "however small the last one was"
    assert Memory(None).arenas.room() is None


def test_a_limit_that_is_given_goes_before_what_is_free_now() -> None:
    memory = Memory(free_bytes=0)
    made = memory.arenas.get(
        BY_NAME["fp32"], CPU, (SHAPE,), cache_bytes=8 * ONE_SET, pattern="uniform", seed=0,
        limit_bytes=5 * ONE_SET,
    )  # fmt: skip
    assert len(made.sets(SHAPE)) == 5
    assert memory.asked == 0


@pytest.mark.usefixtures("release_all")
def test_a_refusal_leaves_nothing_behind() -> None:
    memory = Memory(free_bytes=100 * ONE_SET)
    memory.get()
    with pytest.raises(Unsupported):
        memory.get((4096, 4096, 4096))
    memory.arenas.drop()
    assert memory.released == 1, "the refused one was never there to give back"
    assert memory.get() is not None


@pytest.mark.usefixtures("release_all")
def test_dropping_gives_the_memory_back_once() -> None:
    memory = Memory()
    memory.arenas.drop()
    assert memory.released == 0
    first = memory.get()
    memory.arenas.drop()
    memory.arenas.drop()
    assert memory.released == 1
    assert memory.get() is not first


def test_a_small_arena_is_not_worth_a_release() -> None:
    memory = Memory()
    first = memory.get()
    memory.arenas.drop()
    assert memory.released == 0
    assert memory.get() is not first
