"""What our own machinery costs beside the measurement: statistics, journal, rendering, timing.

Run with ``make bench``; without it each benchmark runs once, as a plain test.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from roofprobe.kernels.work import Target
from roofprobe.probes import statistics
from roofprobe.probes.timers import WallTimer
from roofprobe.records.journal import JournalWriter
from roofprobe.records.runfolder import run_bytes
from roofprobe.records.schema import (
    Case,
    Device,
    Environment,
    Measurement,
    Options,
    Run,
)
from roofprobe.reporting.markdown import to_markdown

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture


@pytest.fixture
def samples_us() -> tuple[float, ...]:
    generator = np.random.default_rng(0)
    return tuple(100 + generator.exponential(2.0, size=2000))


@pytest.fixture
def measurement(samples_us: tuple[float, ...]) -> Measurement:
    case = Case(
        case_id="stream/copy/fp32/torch/1",
        family="memory",
        op="copy",
        precision="fp32",
        route="torch",
        shape={"elements": 1 << 26},
    )
    return Measurement(
        case=case,
        device_id="cpu",
        status="ok",
        latency=statistics.summarise(samples_us, "us", lower_is_better=True),
        rate=statistics.rates(samples_us, 8 << 26, "GB/s"),
        samples_us=samples_us,
    )


def run_of(measurement: Measurement, count: int) -> Run:
    return Run(
        run_id="r",
        status="complete",
        started_at="2026-01-01T00:00:00+00:00",
        options=Options(families=("memory",)),
        environment=Environment(host="h", os="o", kernel="k", python="3", roofprobe="0"),
        devices=(Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example"),),
        measurements=(measurement,) * count,
    )


def test_summarising_2000_samples(
    benchmark: BenchmarkFixture, samples_us: tuple[float, ...]
) -> None:
    result = benchmark(statistics.summarise, samples_us, "us", lower_is_better=True)
    assert result.ci_low <= result.median <= result.ci_high


def test_the_stopping_question(benchmark: BenchmarkFixture, samples_us: tuple[float, ...]) -> None:
    assert benchmark(statistics.relative_ci_halfwidth, sorted(samples_us)) < 0.01


def test_journaling_one_measurement(
    benchmark: BenchmarkFixture, tmp_path: Path, measurement: Measurement
) -> None:
    writer = JournalWriter(tmp_path)
    benchmark(writer.measurement, measurement)
    writer.close()


def test_serialising_a_run_of_100(benchmark: BenchmarkFixture, measurement: Measurement) -> None:
    assert benchmark(run_bytes, run_of(measurement, 100))


def test_rendering_markdown_of_100(benchmark: BenchmarkFixture, measurement: Measurement) -> None:
    assert benchmark(to_markdown, run_of(measurement, 100))


@pytest.mark.parametrize("size", [256, 1024])
def test_a_matmul_as_we_launch_it(benchmark: BenchmarkFixture, size: int) -> None:
    from roofprobe.kernels import matmul, routes
    from roofprobe.kernels.operands import Arena

    route, shape = routes.routes_for("fp32")[0], (size, size, size)
    target = Target("cpu", "cpu")
    arena = Arena(route.compute_row, target, (shape,), cache_bytes=None, limit_bytes=None)
    work = matmul.prepare(route, target, arena, shape)
    timer = WallTimer()
    benchmark(timer.time_batch, work.launches, 1)


@pytest.mark.parametrize("size", [256, 1024])
def test_the_same_matmul_called_bare(benchmark: BenchmarkFixture, size: int) -> None:
    import torch

    a, b = torch.rand(size, size), torch.rand(size, size)
    out = torch.empty(size, size)
    benchmark(torch.mm, a, b.t(), out=out)
