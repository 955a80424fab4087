"""The real GPU with everything that measures it; its tests are skipped where there is none."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from roofprobe.probes.measure import Policy
from roofprobe.probes.session import Session
from roofprobe.records.schema import Case, Device, Measurement

POLICY = Policy(batch_s=0.001, warmup_s=0.05, min_time_s=0.05, max_time_s=0.3, search_s=1.0)


@pytest.fixture(scope="session")
def gpu() -> Device:
    """Give the first GPU as it describes itself."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("torch sees no CUDA or ROCm device")
    from roofprobe.probes.backends import CudaBackend

    return CudaBackend().describe(0)


@pytest.fixture(scope="session")
def session(gpu: Device) -> Session:
    """Give the GPU opened as a worker opens it: timer, telemetry and clock as it has them."""
    from roofprobe.probes import worker

    return worker.opened(gpu, seed=0)


@pytest.fixture
def measure(session: Session) -> Callable[[Case], Measurement]:
    """Give a function that measures a case on the GPU, telemetry included."""
    from roofprobe.probes.execute import measure_case

    def measured(case: Case) -> Measurement:
        return measure_case(case, POLICY, session)

    return measured
