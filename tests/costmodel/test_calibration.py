"""A calibration times what was measured or borrowed, says how sure it is, and refuses the rest."""

from __future__ import annotations

import numpy as np
import pytest

from roofprobe.costmodel.calibration import FLAGS, default_calibration
from roofprobe.records.errors import RoofprobeError


def test_times_are_arrays_of_the_broadcast_shape() -> None:
    found = default_calibration("H100 SXM").time(
        "gemm", "bf16", m=np.array([1.0, 64, 4096]), n=4096, k=4096
    )
    assert found.median_s.shape == found.log_spread.shape == found.flags.shape == (3,)
    assert (np.diff(found.median_s) > 0).all()
    assert (found.p10_s < found.median_s).all()
    assert (found.p90_s > found.median_s).all()


def test_nothing_is_faster_than_the_physical_bound() -> None:
    calibration = default_calibration("H200")
    m = np.array([1.0, 1 << 15])
    found = calibration.time("gemm", "bf16", m=m, n=1 << 14, k=1 << 14)
    flops = 2 * m * (1 << 28)
    assert (found.median_s >= flops / calibration.hardware.peak_flops["bf16"]).all()
    assert found.median_s[0] >= 2 * (1 << 28) / 4.8e12


def test_one_rank_has_nothing_to_reduce() -> None:
    found = default_calibration("H100 SXM").time(
        "all_reduce", "bf16", bytes=1 << 20, ranks=np.array([1, 2])
    )
    assert found.median_s[0] == 0
    assert found.median_s[1] > 4e-6


def test_a_precision_without_a_peak_is_refused_with_a_sentence() -> None:
    reason = default_calibration("A100 SXM 80GB").supports("gemm", "fp8")
    assert reason is not None
    assert reason.code == "no-peak"
    with pytest.raises(RoofprobeError, match="no known dense peak for fp8"):
        default_calibration("A100 SXM 80GB").time("gemm", "fp8", m=64, n=4096, k=4096)


def test_an_unknown_operation_and_wrong_keywords_are_told() -> None:
    calibration = default_calibration("H100 SXM")
    reason = calibration.supports("conv2d", "bf16")
    assert reason is not None
    assert reason.code == "unknown-op"
    with pytest.raises(ValueError, match="gemm takes m, n, k; got m"):
        calibration.time("gemm", "bf16", m=1)


def test_an_unknown_gpu_is_one_sentence() -> None:
    with pytest.raises(RoofprobeError, match="No accelerator is called"):
        default_calibration("H1000")


def test_flags_are_single_bits_with_a_code_of_their_own() -> None:
    assert all(bit & (bit - 1) == 0 for bit in FLAGS)
    assert len({flag.code for flag in FLAGS.values()}) == len(FLAGS)
