"""A calibration of the H100 table that is part of the tests, and one like a processor's."""

from __future__ import annotations

import json
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from roofprobe.costmodel.calibrate import calibrate
from roofprobe.costmodel.calibration_file import calibration_bytes
from roofprobe.costmodel.exporters.subject import Subject, read_subject
from roofprobe.costmodel.fit import Settings

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture(scope="session")
def h100_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write the calibration of the published H100 slice."""
    outcome = calibrate(
        [DATA / "gemm.csv", DATA / "attention.csv"],
        gpu="H100 SXM",
        framework="VLLM",
        settings=Settings(splits=2),
    )
    file = tmp_path_factory.mktemp("h100") / "calibration.json"
    file.write_bytes(calibration_bytes(outcome.file))
    return file


@pytest.fixture(scope="session")
def h100(h100_file: Path) -> Subject:
    """Give the H100 slice to export."""
    return read_subject(h100_file)


@pytest.fixture(scope="session")
def cpu_file(h100_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a calibration of a device outside the catalogue that computes in fp32, linkless."""
    document = json.loads(h100_file.read_text())
    device = document["devices"][0]
    device.update(name="Example CPU", device_id="cpu")
    device.pop("catalogue_key")
    device["ceilings"].pop("link")
    for fit in device["ops"]:
        fit["precision"] = "fp32"
        if "kv_precision" in fit:
            fit["kv_precision"] = "fp32"
    norm = {**device["ops"][0], "op": "rmsnorm", "memory_efficiency": 0.5, "t0_us": 2.0,
            "sites": [], "domain": {}, "terms": {}}  # fmt: skip
    norm.pop("kriging")
    norm["intervals"] = {**norm["intervals"], "axis": ["rows", "width"]}
    others = [{**norm, "op": op} for op in ("rope", "silu_mul", "sample", "quantize")]
    device["ops"] += [norm, *others]
    file = tmp_path_factory.mktemp("cpu") / "calibration.json"
    file.write_text(json.dumps(document))
    return file


@pytest.fixture(scope="session")
def cpu(cpu_file: Path) -> Subject:
    """Give the processor-like calibration to export."""
    return read_subject(cpu_file)


@pytest.fixture
def parquet(tmp_path: Path) -> object:
    """Give a reader of Parquet bytes: a frame and DuckDB's types in order."""

    def read(content: bytes) -> tuple[pd.DataFrame, dict[str, str]]:
        file = tmp_path / "t.parquet"
        file.write_bytes(content)
        with duckdb.connect() as connection:
            rows = connection.execute(f"DESCRIBE SELECT * FROM '{file}'").fetchall()
            frame = connection.read_parquet(str(file)).df()
        return frame, {row[0]: row[1] for row in rows}

    return read
