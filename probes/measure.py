"""Measure one piece of work: check it, warm up, sample until the median is known, summarise.

Correctness comes first: a wrong result is never timed. Warm-up runs until the time that the regime
asks for (clocks and libraries settle), then batches are timed until the confidence interval of the
median is narrow enough, or time is up. All samples are kept. Buffers go round, so that inputs come
from memory, not from a cache that the previous launch filled.

Two regimes differ only in their policy. ``burst`` lets the device rest first and pauses between
short batches, so that power and temperature stay low and clocks high: what a datasheet promises.
``settled`` works for seconds without a pause before the first sample and between samples: what a
served model gets. The clock, where the device can count its own cycles, is read around each batch
and computed after the last: the less the host does between samples, the less the device rests.
"""

from __future__ import annotations

import bisect
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from roofprobe.kernels.work import Check, Work
from roofprobe.probes import statistics
from roofprobe.probes.clocks import Clock, NoClock
from roofprobe.probes.timers import Timer


@dataclass(frozen=True, slots=True)
class Policy:
    """When a sample is long enough, and when there are enough of them.

    ``batch_s`` is the least duration of one sample (several launches where one is shorter),
    ``warmup_s`` the time of work before the first sample, ``min_time_s`` and ``min_samples``
    the least that is measured, ``max_time_s`` the most, ``target_ci`` the relative half-width
    of the median's 95 % interval at which sampling stops, ``timeout_s`` the time after which the
    runner gives the case up, set-up included. With ``whole_rounds`` a sample goes round all buffer
    sets at least once, where a few launches would come back to the same few sets again and again.
    ``tries`` is how often all samples are taken, at most, until others left the processor alone.
    """

    batch_s: float = 0.001
    warmup_s: float = 0.1
    min_time_s: float = 0.2
    max_time_s: float = 1.0
    min_samples: int = 10
    max_samples: int = 5000
    target_ci: float = 0.005
    timeout_s: float = 60.0
    rest_s: float = 0.0
    pause_s: float = 0.0
    whole_rounds: bool = False
    tries: int = 1
    search_s: float = 0.0
    search_method: str = "halving"


@dataclass(frozen=True, slots=True)
class Sampled:
    """The samples of one case, each the mean of ``launches_per_sample`` launches.

    ``clocks_mhz`` has the clock of each sample for which the device counted it.
    """

    samples_us: tuple[float, ...]
    launches_per_sample: int
    warmup_launches: int
    stop_reason: str
    elapsed_s: float
    clocks_mhz: tuple[float, ...] = ()


class WrongResult(Exception):
    """A kernel computed something else than its reference; ``check`` has the error."""

    def __init__(self, check: Check) -> None:
        """Keep the failed check."""
        super().__init__(check.problem or "wrong result")
        self.check = check


class Declined(Exception):
    """A library computed something better than what was asked; ``check`` says what shows it."""

    def __init__(self, check: Check) -> None:
        """Keep the check."""
        super().__init__(check.declined or "declined")
        self.check = check


MAX_LAUNCHES_PER_SAMPLE = 512  # a stream's queue holds about a thousand launches


def verify(work: Work) -> Check:
    """Run the work's check; raise ``WrongResult`` or ``Declined`` when it must not be timed."""
    check = work.check()
    if check.problem is not None:
        raise WrongResult(check)
    if check.declined is not None:
        raise Declined(check)
    return check


def sample(
    work: Work,
    timer: Timer,
    policy: Policy,
    now: Callable[[], float] = time.monotonic,
    clock: Clock | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Sampled:
    """Warm up, then time batches of ``work`` by ``policy``; ``now`` is the clock of the limits.

    The shortest launch seen sizes the batches, so that a sample lasts about ``batch_s`` or longer
    and goes round all buffer sets evenly. Warm-up ends with a batch of the size that is sampled:
    the first replay of a graph also sets it up.
    """
    begun = now()
    sets = len(work.launches)
    launch_s = timer.time_batch(work.launches, 1)  # libraries load and compile in this one
    launch_s = min(launch_s, timer.time_batch(work.launches, 1))
    count = _batch_size(launch_s, policy, sets)
    warmup_launches, warm = 2, 1
    while now() - begun < policy.warmup_s or warm != count:
        launch_s = min(launch_s, timer.time_batch(work.launches, count) / count)
        warmup_launches, warm = warmup_launches + count, count
        # A batch is recorded anew when its size changes, so only a clear misjudgement changes it.
        if count * launch_s < policy.batch_s / 2:
            count = _batch_size(launch_s, policy, sets)
    if policy.rest_s:
        sleep(policy.rest_s)
    clock = clock or NoClock()
    clock.clear()
    started = now()
    samples_us: list[float] = []
    ordered_us: list[float] = []
    stop_reason = None
    while stop_reason is None:
        if policy.pause_s:
            sleep(policy.pause_s)
        clock.begin()
        sample_us = timer.time_batch(work.launches, count) / count * 1e6
        clock.end()
        samples_us.append(sample_us)
        bisect.insort(ordered_us, sample_us)
        elapsed = now() - started
        stop_reason = _stop_reason(ordered_us, elapsed, policy)
    return Sampled(
        tuple(samples_us), count, warmup_launches, stop_reason, elapsed, clock.clocks_mhz()
    )


def _batch_size(launch_s: float, policy: Policy, sets: int) -> int:
    """Return how many launches make a sample: long enough, and whole rounds where it is many."""
    most = MAX_LAUNCHES_PER_SAMPLE // sets * sets or MAX_LAUNCHES_PER_SAMPLE
    if launch_s <= 0:
        return most
    count = max(sets if policy.whole_rounds else 1, math.ceil(policy.batch_s / launch_s))
    if count > sets:
        count = math.ceil(count / sets) * sets
    return min(count, most)


def _stop_reason(ordered_us: list[float], elapsed_s: float, policy: Policy) -> str | None:
    n = len(ordered_us)
    if n >= policy.max_samples:
        return "sample limit"
    if elapsed_s >= policy.max_time_s and n >= 3:
        return "time limit"
    enough = n >= policy.min_samples and elapsed_s >= policy.min_time_s
    if enough and statistics.relative_ci_halfwidth(ordered_us) <= policy.target_ci:
        return "interval narrow enough"
    return None
