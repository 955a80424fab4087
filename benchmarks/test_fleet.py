"""How fast a fleet is merged and judged; ``bench_fleet.py`` measures memory and 10,000 devices.

Run with ``make bench``; without it each benchmark runs once, as a plain test.
"""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from roofprobe.acceptance.fleet.judge import judge_fleet
from roofprobe.acceptance.fleet.simulate import simulate
from roofprobe.records.fleet.dataset import Fleet
from roofprobe.records.fleet.merge import merge
from roofprobe.records.fleet.store import open_store

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

HOSTS = (12, 125)


@pytest.fixture(scope="module", params=HOSTS)
def simulated(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fleet")
    simulate(folder, hosts=request.param, seed=1)
    return folder


def test_simulating(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    numbers = itertools.count()
    truth = benchmark(lambda: simulate(tmp_path / str(next(numbers)), hosts=12, seed=1))
    assert truth.files == 12


def test_merging(benchmark: BenchmarkFixture, simulated: Path, tmp_path: Path) -> None:
    numbers = itertools.count()
    found = benchmark(lambda: merge([simulated / "runs"], tmp_path / str(next(numbers))))
    assert found.total_metrics == found.total_devices * 100


def test_judging(benchmark: BenchmarkFixture, simulated: Path, tmp_path: Path) -> None:
    found = merge([simulated / "runs"], tmp_path / "FLEET")
    verdict = benchmark(lambda: judge_fleet(Fleet(open_store(tmp_path / "FLEET"))))
    assert sum(verdict.device_counts.values()) == found.total_devices
