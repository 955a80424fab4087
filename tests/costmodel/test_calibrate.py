"""Tables become a calibration that times what they hold, and wrong ones are refused."""

from __future__ import annotations

from pathlib import Path

import jsonschema
import numpy as np
import pandas as pd
import pytest

from roofprobe.costmodel.calibrate import Outcome, calibrate
from roofprobe.costmodel.calibration import FLAGS, Calibration, load_calibration
from roofprobe.costmodel.calibration_file import (
    calibration_bytes,
    calibration_json_schema,
    read_calibration,
)
from roofprobe.costmodel.correction import flags_of
from roofprobe.costmodel.fit import Settings
from roofprobe.records.errors import RoofprobeError

DATA = Path(__file__).parent / "data"
QUICK = Settings(splits=4)
SEVERAL = ("nvidia_a100_sxm4_80gb", "nvidia_h100_sxm5_80gb")


@pytest.fixture(scope="module")
def outcome() -> Outcome:
    return calibrate([DATA / "gemm.csv", DATA / "attention.csv"], settings=QUICK)


@pytest.fixture(scope="module")
def h100(outcome: Outcome, tmp_path_factory: pytest.TempPathFactory) -> Calibration:
    path = tmp_path_factory.mktemp("c") / "calibration.json"
    path.write_bytes(calibration_bytes(outcome.file))
    return load_calibration(path, device="NVIDIA H100 SXM5 80GB")


def test_each_gpu_of_the_tables_is_a_device(outcome: Outcome) -> None:
    assert tuple(sorted(d.catalogue_key or "" for d in outcome.file.devices)) == SEVERAL
    ops = {(d.name, f.op) for d in outcome.file.devices for f in d.ops}
    assert ("NVIDIA H100 SXM5 80GB", "attention_decode") in ops
    assert ("NVIDIA A100 SXM4 80GB", "gemm") in ops


def test_the_most_complete_framework_counts_and_the_other_is_told(outcome: Outcome) -> None:
    fits = [f for d in outcome.file.devices for f in d.ops if f.op == "gemm"]
    assert {f.framework for f in fits} == {"VLLM 0.14.0", "VLLM 0.24.0"}
    assert "gemm: VLLM 0.24.0 counts, not SGLang 0.5.14" in outcome.notes


def test_another_framework_can_be_asked_for() -> None:
    found = calibrate([DATA / "gemm.csv"], gpu="H100 SXM", framework="sglang", settings=QUICK)
    (device,) = found.file.devices
    assert [f.framework for f in device.ops] == ["SGLang 0.5.14"]
    with pytest.raises(RoofprobeError, match="no source has timings of framework 'nonesuch'"):
        calibrate([DATA / "gemm.csv"], framework="nonesuch", settings=QUICK)


def test_the_file_is_what_its_schema_says_and_comes_back(outcome: Outcome, tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_bytes(calibration_bytes(outcome.file))
    assert read_calibration(path) == outcome.file
    jsonschema.validate(outcome.file.model_dump(mode="json", exclude_none=True),
                        calibration_json_schema())  # fmt: skip


def test_measured_points_are_predicted_closely(h100: Calibration) -> None:
    rows = pd.read_csv(DATA / "gemm.csv").query("system == 'h100_sxm' and framework == 'VLLM'")
    found = h100.time("gemm", "bf16", m=rows.m.to_numpy(), n=rows.n.to_numpy(), k=rows.k.to_numpy())
    off = np.abs(np.log(found.median_s / (rows.latency_ms.to_numpy() * 1e-3)))
    assert np.median(off) < 0.05
    assert (off < found.log_spread).mean() > 0.8


def test_errors_are_held_out_by_site(outcome: Outcome) -> None:
    (fit,) = (
        f for d in outcome.file.devices for f in d.ops if f.op == "gemm" and len(f.sites) == 14
    )
    assert fit.held_out is not None
    assert "4 of 14 sites held out" in fit.held_out.protocol
    assert 0.01 < fit.held_out.median < 0.10


def test_what_lies_outside_is_flagged_and_wider(h100: Calibration) -> None:
    found = h100.time(
        "gemm", "bf16", m=np.array([64, 1 << 16, 64]), n=np.array([4096, 4096, 1 << 19]), k=4096
    )
    codes = [{flag.code for flag in flags_of(mask)} for mask in found.flags.tolist()]
    assert codes == [set(), {"size-range"}, {"far-site"}]
    assert found.log_spread[1] > found.log_spread[0]
    assert all(bit in FLAGS for bit in (1, 2))


def test_precisions_never_measured_are_refused(h100: Calibration) -> None:
    reason = h100.supports("gemm", "fp8")
    assert reason is not None
    assert reason.code == "not-measured"
    decode = h100.supports("attention_decode", "bf16", "fp8")
    assert decode is not None
    assert "KV cache in fp8 was never measured" in decode.sentence
    assert h100.supports("attention_decode", "bf16", "bf16") is None


@pytest.mark.parametrize(
    ("factor", "why"), [(1e-3, "faster than the datasheet"), (1e3, "another unit")]
)
def test_a_wrong_unit_is_refused_with_a_sentence(tmp_path: Path, factor: float, why: str) -> None:
    frame = pd.read_csv(DATA / "gemm.csv")
    frame["latency_ms"] *= factor
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(RoofprobeError, match=why):
        calibrate([path], settings=QUICK)


def test_a_single_impossible_row_is_left_out_and_told(tmp_path: Path) -> None:
    frame = pd.read_csv(DATA / "gemm.csv").query("system == 'h100_sxm' and framework == 'VLLM'")
    frame.loc[frame.index[0], "latency_ms"] *= 1e-3
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    found = calibrate([path], settings=QUICK)
    assert any("1 rows faster than the peak allows" in note for note in found.notes)


def test_a_gpu_that_no_source_has_is_told() -> None:
    with pytest.raises(RoofprobeError, match="no source has timings of H200"):
        calibrate([DATA / "gemm.csv"], gpu="H200", settings=QUICK)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "not-a-calibration"),
        ('{"format": "other"}', "not-a-calibration"),
        ('{"format": "roofprobe-calibration", "schema_version": 9}', "newer-schema"),
        ('{"format": "roofprobe-calibration", "devices": 1}', "damaged-calibration"),
    ],
)
def test_files_that_are_none_are_one_sentence(tmp_path: Path, text: str, code: str) -> None:
    path = tmp_path / "c.json"
    path.write_text(text)
    with pytest.raises(RoofprobeError) as caught:
        read_calibration(path)
    assert caught.value.code == code
