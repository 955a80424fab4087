from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from roofprobe.costmodel.calibrate import MOST_ROWS, thinned
from roofprobe.costmodel.exporters.parquet import parquet_bytes
from roofprobe.costmodel.points import Points
from roofprobe.costmodel.table_folders import tables_below
from roofprobe.costmodel.table_sets import read_tables
from roofprobe.records.errors import RoofprobeError

GEMM = "m,k,n,latency_us,mfu\n"
DECODE = "dtype,kv_dtype,batch_size,kv_len,latency_us,mfu\n"


def put(path: Path, content: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture
def bench(tmp_path: Path) -> Path:
    root = tmp_path / "InferSim" / "bench_data"
    # 2mnk / t / peak: 296 TFLOPS is the H20's FP8 peak.
    flops = 2 * 4096 * 6144 * 2048
    put(root / "gemm/h20/data.csv", GEMM + f"4096,2048,6144,{flops / 296e12 * 1e6 / 0.5},0.5\n")
    for heads in ("32-8-128", "64-8-128"):
        put(root / f"mha/decode/h20/{heads}.csv", DECODE + "bf16,bf16,1,1024,10,0.01\n")
    return tmp_path / "InferSim"


def test_paths_of_infersim_tell_operation_device_and_heads(bench: Path) -> None:
    gemm, decode = read_tables(bench).points
    assert (gemm.op, gemm.precision, gemm.device) == ("gemm", "fp8-block", "nvidia_h20_96gb")
    assert decode.op == "attention_decode"
    assert sorted(decode.shape["heads"]) == [32, 64], "files of one kernel belong together"
    assert decode.latency_s == pytest.approx([1e-5, 1e-5]), "microseconds"


def test_a_table_that_cannot_be_read_is_left_out_and_told(bench: Path) -> None:
    put(bench / "bench_data/mha/decode/h20/8-1-128.csv", "bf16,bf16,1,1024,25.4,0.009\n" * 2)
    table = read_tables(bench)
    assert len(table.points) == 2
    assert [note for note in table.notes if "8-1-128.csv has no time" in note]


def test_latency_without_a_unit_is_milliseconds_in_aiconfigurators_own_files(
    tmp_path: Path,
) -> None:
    columns: dict[str, tuple[str, list[object]]] = {
        **{name: ("text", [word] * 2) for name, word in (
            ("framework", "VLLM"), ("version", "0.24.0"), ("device", "NVIDIA H100 80GB HBM3"),
            ("op_name", "all_reduce"), ("kernel_source", "custom"),
            ("allreduce_dtype", "bfloat16"))},
        "num_gpus": ("integer", [4, 4]),
        "message_size": ("integer", [1024, 1024]),
        "latency": ("float", [0.25, 0.5]),
        "backend": ("text", ["vllm_graph", "vllm_eager"]),
    }  # fmt: skip
    file = tmp_path / "data/h100_sxm/comm/vllm/0.24.0/custom_allreduce_perf.parquet"
    put(file, parquet_bytes(columns))
    put(file.with_name("dsa_context_module_perf.parquet"), b"not read")
    table = read_tables(tmp_path)
    (points,) = table.points
    assert points.latency_s.tolist() == [0.25e-3]
    assert points.shape["bytes"].tolist() == [2048], "elements of two bytes"
    assert any("eager" in note for note in table.notes)
    assert any("dsa_context_module_perf" in note for note in table.notes)


def test_a_folder_without_tables_gives_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError, match="neither a run nor a folder of op tables"):
        tables_below(tmp_path)


def test_long_tables_are_thinned_the_same_way_each_time() -> None:
    m = np.arange(1.0, 2001.0)
    shape = {"m": m, "n": m, "k": m}
    points = Points("gemm", "bf16", None, "x", None, None, "s", shape, m)
    notes: list[str] = []
    first, second = thinned(points, notes), thinned(points, [])
    assert len(first) == MOST_ROWS
    assert first.latency_s.tolist() == second.latency_s.tolist()
    assert notes == ["gemm bf16 of s: 800 of 2,000 rows are taken"]
