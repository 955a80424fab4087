"""Sampling by a fake timer: exact batches, exact stop reasons, exact samples."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable

import pytest

from roofprobe.kernels.work import Check, Work
from roofprobe.probes.measure import (
    MAX_LAUNCHES_PER_SAMPLE,
    Declined,
    Policy,
    Sampled,
    WrongResult,
    sample,
    verify,
)
from roofprobe.probes.timers import Launches

# Binary fractions of a second, so that sums and quotients are exact.
TICK = 2.0**-10
NO_WARMUP = Policy(batch_s=TICK, warmup_s=0, min_time_s=0, max_time_s=1000, min_samples=1)


class FakeTimer:
    """Returns the durations it was told, per launch, and moves its own clock by them."""

    name = "fake"

    def __init__(self, launch_s: float | Iterable[float]) -> None:
        self._launch_s = itertools.repeat(launch_s) if isinstance(launch_s, float) else launch_s
        self._durations = iter(self._launch_s)
        self.clock_s = 0.0
        self.counts: list[int] = []

    def time_batch(self, launches: Launches, count: int) -> float:
        duration = next(self._durations) * count
        self.counts.append(count)
        self.clock_s += duration
        return duration

    def synchronize(self) -> None:
        pass

    def now(self) -> float:
        return self.clock_s


def work_of(sets: int = 1, check: Callable[[], Check] | None = None) -> Work:
    def right() -> Check:
        return Check(0.0, 0.0, "exact", 1)

    return Work(
        launches=tuple(lambda: None for _ in range(sets)),
        flops=1,
        bytes_read=1,
        bytes_written=1,
        array_bytes=1,
        check=check or right,
        kernel="fake",
    )


def test_a_right_result_is_returned() -> None:
    assert verify(work_of()) == Check(0.0, 0.0, "exact", 1)


def test_a_wrong_result_raises_with_its_check() -> None:
    wrong = Check(0.5, 0.1, "exact", 1, problem="the error is too great")
    with pytest.raises(WrongResult, match="the error is too great") as raised:
        verify(work_of(check=lambda: wrong))
    assert raised.value.check == wrong


def test_a_result_in_another_format_raises_that_it_was_declined() -> None:
    better = Check(1e-7, 2e-3, "exact", 1, declined="it is too good")
    with pytest.raises(Declined, match="it is too good") as raised:
        verify(work_of(check=lambda: better))
    assert raised.value.check == better
    both = Check(0.5, 2e-3, "exact", 1, problem="it is wrong", declined="it is too good")
    with pytest.raises(WrongResult, match="it is wrong"):
        verify(work_of(check=lambda: both))


@pytest.mark.parametrize(
    ("launch_ticks", "sets", "expected"),
    [(4.0, 3, 3), (0.25, 8, 8), (0.25, 3, 6), (1.0, 2000, MAX_LAUNCHES_PER_SAMPLE), (1.0, 1, 1)],
)
def test_whole_rounds_leave_no_set_out(launch_ticks: float, sets: int, expected: int) -> None:
    timer = FakeTimer(launch_ticks * TICK)
    policy = Policy(batch_s=TICK, warmup_s=0, min_time_s=0, min_samples=1, max_samples=4,
                    whole_rounds=True)  # fmt: skip
    assert sample(work_of(sets), timer, policy, timer.now).launches_per_sample == expected


@pytest.mark.parametrize(
    ("launch_ticks", "sets", "expected"),
    [
        (1.0, 1, 1),  # one launch is long enough
        (4.0, 3, 1),  # longer than a sample: one launch of one set
        (0.25, 1, 4),
        (0.25, 4, 4),
        (0.25, 3, 6),  # four launches, rounded up to two rounds of three sets
        (0.25, 8, 4),  # fewer launches than sets: no round to complete
        (0.125, 5, 10),
        (2.0**-12, 1, MAX_LAUNCHES_PER_SAMPLE),
        (2.0**-12, 3, 510),  # the most that are whole rounds of three
        (0.0, 3, 510),  # a clock that saw nothing
        (2.0**-12, 2000, MAX_LAUNCHES_PER_SAMPLE),
    ],
)
def test_a_batch_is_long_enough_and_goes_round_all_sets(
    launch_ticks: float, sets: int, expected: int
) -> None:
    timer = FakeTimer(launch_ticks * TICK)
    policy = Policy(batch_s=TICK, warmup_s=0, min_time_s=0, min_samples=1, max_samples=4)
    found = sample(work_of(sets), timer, policy, timer.now)
    assert found.launches_per_sample == expected
    warm = [expected] if expected > 1 else []  # a graph of this size was replayed once
    assert timer.counts == [1, 1, *warm, *[expected] * len(found.samples_us)]


def test_each_sample_is_the_mean_of_its_launches_in_microseconds() -> None:
    timer = FakeTimer(0.25 * TICK)
    found = sample(work_of(), timer, NO_WARMUP, timer.now)
    assert found.launches_per_sample == 4
    assert set(found.samples_us) == {0.25 * TICK * 1e6}


def test_the_first_slow_launch_does_not_size_the_batch() -> None:
    timer = FakeTimer(itertools.chain([100 * TICK], itertools.repeat(0.25 * TICK)))
    assert sample(work_of(), timer, NO_WARMUP, timer.now).launches_per_sample == 4


def test_equal_samples_stop_as_soon_as_an_interval_exists() -> None:
    timer = FakeTimer(TICK)
    found = sample(work_of(), timer, NO_WARMUP, timer.now)
    assert found.stop_reason == "interval narrow enough"
    assert len(found.samples_us) == 6


def test_min_samples_are_taken_even_when_they_are_equal() -> None:
    timer = FakeTimer(TICK)
    policy = Policy(batch_s=TICK, warmup_s=0, min_time_s=0, max_time_s=1000, min_samples=23)
    assert len(sample(work_of(), timer, policy, timer.now).samples_us) == 23


def test_min_time_is_measured_even_when_the_samples_are_equal() -> None:
    timer = FakeTimer(TICK)
    policy = Policy(batch_s=TICK, warmup_s=0, min_time_s=40 * TICK, max_time_s=1000, min_samples=1)
    found = sample(work_of(), timer, policy, timer.now)
    assert len(found.samples_us) == 40
    assert found.elapsed_s == 40 * TICK
    assert found.stop_reason == "interval narrow enough"


def scattered() -> Iterable[float]:
    return itertools.cycle([TICK, 2 * TICK])


def test_scattered_samples_stop_at_the_time_limit_and_all_are_kept() -> None:
    timer = FakeTimer(scattered())
    policy = Policy(batch_s=TICK, warmup_s=0, min_time_s=0, max_time_s=30 * TICK, min_samples=1)
    found = sample(work_of(), timer, policy, timer.now)
    assert found.stop_reason == "time limit"
    assert found.samples_us == (TICK * 1e6, 2 * TICK * 1e6) * 10
    assert found.elapsed_s == 30 * TICK


def test_three_samples_are_taken_however_late_it_is() -> None:
    timer = FakeTimer(1.0)
    policy = Policy(batch_s=TICK, warmup_s=0, min_time_s=0, max_time_s=0.5, min_samples=1)
    found = sample(work_of(), timer, policy, timer.now)
    assert found.samples_us == (1e6, 1e6, 1e6)
    assert found.stop_reason == "time limit"


def test_scattered_samples_stop_at_the_sample_limit() -> None:
    timer = FakeTimer(scattered())
    policy = Policy(
        batch_s=TICK, warmup_s=0, min_time_s=0, max_time_s=1000, min_samples=1, max_samples=17
    )
    found = sample(work_of(), timer, policy, timer.now)
    assert found.stop_reason == "sample limit"
    assert len(found.samples_us) == 17


def test_outliers_are_kept() -> None:
    durations = [TICK] * 5 + [64 * TICK] + [TICK] * 20
    timer = FakeTimer(durations)
    policy = Policy(batch_s=TICK, warmup_s=0, min_time_s=0, max_time_s=1000, min_samples=10)
    found = sample(work_of(), timer, policy, timer.now)
    assert max(found.samples_us) == 64 * TICK * 1e6
    assert len(found.samples_us) == 11


def test_warm_up_lasts_as_long_as_was_asked_for_and_is_not_a_sample() -> None:
    timer = FakeTimer(TICK)
    policy = Policy(batch_s=TICK, warmup_s=50 * TICK, min_time_s=0, max_time_s=1000, min_samples=6)
    found = sample(work_of(), timer, policy, timer.now)
    assert found.warmup_launches == 50
    assert len(timer.counts) == 50 + len(found.samples_us)
    assert found.elapsed_s == len(found.samples_us) * TICK


def test_without_warm_up_the_two_sizing_launches_are_counted() -> None:
    timer = FakeTimer(TICK)
    assert sample(work_of(), timer, NO_WARMUP, timer.now).warmup_launches == 2


def test_no_sample_is_the_first_batch_of_its_size() -> None:
    # The last batch of the warm-up shows that launches are shorter, and the batch grows once more.
    timer = FakeTimer(itertools.chain([TICK] * 2, itertools.repeat(0.125 * TICK)))
    policy = Policy(batch_s=TICK, warmup_s=2.1 * TICK, min_time_s=0, min_samples=6)
    found = sample(work_of(), timer, policy, timer.now)
    assert timer.counts == [1, 1, 1, 8, *[8] * len(found.samples_us)]
    assert found.warmup_launches == 3 + 8


def test_a_batch_grows_when_warm_launches_turn_out_much_shorter() -> None:
    timer = FakeTimer(itertools.chain([TICK] * 2, itertools.repeat(0.125 * TICK)))
    policy = Policy(batch_s=TICK, warmup_s=10 * TICK, min_time_s=0, min_samples=6)
    assert sample(work_of(), timer, policy, timer.now).launches_per_sample == 8


def test_a_batch_keeps_its_size_when_warm_launches_are_a_little_shorter() -> None:
    timer = FakeTimer(itertools.chain([TICK / 4] * 2, itertools.repeat(0.75 * TICK / 4)))
    policy = Policy(batch_s=TICK, warmup_s=10 * TICK, min_time_s=0, min_samples=6)
    found = sample(work_of(), timer, policy, timer.now)
    assert found.launches_per_sample == 4
    assert set(timer.counts) == {1, 4}


class Watched:
    """A device whose sleeps, clock readings and batches are written down in order."""

    def __init__(self, *clocks_mhz: float | None) -> None:
        self.log: list[str] = []
        self.time_s = 0.0
        self._clocks = itertools.cycle(clocks_mhz or (None,))
        self._counted: list[float] = []

    name = "watched"

    def time_batch(self, launches: Launches, count: int) -> float:
        self.log.append(f"batch {count}")
        self.time_s += count * TICK
        return count * TICK

    def synchronize(self) -> None:
        pass

    def now(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.log.append(f"sleep {seconds / TICK:g}")
        self.time_s += seconds

    def clear(self) -> None:
        self.log.append("clear")
        self._counted.clear()

    def begin(self) -> None:
        self.log.append("begin")

    def end(self) -> None:
        self.log.append("end")
        mhz = next(self._clocks)
        if mhz is not None:
            self._counted.append(mhz)

    def clocks_mhz(self) -> tuple[float, ...]:
        self.log.append("clocks")
        return tuple(self._counted)


def policy_of(**fields: float) -> Policy:
    defaults = {"batch_s": TICK, "warmup_s": 0.0, "min_time_s": 0.0, "max_time_s": 1000.0}
    return Policy(**{**defaults, **fields}, min_samples=1, max_samples=3)  # type: ignore[arg-type]


def sampled_on(device: Watched, policy: Policy) -> Sampled:
    return sample(work_of(), device, policy, device.now, device, device.sleep)


def test_a_burst_rests_once_and_pauses_before_each_sample_with_the_clock_around_it_alone() -> None:
    device = Watched()
    sampled_on(device, policy_of(rest_s=300 * TICK, pause_s=8 * TICK))
    each = ["sleep 8", "begin", "batch 1", "end"]
    batches = ["batch 1", "batch 1", "sleep 300", "clear", *each, *each, *each, "clocks"]
    assert device.log == batches


def test_settled_work_goes_on_without_rest_or_pause() -> None:
    device = Watched()
    sampled_on(device, policy_of())
    each = ["begin", "batch 1", "end"]
    assert device.log == ["batch 1", "batch 1", "clear", *each, *each, *each, "clocks"]


def test_rest_comes_after_the_warm_up_and_is_no_time_of_sampling() -> None:
    device = Watched()
    found = sampled_on(device, policy_of(warmup_s=5 * TICK, rest_s=300 * TICK))
    assert device.log.index("sleep 300") == 5
    assert found.warmup_launches == 5
    assert found.elapsed_s == 3 * TICK


def test_pauses_count_towards_the_time_limit() -> None:
    device = Watched()
    policy = Policy(
        batch_s=TICK, warmup_s=0, min_time_s=0, max_time_s=35 * TICK, min_samples=100,
        pause_s=9 * TICK,
    )  # fmt: skip
    found = sampled_on(device, policy)
    assert (len(found.samples_us), found.stop_reason) == (4, "time limit")
    assert found.samples_us == (TICK * 1e6,) * 4, "and are no part of a sample"


def test_clocks_are_kept_for_the_samples_that_have_one() -> None:
    found = sampled_on(Watched(1980.0, None, 1755.0), policy_of())
    assert found.clocks_mhz == (1980.0, 1755.0)
    assert sampled_on(Watched(None), policy_of()).clocks_mhz == ()


def test_a_clock_is_not_counted_over_sizing_and_warm_up() -> None:
    device = Watched(1000.0)
    found = sampled_on(device, policy_of(warmup_s=20 * TICK))
    assert device.log.count("begin") == device.log.count("end") == len(found.samples_us) == 3


def test_without_a_clock_nothing_is_asked_and_nothing_kept() -> None:
    timer = FakeTimer(TICK)
    assert sample(work_of(), timer, NO_WARMUP, timer.now).clocks_mhz == ()
