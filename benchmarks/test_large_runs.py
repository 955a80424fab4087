"""What a report costs where a host has eight GPUs with 2,000 measurements each.

Run with ``make bench``; without it each benchmark runs once, as a plain test. ``size_bytes`` stands
beside the times.
"""

from __future__ import annotations

import sys
from importlib import util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from roofprobe.records.schema import Run
from roofprobe.reporting.html import to_html
from roofprobe.reporting.markdown import to_markdown

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

MAKER = Path(__file__).parents[1] / "tests" / "support" / "large_run.py"


@pytest.fixture(scope="module")
def host() -> Run:
    spec = util.spec_from_file_location("tests.support.large_run", MAKER)
    assert spec is not None
    assert spec.loader is not None
    sys.modules[spec.name] = module = util.module_from_spec(spec)
    spec.loader.exec_module(module)
    run: Run = module.large_run(8, 2_000)
    return run


def test_the_html_report_of_eight_devices(benchmark: BenchmarkFixture, host: Run) -> None:
    page = benchmark(lambda: to_html(host))
    benchmark.extra_info["size_bytes"] = len(page.encode())
    assert len(page.encode()) < 3_000_000


def test_the_markdown_report_of_eight_devices(benchmark: BenchmarkFixture, host: Run) -> None:
    text = benchmark(lambda: to_markdown(host))
    benchmark.extra_info["size_bytes"] = len(text.encode())
    assert len(text.encode()) < 500_000
