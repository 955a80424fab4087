"""Every route on the real device is right and measured, or skipped with its reason."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from roofprobe.kernels import matmul, stream
from roofprobe.kernels.matmul import MatmulRoute
from roofprobe.kernels.work import Work
from roofprobe.probes.backends import CudaBackend, target_of
from roofprobe.probes.timers import GraphTimer
from roofprobe.records.schema import Case, Device, Measurement

pytestmark = pytest.mark.gpu

Measure = Callable[[Case], Measurement]
ELEMENTS = 1 << 22


def product(route: MatmulRoute, m: int = 512, n: int = 768, k: int = 1024) -> Case:
    return Case(
        case_id=f"gemm/{route.precision}/{route.name}/{route.fast_accum}",
        family="compute",
        op="gemm",
        precision=route.precision,
        route=route.name,
        shape={"m": m, "n": n, "k": k},
        fast_accum=route.fast_accum,
    )


def library(precision: str) -> MatmulRoute:
    return matmul.routes_for(precision)[0]


def expect_measured_or_skipped(found: Measurement) -> None:
    assert found.status in ("ok", "skipped"), found.reason
    if found.status == "skipped":
        assert found.reason is not None
        assert found.reason.sentence
        return
    assert found.samples_us
    assert found.correctness is not None
    assert found.correctness.error <= found.correctness.tolerance
    assert found.rate is not None
    assert found.rate.median > 0


@pytest.mark.parametrize(
    "route", matmul.ROUTES, ids=lambda r: f"{r.precision}-{r.name}-{r.fast_accum}"
)
def test_a_product_is_right_and_measured_or_skipped(route: MatmulRoute, measure: Measure) -> None:
    expect_measured_or_skipped(measure(product(route)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("route", stream.ROUTES)
@pytest.mark.parametrize("kernel", [kernel.name for kernel in stream.KERNELS])
def test_a_stream_is_right_and_measured_or_skipped(
    kernel: str, route: str, precision: str, measure: Measure
) -> None:
    found = measure(
        Case(
            case_id=f"stream/{kernel}/{precision}/{route}",
            family="memory",
            op=kernel,
            precision=precision,
            route=route,
            shape={"elements": ELEMENTS + 3},
        )
    )
    expect_measured_or_skipped(found)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_plain_library_products_run_on_every_gpu(precision: str, measure: Measure) -> None:
    assert measure(product(library(precision))).status == "ok"


def prepared(precision: str, gpu: Device, m: int, n: int, k: int) -> Work:
    return matmul.prepare(library(precision), target_of(gpu), m=m, n=n, k=k, buffer_sets=2, seed=0)


def test_fp32_is_ieee_and_tf32_is_not(gpu: Device) -> None:
    ieee = prepared("fp32", gpu, 512, 512, 1024)
    with ieee.settings():
        assert ieee.check().error < 5e-6
    if matmul.unavailable(library("tf32"), target_of(gpu)) is not None:
        pytest.skip("this device has no TF32")
    tf32 = prepared("tf32", gpu, 512, 512, 1024)
    with tf32.settings():
        assert 1e-5 < tf32.check().error < 2e-3


@pytest.mark.alone
def test_graph_replay_and_events_agree_within_a_tenth(gpu: Device) -> None:
    timer = CudaBackend().timer(gpu.index)
    assert isinstance(timer, GraphTimer)
    work = prepared("fp16", gpu, 2048, 2048, 2048)
    with work.settings():
        for _ in range(20):
            timer.time_batch(work.launches, 16)
            timer._fallback.time_batch(work.launches, 16)
        by_graph = min(timer.time_batch(work.launches, 16) for _ in range(20))
        by_events = min(timer._fallback.time_batch(work.launches, 16) for _ in range(20))
    assert timer.name == GraphTimer.name
    assert by_graph == pytest.approx(by_events, rel=0.1)


def test_a_second_work_is_not_timed_by_the_graph_of_the_first(gpu: Device) -> None:
    import torch

    timer = CudaBackend().timer(gpu.index)
    outputs = [torch.zeros(4, device=gpu.torch_device) for _ in range(2)]
    for out in outputs:

        def launch(out: torch.Tensor = out) -> None:
            out.add_(1)

        timer.time_batch((launch,), 1)
        del launch
    assert [float(out.min()) > 0 for out in outputs] == [True, True]
