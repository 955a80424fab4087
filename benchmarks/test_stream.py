"""Our streams beside compiled STREAM on the same arrays' sizes, in turns, in one run.

The other side is a small C program of our own with STREAM's four kernels (McCalpin's definitions,
float64, OpenMP), compiled here with ``cc -O3 -march=native -fopenmp``. Both sides go over arrays of
256 MiB with all cores, one pass of each in turns, so that a neighbour or a clock that changes meets
both alike. The medians are compared; the best of each, which is STREAM's own rule, is printed too.

Run with ``make bench``, or ``pytest benchmarks/test_stream.py -s --benchmark-enable``. Skipped
where there is no C compiler with OpenMP, and on processors that our machine code does not know.
"""

from __future__ import annotations

import shutil
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from roofprobe.kernels import stream
from roofprobe.kernels.work import Unsupported, Work
from roofprobe.probes.backends import CpuBackend, target_of

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ELEMENTS = (256 << 20) // 8
ROUNDS = 25
STREAMS = {"copy": 2, "scale": 2, "add": 3, "triad": 3}

# One line in names a kernel, one line out gives the seconds of one pass of it.
SOURCE = r"""
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int main(int argc, char **argv) {
    const size_t n = strtoull(argv[1], NULL, 10);
    double *a = aligned_alloc(64, n * 8), *b = aligned_alloc(64, n * 8);
    double *c = aligned_alloc(64, n * 8);
    const double q = 0.4;
    char line[32];
#pragma omp parallel for
    for (size_t i = 0; i < n; i++) { a[i] = 1.0 + i % 7; b[i] = 2.0 + i % 5; c[i] = 0.0; }
    while (fgets(line, sizeof line, stdin)) {
        const double begun = omp_get_wtime();
        if (!strncmp(line, "copy", 4)) {
#pragma omp parallel for
            for (size_t i = 0; i < n; i++) c[i] = a[i];
        } else if (!strncmp(line, "scale", 5)) {
#pragma omp parallel for
            for (size_t i = 0; i < n; i++) c[i] = q * a[i];
        } else if (!strncmp(line, "add", 3)) {
#pragma omp parallel for
            for (size_t i = 0; i < n; i++) c[i] = a[i] + b[i];
        } else {
#pragma omp parallel for
            for (size_t i = 0; i < n; i++) c[i] = a[i] + q * b[i];
        }
        printf("%.9f %.3f\n", omp_get_wtime() - begun, c[n / 2]);
        fflush(stdout);
    }
    return 0;
}
"""


class Compiled:
    """The C program, asked for one pass at a time."""

    def __init__(self, folder: Path, threads: int) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc")
        if compiler is None:
            pytest.skip("there is no C compiler to build the other side with")
        (folder / "stream.c").write_text(SOURCE)
        built = subprocess.run(
            [compiler, "-O3", "-march=native", "-fopenmp", "stream.c", "-o", "stream"],
            cwd=folder, capture_output=True, text=True, check=False,
        )  # fmt: skip
        if built.returncode:
            pytest.skip(f"the C compiler has no OpenMP: {built.stderr[-200:]}")
        self._process = subprocess.Popen(
            [folder / "stream", str(ELEMENTS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            text=True, env={"OMP_NUM_THREADS": str(threads), "PATH": ""},
        )  # fmt: skip

    def seconds(self, kernel: str) -> float:
        asked, told = self._process.stdin, self._process.stdout
        assert asked is not None
        assert told is not None
        asked.write(kernel + "\n")
        asked.flush()
        return float(told.readline().split()[0])

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


@pytest.fixture(scope="module")
def threads() -> int:
    import torch

    count = CpuBackend().describe().unit_count or 1
    torch.set_num_threads(count)
    return count


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory, threads: int) -> Iterator[Compiled]:
    other = Compiled(tmp_path_factory.mktemp("stream"), threads)
    yield other
    other.close()


def ours(kernel: str, route: str) -> Work:
    target = target_of(CpuBackend().describe())
    try:
        work = stream.prepare(
            kernel, route, "fp64", target, elements=ELEMENTS, buffer_sets=1, seed=0
        )
    except Unsupported as reason:
        pytest.skip(reason.sentence)
    assert work.check().problem is None
    return work


def timed(launch: Callable[[], object]) -> float:
    begun = time.perf_counter()
    launch()
    return time.perf_counter() - begun


@pytest.mark.timeout(600)
@pytest.mark.parametrize("kernel", list(STREAMS))
def test_our_streams_beside_compiled_stream(
    benchmark: BenchmarkFixture,
    capsys: pytest.CaptureFixture[str],
    compiled: Compiled,
    kernel: str,
) -> None:
    sides: dict[str, Callable[[], float]] = {
        "compiled STREAM": lambda: compiled.seconds(kernel),
    }
    works = {route: ours(kernel, route) for route in ("machine-code", "torch")}
    for route, work in works.items():
        sides[route] = lambda launch=work.launches[0]: timed(launch)  # type: ignore[misc]
    seconds: dict[str, list[float]] = {name: [] for name in sides}

    def turns() -> None:
        for _ in range(ROUNDS):
            for name, side in sides.items():
                seconds[name].append(side())

    benchmark.pedantic(turns, rounds=1)  # type: ignore[no-untyped-call]
    moved = STREAMS[kernel] * ELEMENTS * 8
    best = {name: moved / min(values) / 1e9 for name, values in seconds.items()}
    median = {name: moved / statistics.median(values) / 1e9 for name, values in seconds.items()}
    winner = max(works, key=lambda name: best[name])
    ratio = max(median[name] for name in works) / median["compiled STREAM"]
    figures = {
        **{
            f"{name}, best (median) GB/s": f"{best[name]:.1f} ({median[name]:.1f})" for name in best
        },
        "ours / compiled, best": round(best[winner] / best["compiled STREAM"], 3),
        "ours / compiled, median": round(ratio, 3),
    }
    benchmark.extra_info.update(figures)
    with capsys.disabled():
        print(f"\n{kernel}, float64, 256 MiB arrays:")
        for title, value in figures.items():
            print(f"  {title:40} {value}")
    assert ratio >= 0.95
