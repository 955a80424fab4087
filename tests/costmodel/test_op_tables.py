"""Tables of others are read as they are, told what is missing, and never guessed at."""

from __future__ import annotations

import gzip
from pathlib import Path

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofprobe.costmodel.op_tables import device_key, read_table
from roofprobe.costmodel.table_files import MOST_BYTES
from roofprobe.records.errors import RoofprobeError

DATA = Path(__file__).parent / "data"
ROW = "NVIDIA H200,vllm,1,gemm,kern,bfloat16,{m},4096,4096,{t}\n"
HEAD = "device,framework,version,op_name,kernel_source,gemm_dtype,m,n,k,{unit}\n"


def table(tmp_path: Path, text: str, name: str = "t.csv") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def test_a_table_is_grouped_by_gpu_framework_and_kernel() -> None:
    found = read_table(DATA / "gemm.csv").points
    assert [(p.device, p.framework, len(p)) for p in found] == [
        ("nvidia_a100_sxm4_80gb", "VLLM 0.14.0", 18),
        ("nvidia_h100_sxm5_80gb", "SGLang 0.5.14", 12),
        ("nvidia_h100_sxm5_80gb", "VLLM 0.24.0", 84),
    ]
    assert {p.precision for p in found} == {"bf16"}
    assert len(found[2].sites()[0]) == 14


def test_attention_rows_become_prefill_and_decode() -> None:
    prefill, decode = read_table(DATA / "attention.csv").points
    assert (prefill.op, decode.op) == ("attention_prefill", "attention_decode")
    assert (prefill.shape["query_len"] == prefill.shape["kv_len"]).all()
    assert set(decode.shape["kv_len"]) == {128, 1024, 8192}  # the step before, and this token
    assert decode.kv_precision == "bf16"


@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet"])
def test_compressed_and_parquet_tables_read_the_same(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"t{suffix}"
    if suffix == ".parquet":
        with duckdb.connect() as connection:
            frame = connection.read_csv(str(DATA / "gemm.csv"))
            frame.write_parquet(str(path))
    else:
        path.write_bytes(gzip.compress((DATA / "gemm.csv").read_bytes()))
    plain, other = read_table(DATA / "gemm.csv").points, read_table(path).points
    assert [len(p) for p in plain] == [len(p) for p in other]
    assert sorted(plain[2].latency_s) == sorted(other[2].latency_s)


def test_the_unit_is_the_columns(tmp_path: Path) -> None:
    ms = table(tmp_path, HEAD.format(unit="latency_ms") + ROW.format(m=1, t=0.5), "ms.csv")
    us = table(tmp_path, HEAD.format(unit="latency_us") + ROW.format(m=1, t=500), "us.csv")
    assert read_table(ms).points[0].latency_s == pytest.approx([5e-4])
    assert read_table(us).points[0].latency_s == pytest.approx([5e-4])
    bare = table(tmp_path, HEAD.format(unit="latency") + ROW.format(m=1, t=1), "bare.csv")
    with pytest.raises(RoofprobeError, match="no unit"):
        read_table(bare)


def test_missing_times_and_duplicates_are_left_out_and_told(tmp_path: Path) -> None:
    rows = [(1, 0.1), (1, 0.2), (2, "nan"), (4, ""), (8, -1), (16, 0.3)]
    text = HEAD.format(unit="latency_ms") + "".join(ROW.format(m=m, t=t) for m, t in rows)
    found = read_table(table(tmp_path, text))
    assert found.points[0].shape["m"].tolist() == [1, 16]
    assert found.points[0].latency_s == pytest.approx([1e-4, 3e-4])  # the first of the two
    assert found.notes == (
        "t.csv: 3 rows of gemm left out: no time, or no positive size",
        "t.csv: 1 rows of gemm are duplicates: the first of each counts",
    )


@pytest.mark.parametrize("gone", ["k", "latency_ms", "gemm_dtype"])
def test_missing_columns_are_named(tmp_path: Path, gone: str) -> None:
    frame = pd.read_csv(DATA / "gemm.csv").drop(columns=gone)
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(RoofprobeError, match=gone):
        read_table(path)


def test_a_table_that_does_not_tell_its_gpu_asks_for_it(tmp_path: Path) -> None:
    frame = pd.read_csv(DATA / "gemm.csv").drop(columns=["device", "system", "source"])
    path = tmp_path / "t.csv"
    frame.to_csv(path, index=False)
    with pytest.raises(RoofprobeError, match="--gpu NAME"):
        read_table(path)
    assert read_table(path, gpu="nvidia_l4").points[0].device == "nvidia_l4"


def test_tables_of_kinds_have_heads_in_their_key_and_formats_from_utilisation(
    tmp_path: Path,
) -> None:
    m, n, k, seconds = 4096, 6144, 4096, 9e-4
    mfu = 2 * m * n * k / seconds / 296e12
    text = (
        "table,shape_key,m,n,k,batch_size,kv_len,dtype,kv_dtype,latency_us,mfu,source\n"
        f"gemm/h20,data,{m},{n},{k},,,,,{seconds * 1e6},{mfu},x:bench/gemm/h20/data.csv\n"
        "mha/decode,32-8-128,,,,4,1024,bf16,fp8,30,,x:bench/mha/decode/h20/32-8-128.csv\n"
        "odd/kind,1,,,,,,,,5,,x:bench/odd/h20/1.csv\n"
    )
    found = read_table(table(tmp_path, text))
    gemm, decode = found.points
    assert (gemm.device, gemm.precision) == ("nvidia_h20_96gb", "fp8-block")
    assert {name: values.tolist() for name, values in decode.shape.items()} == {
        "batch": [4], "kv_len": [1024], "heads": [32], "kv_heads": [8], "head_dim": [128],
    }  # fmt: skip
    assert decode.kv_precision == "fp8"
    assert found.notes == ("t.csv: 1 rows of kinds not modelled (odd/kind)",)


def test_up_and_down_projections_are_added(tmp_path: Path) -> None:
    text = (
        "table,num_experts,num_gpus,num_local_experts,topk,hidden_size,intermediate_size,"
        "batch_size_per_gpu,up_proj_us,down_proj_us,source\n"
        "grouped_gemm/decode/h800,256,2,128,8,7168,2048,32,100,50,x\n"
    )
    (points,) = read_table(table(tmp_path, text)).points
    assert points.latency_s == pytest.approx([150e-6])
    assert points.shape["tokens"].tolist() == [64]
    assert points.device == "nvidia_h800_sxm5_80gb"


@pytest.mark.parametrize(
    ("words", "key"),
    [
        (("NVIDIA H100 80GB HBM3", ""), "nvidia_h100_sxm5_80gb"),
        (("", "b200_sxm"), "nvidia_b200"),
        (("", "", "a/b/h800/c"), "nvidia_h800_sxm5_80gb"),
        (("NVIDIA Nonesuch", ""), None),
    ],
)
def test_gpus_are_recognised_by_name_system_or_folder(words: tuple[str, ...], key: str) -> None:
    assert device_key(*words) == key


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.parquet"])
@settings(max_examples=30, deadline=None)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_a_table_or_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("t") / name
    path.write_bytes(data)
    with pytest.raises(RoofprobeError):
        read_table(path)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.lists(
        st.tuples(
            st.one_of(st.floats(), st.text(max_size=5), st.integers()),
            st.one_of(st.floats(), st.text(max_size=5)),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_odd_cells_never_become_points(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[object, object]]
) -> None:
    path = tmp_path_factory.mktemp("t") / "t.csv"
    frame = pd.DataFrame(
        {
            "device": "NVIDIA H200", "gemm_dtype": "bfloat16", "m": [m for m, _ in rows],
            "n": 64, "k": 64, "latency_ms": [t for _, t in rows],
        }
    )  # fmt: skip
    frame.to_csv(path, index=False)
    try:
        found = read_table(path).points
    except RoofprobeError:
        return
    for points in found:
        assert np.isfinite(points.latency_s).all()
        assert (points.latency_s > 0).all()
        assert (points.shape["m"] > 0).all()


def test_an_archive_that_unpacks_to_more_than_memory_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"0" * (MOST_BYTES + 2), compresslevel=1))
    assert path.stat().st_size < 4 << 20
    with pytest.raises(RoofprobeError, match="unpacks to more than 256 MiB"):
        read_table(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("op_name,m, m\ngemm,1,2\n", "column 'm' twice"),
        ("op_name,m\ngemm,1,2,3\n", "more cells than its first line"),
        (",".join(f"c{n}" for n in range(1001)), "more than 1,000 columns"),
    ],
)
def test_tables_with_odd_columns_are_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RoofprobeError, match=words):
        read_table(table(tmp_path, text))


def test_a_name_with_wildcards_is_a_name(tmp_path: Path) -> None:
    path = tmp_path / "a[1]*?.parquet"
    with duckdb.connect() as connection:
        connection.read_csv(str(DATA / "gemm.csv")).write_parquet(str(path))
    assert read_table(path).points


def test_a_number_beyond_any_float_is_no_time(tmp_path: Path) -> None:
    text = HEAD.format(unit="latency_ms") + ROW.format(m=1, t="9" * 400) + ROW.format(m=2, t=0.1)
    assert read_table(table(tmp_path, text)).points[0].shape["m"].tolist() == [2]
