"""TPS = f(model size, input, output, QPS, latency bound, precision, GPUs, acceleration)."""

from __future__ import annotations

import pytest

from roofprobe.costmodel.calibration import Calibration, default_calibration
from roofprobe.costmodel.throughput import shape_of_size, throughput
from roofprobe.costmodel.weights import parameters
from roofprobe.records.errors import RoofprobeError


@pytest.fixture(scope="module")
def h100() -> Calibration:
    return default_calibration("H100 SXM")


def test_a_light_load_is_served_as_offered(h100: Calibration) -> None:
    found = throughput("llama-3.1-8b", 1000, 200, calibration=h100, qps=0.5)
    assert found.tokens_per_second == 0.5 * 200
    assert found.capacity_tokens_per_second > 1000
    full = throughput("llama-3.1-8b", 1000, 200, calibration=h100)
    assert full.tokens_per_second == full.capacity_tokens_per_second
    assert found.concurrency < full.concurrency
    assert found.tpot_s < full.tpot_s


def test_a_latency_bound_costs_throughput(h100: Calibration) -> None:
    free = throughput("llama-3.1-8b", 1000, 200, calibration=h100)
    bound = throughput("llama-3.1-8b", 1000, 200, calibration=h100, tpot_ms=9.0)
    assert bound.tpot_s <= 0.009
    assert bound.capacity_tokens_per_second < free.capacity_tokens_per_second
    with pytest.raises(RoofprobeError) as error:
        throughput("llama-3.1-8b", 1000, 200, calibration=h100, tpot_ms=0.1)
    assert error.value.code == "none-meets"


def test_more_gpus_fewer_bits_and_acceleration_serve_more(h100: Calibration) -> None:
    def capacity(**more: float | str) -> float:
        asked: dict[str, object] = {"calibration": h100, **more}
        found = throughput("llama-3.1-8b", 1000, 200, **asked)  # type: ignore[arg-type]
        return found.capacity_tokens_per_second

    one = capacity()
    assert capacity(gpus=4) == pytest.approx(4 * one, rel=0.1)
    assert capacity(precision="fp8") > one
    assert capacity(acceleration=2.0) > one


def test_acceleration_divides_the_time_per_token(h100: Calibration) -> None:
    plain, fast = (
        throughput("llama-3.1-8b", 1000, 200, calibration=h100, qps=0.01, acceleration=a)
        for a in (1.0, 2.5)
    )
    assert fast.tpot_s == pytest.approx(plain.tpot_s / 2.5)


@pytest.mark.parametrize("size", [1e9, 13e9, 70e9, 175e9])
def test_a_size_alone_becomes_a_dense_model_of_that_size(size: float) -> None:
    shape = shape_of_size(size)
    assert parameters(shape) == pytest.approx(size, rel=0.05)
    assert shape.approximate is not None
    assert "size only" in shape.approximate


def test_a_size_that_is_none_is_refused(h100: Calibration) -> None:
    for size in (0.0, float("nan"), 1e20):
        with pytest.raises(RoofprobeError):
            throughput(size, 10, 10, calibration=h100)
    with pytest.raises(RoofprobeError):
        throughput("llama-3.1-8b", 10, 10, calibration=h100, qps=0)
