"""Our search for the fastest shape beside brute force over the grids that mamf-finder documents.

Both run here, in one process, on the same device and the same launches, and what each found is then
timed in turns, since the highest of thousands of short readings is partly luck. Brute force is our
own loop over the ranges that the README of mamf-finder gives (stas00/ml-engineering 744d01e,
compute/accelerator/benchmarks): the quick one (m up to 20480 by 256, n = k = 4096) and the more
exhaustive one (all three up to 16384 by 1024); its super long one (up to 20480 by 256, 493,039
shapes) is only extrapolated. Each shape gets the script's 50 launches of warm-up and 100 timed ones
on a GPU. On a CPU the ranges are a sixteenth of that, so that a launch takes milliseconds, with one
launch of warm-up and two timed ones: the same proportion. Unlike the script, nothing is written
between launches to clear the caches, neither for brute force nor for us, so the figures are for
comparing the searches and not a result of the device.

``MAMF_FINDER=/path/to/mamf-finder.py`` runs the script itself as well, on a GPU, over its quick
range. ``ROOFPROBE_BENCH_LONG=1`` allows the more exhaustive grid on a GPU, which takes a quarter of
an hour and more.

Run with ``make bench``, or ``pytest benchmarks/test_shape_search.py -s``.
"""

from __future__ import annotations

import itertools
import math
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from roofprobe.probes import host
from roofprobe.probes.candidates import Limits, Shape, Space, flops, space_for
from roofprobe.probes.search import CandidateFailed, Found, compare, exhaustive, grid, halving
from roofprobe.probes.telemetry import CpuSource, Sampler

if TYPE_CHECKING:
    import torch
    from pytest_benchmark.fixture import BenchmarkFixture

SUPER_LONG_SHAPES = 79**3


@dataclass(frozen=True)
class Scale:
    """What differs between a GPU and a CPU: the ranges' unit, launches per shape, our budget.

    ``unit`` divides the published ranges; ``budget_s`` is what our search may take.
    """

    device: str
    dtype: str
    unit: int
    warmup: int
    timed: int
    budget_s: float
    max_flops: float
    turn_s: float

    def axis(self, stop: int, step: int) -> range:
        """Return the script's range: from the step (a size of 0 is none) to below the end."""
        return range(step // self.unit, stop // self.unit, step // self.unit)

    def brute_force(self, name: str) -> Space:
        """Return one of the published grids."""
        if name == "quick":
            fixed = [4096 // self.unit]
            return grid(self.axis(20480, 256), fixed, fixed)
        axis = self.axis(16384, 1024)
        return grid(axis, axis, axis)


GPU = Scale("cuda", "bfloat16", 1, 50, 100, 20.0, 2 * 16384**3, 0.2)
CPU = Scale("cpu", "float32", 16, 1, 2, 2.0, 2 * 1024**3, 0.05)


class Device:
    """Products in the TN layout on views of three arrays, timed launch by launch."""

    def __init__(self, scale: Scale, spaces: list[Space]) -> None:
        """Allocate the largest A, B and C of ``spaces``, with values uniform in [-1, 1)."""
        import torch

        self.scale = scale
        shapes = [shape for space in spaces for shape in space.shapes]
        self.sizes = tuple(
            max(shape[i] * shape[j] for shape in shapes) for i, j in ((0, 2), (1, 2), (0, 1))
        )
        self.arrays = tuple(
            torch.empty(size, device=scale.device).uniform_(-1, 1).to(getattr(torch, scale.dtype))
            for size in self.sizes
        )

    def measure(self, shape: Shape, seconds: float) -> float:
        """Return TFLOPS from the median of launches for about ``seconds``, after one launch."""
        launch = self.launch_of(shape)
        first_s = self.times_s(launch, 1, 0)[0]
        count = max(1, min(2000, round(seconds / first_s)))
        return flops(shape) / statistics.median(self.times_s(launch, count, 0)) / 1e12

    def launch_of(self, shape: Shape) -> Callable[[], Any]:
        """Return the launch of one product; raises ``CandidateFailed`` beyond the arrays."""
        import torch

        m, n, k = shape
        needed = (m * k, n * k, m * n)
        if any(need > size for need, size in zip(needed, self.sizes, strict=True)):
            raise CandidateFailed("larger than what was allocated")
        a, b, c = (array[:need] for array, need in zip(self.arrays, needed, strict=True))
        left, right, out = a.view(m, k), b.view(n, k).t(), c.view(m, n)
        return lambda: torch.mm(left, right, out=out)

    def times_s(self, launch: Callable[[], Any], count: int, warmup: int) -> list[float]:
        """Return the seconds of each of ``count`` launches after ``warmup`` others."""
        for _ in range(warmup):
            launch()
        if self.scale.device == "cuda":
            return self._event_times_s(launch, count)
        ends = [time.perf_counter()]
        for _ in range(count):
            launch()
            ends.append(time.perf_counter())
        return [after - before for before, after in itertools.pairwise(ends)]

    def _event_times_s(self, launch: Callable[[], Any], count: int) -> list[float]:
        import torch

        events: list[torch.cuda.Event] = [
            torch.cuda.Event(enable_timing=True) for _ in range(count + 1)
        ]
        events[0].record()
        for event in events[1:]:
            launch()
            event.record()
        torch.cuda.synchronize()
        pairs = itertools.pairwise(events)
        return [before.elapsed_time(after) / 1e3 for before, after in pairs]


@dataclass(frozen=True)
class ByIterations:
    """The same device with a fixed number of launches per shape, as the script has."""

    device: Device

    def measure(self, shape: Shape, seconds: float) -> float:
        """Return TFLOPS from the median launch; ``seconds`` plays no part."""
        scale = self.device.scale
        launch = self.device.launch_of(shape)
        times_s = self.device.times_s(launch, scale.timed, scale.warmup)
        return flops(shape) / statistics.median(times_s) / 1e12


@pytest.fixture(scope="module")
def scale() -> Scale:
    import torch

    torch.set_num_threads(host.usable_cores())
    return GPU if torch.cuda.is_available() else CPU


@pytest.fixture(scope="module")
def ours(scale: Scale) -> Space:
    import torch

    if scale is CPU:
        return space_for(
            kind="cpu", group="fp32", limits=Limits(1 << 30, 4, 4, max_flops=scale.max_flops)
        )
    properties = torch.cuda.get_device_properties(0)
    limits = Limits(properties.total_memory / 4, 2, 2, max_flops=scale.max_flops)
    major, minor = torch.cuda.get_device_capability(0)
    units, family = properties.multi_processor_count, f"sm_{major}{minor}"
    return space_for(kind="gpu", group="narrow", limits=limits, units=units, family=family)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["quick", "more exhaustive"])
def test_our_search_beside_brute_force(
    benchmark: BenchmarkFixture,
    capsys: pytest.CaptureFixture[str],
    scale: Scale,
    ours: Space,
    name: str,
) -> None:
    if scale is GPU and name != "quick" and not os.environ.get("ROOFPROBE_BENCH_LONG"):
        pytest.skip("it takes a quarter of an hour or more: set ROOFPROBE_BENCH_LONG=1")
    theirs = scale.brute_force(name)
    device = Device(scale, [ours, theirs])
    warm_up(device, ours)
    neighbours = Sampler(CpuSource(), math.inf)  # looks before and after only
    neighbours.start()
    brute = exhaustive(theirs, ByIterations(device), 0.0)
    found = timed_once(benchmark, ours, device)
    assert brute.best is not None
    assert brute.best_tflops is not None
    assert found.best is not None
    turns = in_turns(device, brute.best, brute.best_tflops, found.best)
    others = (neighbours.stop().others_cores or 0.0) / (os.cpu_count() or 1)
    per_shape_s = brute.elapsed_s / len(theirs.shapes)
    figures = {
        "brute force, shapes": len(theirs.shapes),
        "brute force, seconds": round(brute.elapsed_s, 2),
        "brute force, best": f"{brute.best} {turns.theirs_tflops:.4g} TFLOPS",
        "ours, shapes": len(ours.shapes),
        "ours, seconds": round(found.elapsed_s, 2),
        "ours, best": f"{found.best} {turns.ours_tflops:.4g} TFLOPS",
        "rate, ours / brute force, in turns": round(turns.ratio, 4),
        "control, one shape against itself": round(turns.control, 4),
        "control, cores' time that others had": round(others, 4),
        "time, ours / brute force": round(found.elapsed_s / brute.elapsed_s, 4),
        "hours that 493,039 shapes would take": round(per_shape_s * SUPER_LONG_SHAPES / 3600, 1),
    }
    benchmark.extra_info.update(figures)
    with capsys.disabled():
        print(f"\n{name} grid on {scale.device}, {scale.dtype}:")
        for title, value in figures.items():
            print(f"  {title:38} {value}")
    if turns.ratio < 0.97 and (turns.disturbed or (scale is CPU and others > 0.02)):
        pytest.skip(f"the host is not idle: others had {others:.1%} of its cores, and {turns}")
    assert turns.ratio >= 0.97


def timed_once(benchmark: BenchmarkFixture, space: Space, device: Device) -> Found:
    run = partial(halving, space, device, device.scale.budget_s, seed=0)
    found: Found = benchmark.pedantic(run, rounds=1)  # type: ignore[no-untyped-call]
    return found


def warm_up(device: Device, space: Space) -> None:
    """Work for a while on the middling shape, so that neither search meets a cold device."""
    shape = sorted(space.shapes, key=flops)[len(space.shapes) // 2]
    until = time.monotonic() + (30.0 if device.scale is GPU else 1.0)
    while time.monotonic() < until:
        device.measure(shape, 0.2)


@dataclass(frozen=True)
class Turns:
    """Two shapes timed in turns: rates in TFLOPS, and how far theirs is from itself.

    ``control`` compares the even with the odd rounds of theirs; ``slowed`` says that theirs came
    out more than a tenth below what it was found with. A neighbour on the host shows in either.
    """

    theirs_tflops: float
    ours_tflops: float
    control: float
    slowed: bool

    @property
    def ratio(self) -> float:
        return self.ours_tflops / self.theirs_tflops

    @property
    def disturbed(self) -> bool:
        return self.slowed or self.control > 0.02


def in_turns(device: Device, theirs: Shape, their_tflops: float, ours: Shape) -> Turns:
    """Time both in turns, up to four times until nothing disturbs it."""
    for _ in range(4):
        rates = compare([theirs, ours], device, 12, device.scale.turn_s)
        medians = {shape: statistics.median(values) for shape, values in rates.items()}
        even, odd = (statistics.median(rates[theirs][start::2]) for start in (0, 1))
        slowed = medians[theirs] < 0.9 * their_tflops
        turns = Turns(medians[theirs], medians[ours], abs(1 - even / odd), slowed)
        if not turns.disturbed:
            break
    return turns


def best_of(report: str) -> tuple[float, Shape] | None:
    """Return the best median and its shape from the script's report, or None without one."""
    line = re.search(r"^median:\s+([\d.]+) TFLOPS @ (\d+)x(\d+)x(\d+)", report, re.MULTILINE)
    if line is None:
        return None
    m, n, k = (int(size) for size in line.groups()[1:])
    return float(line[1]), (m, n, k)


def test_the_report_of_the_script_is_read() -> None:
    report = "Tried 2 shapes\nmean:   600.1 TFLOPS @ 1x2x3 (MxNxK)\nmedian: 612.5 TFLOPS @ 4x5x6 (M"
    assert best_of(report) == (612.5, (4, 5, 6))
    assert best_of("interrupted") is None


@pytest.mark.timeout(3600)
def test_our_search_beside_the_script_itself(
    benchmark: BenchmarkFixture,
    capsys: pytest.CaptureFixture[str],
    scale: Scale,
    ours: Space,
    tmp_path: Path,
) -> None:
    script = os.environ.get("MAMF_FINDER")
    if script is None or scale is CPU:
        pytest.skip("it needs a GPU, and MAMF_FINDER=/path/to/mamf-finder.py")
    arguments = ["--m_range", "0", "20480", "256", "--n", "4096", "--k", "4096"]
    if '"--search"' in Path(script).read_text():  # later versions choose their own shapes
        arguments += ["--search", "grid"]
    output = tmp_path / "report.txt"
    command = [sys.executable, script, *arguments, "--dtype", scale.dtype]
    began = time.monotonic()
    ran = subprocess.run(
        [*command, "--output_file", str(output)], capture_output=True, text=True, check=False
    )
    their_s = time.monotonic() - began
    theirs = best_of(output.read_text() if output.exists() else ran.stdout)
    if theirs is None:
        pytest.skip(
            f"no result was read (exit {ran.returncode}): {(ran.stdout + ran.stderr)[-400:]}"
        )
    device = Device(scale, [ours, scale.brute_force("quick")])
    found = timed_once(benchmark, ours, device)
    assert found.best is not None
    turns = in_turns(device, theirs[1], 0.0, found.best)  # other launches: their rate is no control
    with capsys.disabled():
        print(f"\nmamf-finder, quick: {theirs[0]} TFLOPS at {theirs[1]} in {their_s:.0f} s")
        print(f"  the same shape here: {turns.theirs_tflops:.4g} TFLOPS")
        print(f"  ours: {turns.ours_tflops:.4g} at {found.best} in {found.elapsed_s:.0f} s")
        print(f"  rate, ours / theirs, in turns {turns.ratio:.4f} (control {turns.control:.4f})")
