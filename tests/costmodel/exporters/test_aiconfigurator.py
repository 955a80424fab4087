from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from roofprobe.costmodel.exporters import aiconfigurator
from roofprobe.costmodel.exporters.aiconfigurator_system import element_wise
from roofprobe.costmodel.exporters.files import Export
from roofprobe.costmodel.exporters.parquet import parquet_bytes
from roofprobe.costmodel.exporters.subject import Subject, read_subject
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.table_sets import read_tables

Reader = Callable[[bytes], tuple[pd.DataFrame, dict[str, str]]]
HEAD = ["framework", "version", "device", "op_name", "kernel_source"]
ATTENTION = [*HEAD, "batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim",
             "beam_width", "attn_dtype", "kv_cache_dtype", "step", "window_size",
             "latency"]  # fmt: skip
# The columns of aiconfigurator 0.12.0's own tables, in their order.
COLUMNS = {
    "gemm/vllm/0.24.0/gemm_perf": [*HEAD, "gemm_dtype", "m", "n", "k", "latency"],
    "attention/vllm/0.24.0/context_attention_perf": ATTENTION,
    "attention/vllm/0.24.0/generation_attention_perf": ATTENTION,
    "moe/vllm/0.24.0/moe_perf": [*HEAD, "moe_dtype", "num_tokens", "hidden_size", "inter_size",
                                 "topk", "num_experts", "moe_tp_size", "moe_ep_size",
                                 "distribution", "latency"],
    "comm/vllm/0.24.0/custom_allreduce_perf": [*HEAD, "allreduce_dtype", "num_gpus",
                                               "message_size", "latency", "backend"],
    "comm/nccl/2.27.3/nccl_perf": [*HEAD, "nccl_dtype", "num_gpus", "message_size", "latency"],
}  # fmt: skip
TEXTS = {*HEAD, "gemm_dtype", "attn_dtype", "kv_cache_dtype", "moe_dtype", "distribution",
         "allreduce_dtype", "backend", "nccl_dtype"}  # fmt: skip


@pytest.fixture(scope="module")
def tree(h100: Subject) -> Export:
    return aiconfigurator.export(h100)


def table(tree: Export, h100: Subject, name: str) -> bytes:
    return tree.files[f"data/{h100.label}/{name}.parquet"]


@pytest.mark.parametrize("name", COLUMNS)
def test_columns_stand_in_order_with_64_bit_types_and_no_gaps(
    tree: Export, h100: Subject, parquet: Reader, name: str
) -> None:
    frame, types = parquet(table(tree, h100, name))
    assert list(types) == COLUMNS[name]
    for column, kind in types.items():
        wanted = "VARCHAR" if column in TEXTS else "DOUBLE" if column == "latency" else "BIGINT"
        assert kind == wanted, column
    assert not frame.isna().any().any()
    assert (frame["latency"] > 0).all()
    keys = [column for column in frame.columns if column not in ("latency", "kernel_source")]
    assert not frame.duplicated(keys).any(), "the first of two rows would win silently"


def test_each_table_has_its_meta_beside_it(tree: Export, h100: Subject) -> None:
    for name in COLUMNS:
        folder, stem = name.rsplit("/", 1)
        meta = tree.files[f"data/{h100.label}/{folder}/collection_meta.yaml"].decode()
        assert meta.startswith("schema_version: 1\nprovenance: legacy\nruntime:\n")
        assert f"  {stem}:\n    status: complete\n" in meta


def test_latency_is_milliseconds_and_measured_rows_keep_their_time(
    tree: Export, h100: Subject, parquet: Reader
) -> None:
    frame, _ = parquet(table(tree, h100, "gemm/vllm/0.24.0/gemm_perf"))
    published = pd.read_csv(Path(__file__).parents[1] / "data" / "gemm.csv")
    published = published[published.framework == "VLLM"].query("system == 'h100_sxm'")
    both = published.merge(frame, on=["m", "n", "k"])
    assert len(both) == len(published) == 84
    off = np.abs(both["latency"] / both["latency_ms"] - 1)
    assert np.median(off) < 1e-3
    assert (off < 0.005).mean() > 0.9, "but for outliers, which calibrating pulls in"


def test_a_step_is_the_cache_before_the_new_token(
    tree: Export, h100: Subject, parquet: Reader
) -> None:
    frame, _ = parquet(table(tree, h100, "attention/vllm/0.24.0/generation_attention_perf"))
    where = "batch_size == 8 and num_heads == 16 and num_key_value_heads == 4 and step == 2047"
    row = frame.query(where).iloc[0]
    seconds = h100.calibration.time(
        "attention_decode", "bf16", batch=8, kv_len=2048, heads=16, kv_heads=4, head_dim=128
    ).median_s
    assert row["latency"] == pytest.approx(float(seconds) * 1e3)
    assert (frame["isl"] == 1).all()


@pytest.mark.parametrize(
    ("name", "where", "width"),
    [
        ("comm/vllm/0.24.0/custom_allreduce_perf", "allreduce_dtype == 'bfloat16'", 2),
        ("comm/nccl/2.27.3/nccl_perf", "op_name == 'all_reduce' and nccl_dtype == 'int8'", 1),
    ],
)
def test_messages_are_counted_in_elements(
    tree: Export, h100: Subject, parquet: Reader, name: str, where: str, width: int
) -> None:
    frame, _ = parquet(table(tree, h100, name))
    row = frame.query(f"{where} and num_gpus == 4 and message_size == 1048576").iloc[0]
    seconds = h100.calibration.time("all_reduce", "bf16", bytes=width * 1048576, ranks=4).median_s
    assert row["latency"] == pytest.approx(float(seconds) * 1e3)


def test_experts_go_by_the_routing_that_the_planner_falls_back_to(
    tree: Export, h100: Subject, parquet: Reader
) -> None:
    frame, _ = parquet(table(tree, h100, "moe/vllm/0.24.0/moe_perf"))
    assert set(frame["distribution"]) == {"uniform"}
    row = frame.query(
        "moe_dtype == 'bfloat16' and moe_tp_size == 8 and moe_ep_size == 1 and num_tokens == 64"
    ).iloc[0]
    seconds = h100.calibration.time(
        "grouped_gemm", "bf16", tokens=64, experts=8, topk=2, hidden=4096, inter=14336 // 8,
        local_experts=8,
    ).median_s  # fmt: skip
    assert row["inter_size"] == 14336, "the whole expert's, the planner divides"
    assert row["latency"] == pytest.approx(float(seconds) * 1e3)


def test_presets_come_as_folders_that_the_planner_reads(tree: Export) -> None:
    config = json.loads(tree.files["models/llama-2-70b/config.json"])
    assert config["architectures"] == ["LlamaForCausalLM"]
    again = load_model(config)
    preset = load_model("llama-2-70b")
    assert again.layer_sequence == preset.layer_sequence
    assert (again.hidden, again.vocab) == (preset.hidden, preset.vocab) == (8192, 32000)
    assert "models/mixtral-8x7b/config.json" in tree.files


def test_a_model_that_came_as_a_config_gets_none_written(h100_file: Path, tmp_path: Path) -> None:
    folder = tmp_path / "llama-2-70b"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({
        "model_type": "llama", "hidden_size": 256, "num_hidden_layers": 2, "vocab_size": 1000,
        "num_attention_heads": 8, "intermediate_size": 512,
    }))  # fmt: skip
    subject = read_subject(h100_file, models=(str(folder),))
    assert not [name for name in aiconfigurator.export(subject).files if "config.json" in name]


def test_latent_attention_is_told_to_have_no_tables(h100_file: Path) -> None:
    subject = read_subject(h100_file, models=("llama-3.1-8b", "deepseek-v3"), degrees=(8,))
    tree = aiconfigurator.export(subject)
    (note,) = [note for note in tree.notes if "latent" in note]
    assert note.startswith("deepseek-v3 ")
    assert "models/deepseek-v3/config.json" not in tree.files


def test_local_shapes_of_every_tensor_parallel_degree_are_there(
    tree: Export, h100: Subject, parquet: Reader
) -> None:
    gemm, _ = parquet(table(tree, h100, "gemm/vllm/0.24.0/gemm_perf"))
    known = set(zip(gemm["n"], gemm["k"], strict=True))
    for tp in (1, 2, 4, 8):
        for n, k in ((6144 // tp, 4096), (4096, 4096 // tp), (28672 // tp, 4096),
                     (4096, 14336 // tp), (128256 // tp, 4096)):  # fmt: skip
            assert (n, k) in known, (tp, n, k)
    heads, _ = parquet(table(tree, h100, "attention/vllm/0.24.0/generation_attention_perf"))
    local = set(zip(heads["num_heads"], heads["num_key_value_heads"], strict=True))
    assert {(32, 8), (16, 4), (8, 2), (4, 1), (64, 8), (8, 1)} <= local


def test_the_sidecar_says_of_every_row_whether_it_was_measured(
    tree: Export, h100: Subject, parquet: Reader
) -> None:
    rows = list(csv.DictReader(io.StringIO(tree.files["points.csv"].decode())))
    assert len(rows) == tree.measured + tree.modelled
    assert sum(row["how"] == "measured" for row in rows) == tree.measured == 163
    experts = {(row["how"], row["constants"]) for row in rows if row["table"] == "moe_perf"}
    assert experts == {("modelled", "default")}, "the table has none"
    frame, _ = parquet(table(tree, h100, "gemm/vllm/0.24.0/gemm_perf"))
    gemm = [row for row in rows if row["table"] == "gemm_perf"]
    assert [int(row["row"]) for row in gemm] == list(range(len(frame)))
    last = frame.iloc[-1]
    assert gemm[-1]["shape"] == f"m={last['m']:g} n={last['n']:g} k={last['k']:g}"


def test_the_system_has_the_two_empirical_constants(tree: Export, h100: Subject) -> None:
    text = tree.files[f"{h100.label}.yaml"].decode()
    found = dict(re.findall(r"^  (\w+): ([^ #\n]+)", text, re.MULTILINE))
    share, seconds = element_wise(h100)
    assert float(found["mem_bw_empirical_scaling_factor"]) == share
    assert float(found["mem_empirical_constant_latency"]) == seconds
    assert float(found["mem_bw"]) == 3.35e12
    assert float(found["intra_node_bw"]) == 450e9, "one way"
    assert float(found["bfloat16_tc_flops"]) == pytest.approx(989e12, rel=1e-3), "dense"
    assert found["sm_version"] == "90"
    assert "misc:" in text, "without it the planner stops"


def test_the_tree_read_back_gives_the_same_times(
    tree: Export, h100: Subject, tmp_path: Path
) -> None:
    for name, content in tree.files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    table = read_tables(tmp_path)
    ops = {points.op for points in table.points}
    assert ops == {"gemm", "attention_prefill", "attention_decode", "grouped_gemm", "all_reduce",
                   "all_gather", "reduce_scatter", "all_to_all"}  # fmt: skip
    for points in table.points:
        assert points.device == "nvidia_h100_sxm5_80gb"
        times = h100.calibration.time(
            points.op, points.precision, kv_precision=points.kv_precision, **points.shape
        ).median_s
        off = np.abs(points.latency_s / times - 1)
        assert np.median(off) < 1e-9, points.describe()
        assert off.max() < 0.2, "measured rows, which kriging smooths"


def test_a_device_without_bf16_and_links_goes_by_its_own_precision(
    cpu: Subject, parquet: Reader
) -> None:
    tree = aiconfigurator.export(cpu)
    assert not [name for name in tree.files if "/comm/" in name]
    assert any("fp32" in note for note in tree.notes)
    frame, _ = parquet(table(tree, cpu, "gemm/vllm/0.24.0/gemm_perf"))
    assert set(frame["gemm_dtype"]) == {"bfloat16"}
    assert "fp8_tc_flops" in tree.files[f"{cpu.label}.yaml"].decode(), "the reader wants a number"


def test_a_missing_value_is_never_written() -> None:
    with pytest.raises(ValueError, match="missing"):
        parquet_bytes({"latency": ("float", [1.0, float("nan")])})
