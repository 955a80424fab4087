"""Every GPU of the catalogue is timed with the nearest relative's constants, and told so."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from roofprobe.costmodel.calibration import FLAGS, default_calibration
from roofprobe.costmodel.correction import flags_of
from roofprobe.costmodel.defaults import default_device, fitted, published
from roofprobe.costmodel.forms import OP_CLASSES
from roofprobe.peaks.catalogue import load

PRODUCT: dict[str, Any] = {"m": 16, "n": 4096, "k": 4096}
DECODE: dict[str, Any] = {"batch": 8, "kv_len": 4096, "heads": 32, "kv_heads": 8, "head_dim": 128}


def codes(gpu: str, op: str, precision: str, **shape: Any) -> set[str]:
    found = default_calibration(gpu).time(op, precision, **shape)
    return {flag.code for flag in flags_of(int(found.flags))}


def test_a_gpu_with_a_fit_of_its_own_uses_it_unflagged() -> None:
    assert codes("H100 SXM", "gemm", "bf16", m=64, n=4096, k=4096) == set()
    fit = default_calibration("H100 SXM").fits("gemm", "bf16")[0]
    assert "h100_sxm" in fit.provenance
    assert fit.held_out is not None
    assert fit.held_out.median < 0.07


@pytest.mark.parametrize(
    ("gpu", "expected"), [("H100 NVL", {"sibling"}), ("A40", {"generic"}), ("B300", {"generic"})]
)
def test_borrowed_constants_are_flagged_and_wider(gpu: str, expected: set[str]) -> None:
    assert codes(gpu, "gemm", "bf16", m=64, n=4096, k=4096) == expected
    own = default_calibration("H100 SXM").time("gemm", "bf16", m=64, n=4096, k=4096)
    other = default_calibration(gpu).time("gemm", "bf16", m=64, n=4096, k=4096)
    assert other.log_spread > own.log_spread


def test_what_nobody_fitted_here_is_a_published_fit() -> None:
    assert "published-fit" in codes("H100 SXM", "all_reduce", "bf16", bytes=1 << 20, ranks=8)
    grouped = {"experts": 128, "topk": 8, "hidden": 2048, "inter": 768, "local_experts": 128}
    assert codes("H100 SXM", "grouped_gemm", "bf16", tokens=64, **grouped) >= {"published-fit"}


def test_every_accelerator_with_peaks_times_a_product_and_decode() -> None:
    for row in load():
        calibration = default_calibration(row.key)
        for op, shape in (("gemm", PRODUCT), ("attention_decode", DECODE)):
            for precision in ("bf16", "fp16"):
                if calibration.supports(op, precision) is None:
                    found = calibration.time(op, precision, **shape)
                    assert 0 < found.median_s < 0.1
                    assert 0 < found.log_spread < 3


def test_the_same_product_is_faster_on_a_faster_gpu() -> None:
    times = [
        float(default_calibration(gpu).time("gemm", "bf16", m=4096, n=8192, k=8192).median_s)
        for gpu in ("B200", "H100 SXM", "A100 SXM 80GB")
    ]
    assert times == sorted(times)


def test_decode_grows_with_context_and_batch() -> None:
    calibration = default_calibration("H200")
    kv = np.array([1024, 8192, 65536])
    found = calibration.time("attention_decode", "bf16", **{**DECODE, "kv_len": kv})
    assert (np.diff(found.median_s) > 0).all()


def test_every_constant_has_a_source() -> None:
    for gpu in ("H100 SXM", "L40S", "T4"):
        device, provenance = default_device(gpu)
        assert {fit.provenance for fit in device.ops} == {one.key for one in provenance}
        assert all(one.locator for one in provenance)


def test_defaults_hold_no_table_and_known_flags() -> None:
    for one in (*fitted().learnt, *published()[0]):
        assert one.fit.sites == ()
        assert one.fit.op in OP_CLASSES
        assert set(one.fit.flags) <= {flag.code for flag in FLAGS.values()}
