"""Which calibration is planned with: a file's, a catalogue GPU's, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import roofprobe
from roofprobe.costmodel.calibration import default_calibration
from roofprobe.costmodel.calibration_file import (
    CalibrationFile,
    calibration_bytes,
    read_calibration,
)
from roofprobe.costmodel.planner import choose_calibration
from roofprobe.records.errors import RoofprobeError


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    h100 = default_calibration("H100 SXM")
    path = tmp_path_factory.mktemp("calibration") / "calibration.json"
    document = CalibrationFile(devices=(h100.device,), provenance=h100.provenance)
    path.write_bytes(calibration_bytes(document))
    return path


def code_of(calibration: Path, gpu: str | None = None) -> str:
    with pytest.raises(RoofprobeError) as error:
        choose_calibration(calibration, gpu)
    assert error.value.exit_code == 2
    return error.value.code


def test_a_file_plans_like_what_it_was_written_from(file: Path) -> None:
    by_file, by_name, by_both = (
        roofprobe.plan("llama-3.1-8b", **device)
        for device in (
            {"calibration": file},
            {"gpu": "H100 SXM"},
            {"calibration": file, "gpu": "H100 SXM"},
        )
    )
    assert by_file == by_both
    assert by_file["tpot_ms"]["median"] == pytest.approx(by_name["tpot_ms"]["median"], rel=1e-6)


def test_a_plan_by_a_disturbed_calibration_says_so(file: Path, tmp_path: Path) -> None:
    document = read_calibration(file)
    note = "others had the processor during 12 of 20 measured operations"
    devices = tuple(d.model_copy(update={"notes": (note,)}) for d in document.devices)
    disturbed = tmp_path / "calibration.json"
    disturbed.write_bytes(calibration_bytes(document.model_copy(update={"devices": devices})))
    found = roofprobe.plan("llama-3.1-8b", calibration=disturbed)
    assert found["calibration"].endswith(
        ". Others had the processor during 12 of 20 measured operations."
    )


def test_a_calibration_of_another_device_is_refused(file: Path) -> None:
    assert code_of(file, "A100 SXM 80G") == "other-device"
    assert code_of(file, "Voodoo 2") == "unknown-accelerator"


def test_a_calibration_of_another_schema_is_refused(file: Path, tmp_path: Path) -> None:
    document = json.loads(file.read_bytes())
    for change, code in (
        ({"schema_version": 999}, "newer-schema"),
        ({"format": "other"}, "not-a-calibration"),
        ({"devices": [{"name": 3}]}, "damaged-calibration"),
    ):
        changed = tmp_path / f"{code}.json"
        changed.write_text(json.dumps({**document, **change}))
        assert code_of(changed) == code
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    assert code_of(broken) == "not-a-calibration"
    assert code_of(tmp_path / "none.json") == "not-a-calibration"


def test_a_calibration_without_operations_is_refused(file: Path, tmp_path: Path) -> None:
    document = json.loads(file.read_bytes())
    document["devices"][0]["ops"] = []
    bare = tmp_path / "calibration.json"
    bare.write_text(json.dumps(document))
    assert code_of(bare) == "not-calibrated"
    assert code_of(tmp_path) == "not-calibrated"


def test_classes_that_no_table_timed_are_borrowed_and_said(file: Path, tmp_path: Path) -> None:
    document = json.loads(file.read_bytes())
    (device,) = document["devices"]
    device["ops"] = [op for op in device["ops"] if op["op"] in ("gemm", "attention_decode")]
    device["ops"] = [op for op in device["ops"] if op["precision"] == "bf16"]
    table = tmp_path / "table.json"
    table.write_text(json.dumps(document))
    whole, few = (
        roofprobe.plan("llama-3.1-8b", calibration=one, tp=2, concurrency=4)
        for one in (file, table)
    )
    assert few["tpot_ms"] == whole["tpot_ms"]
    assert set(few["out_of_range"]) >= set(whole["out_of_range"])
    with pytest.raises(RoofprobeError, match="fp8 was never measured"):
        roofprobe.plan("llama-3.1-8b", calibration=table, precision="fp8")


def test_fp8_of_a_model_published_in_fp8_blocks_is_that() -> None:
    found = roofprobe.plan("deepseek-v3", gpu="H200", precision="fp8", tp=8)
    assert found["precision"] == "fp8-block"


def test_weight_only_formats_borrow_the_wide_product_and_say_so() -> None:
    found = roofprobe.plan("gpt-oss-120b", gpu="H100 SXM")
    assert found["precision"] == "int4"
    assert any("stand in" in sentence for sentence in found["out_of_range"])
    wide = roofprobe.plan("gpt-oss-120b", gpu="H100 SXM", precision="bf16", tp=4)
    assert found["tpot_ms"]["median"] < 4 * wide["tpot_ms"]["median"]
