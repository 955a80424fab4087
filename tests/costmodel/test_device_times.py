from __future__ import annotations

import doctest
from pathlib import Path

import numpy as np
import pytest

import roofprobe
from roofprobe.costmodel.calibrate import calibrate
from roofprobe.costmodel.calibration_file import calibration_bytes
from roofprobe.costmodel.device_times import DeviceTimes
from roofprobe.costmodel.fit import Settings
from roofprobe.records.errors import RoofprobeError

ROOT = Path(__file__).parents[2]
DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    outcome = calibrate(
        [DATA / "gemm.csv", DATA / "attention.csv"],
        gpu="H100 SXM", framework="VLLM", settings=Settings(splits=2),
    )  # fmt: skip
    made = tmp_path_factory.mktemp("times")
    (made / "calibration.json").write_bytes(calibration_bytes(outcome.file))
    return made


@pytest.fixture(scope="module")
def times(folder: Path) -> DeviceTimes:
    return roofprobe.load_calibration(folder)


def test_time_takes_arrays_and_gives_seconds_with_an_interval(times: DeviceTimes) -> None:
    found = times.time("gemm", m=[[1], [64]], n=6144, k=[2048, 4096])
    assert found.median_s.shape == (2, 2)
    assert np.all(found.p10_s < found.median_s)
    assert np.all(found.median_s < found.p90_s)


def test_efficiency_is_work_over_time(times: DeviceTimes) -> None:
    seconds = times.time("gemm", m=4096, n=8192, k=8192).median_s
    found = times.efficiency("gemm", m=4096, n=8192, k=8192)
    assert found.compute == pytest.approx(2 * 4096 * 8192 * 8192 / 989.4e12 / seconds)
    moved = 2 * (4096 * 8192 + 8192 * 8192 + 4096 * 8192)
    assert found.memory == pytest.approx(moved / 3.35e12 / seconds)
    assert found.memory < found.compute < 1


def test_of_a_collective_the_link_counts(times: DeviceTimes) -> None:
    found = times.efficiency("all_reduce", bytes=1e9, ranks=8)
    assert found.compute == 0
    assert 0.6 < found.memory < 0.67


def test_what_was_never_timed_is_filled_and_said(times: DeviceTimes) -> None:
    assert "published fit" in " ".join(times.reasons(times.time("rmsnorm", rows=8, width=4096)))
    assert times.reasons(times.time("gemm", m=64, n=8192, k=8192)) == ()


def test_what_cannot_be_timed_gives_one_sentence(times: DeviceTimes) -> None:
    with pytest.raises(RoofprobeError, match="no operation 'conv'"):
        times.time("conv", m=1)


def test_a_loaded_calibration_plans(times: DeviceTimes, folder: Path) -> None:
    mine = roofprobe.plan("llama-3.1-8b", calibration=times, batch=8)
    assert mine == roofprobe.plan("llama-3.1-8b", calibration=folder, batch=8)
    assert "gemm, attention_prefill, attention_decode from op tables" in mine["calibration"]


def test_the_documented_examples_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    found = doctest.testfile(
        str(ROOT / "docs" / "planners.md"), module_relative=False, optionflags=doctest.ELLIPSIS
    )
    assert found.attempted > 5
    assert found.failed == 0
