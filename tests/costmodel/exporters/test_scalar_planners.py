from __future__ import annotations

import csv
import io
import json
from itertools import pairwise
from typing import Any

import pytest

from roofprobe.costmodel.exporters import (
    blis,
    calculon,
    genz,
    infersim,
    llm_analysis,
    llmservingsim,
)
from roofprobe.costmodel.exporters.subject import Subject
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.predict import step_time
from roofprobe.costmodel.steps import Load

PEAK, BANDWIDTH = 989.4e12, 3.35e12


def rows_of(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(content.decode())))


def test_llm_analysis_gets_the_keys_of_its_dataclass_and_no_others(h100: Subject) -> None:
    gpu = json.loads(llm_analysis.export(h100).files[f"{h100.label}.json"])
    assert gpu == {
        "name": h100.label,
        "mem_per_GPU_in_GB": 80.0,
        "hbm_bandwidth_in_GB_per_sec": 3350.0,
        "intra_node_bandwidth_in_GB_per_sec": 450.0,
        "intra_node_min_message_latency": 4.2e-06,
        "peak_fp16_TFLOPS": 989.4,
        "inter_node_bandwidth_in_GB_per_sec": 50.0,
        "peak_i8_TFLOPS": 1978.9,
    }


def test_efficiencies_give_back_the_step_that_they_were_made_from(h100: Subject) -> None:
    rows = json.loads(llm_analysis.export(h100).files["efficiencies.json"])
    model = load_model("llama-3.1-8b")
    for phase, batch, load in (
        ("prefill", 1, Load(prompts=1.0, prompt_len=2048.0)),
        ("decode", 32, Load(decodes=32.0, context=2048.0)),
    ):
        row = next(
            r for r in rows
            if (r["model"], r["phase"], r["tp"], r["batch"], r["tokens"])
            == ("llama-3.1-8b", phase, 1, batch, 2048)
        )  # fmt: skip
        ours = step_time(h100.calibration, model, load, precision="bf16", kv_precision="bf16")
        assert row["seconds"] == pytest.approx(ours.median_s, rel=1e-5)
        arithmetic = row["flops"] / (PEAK * row["flops_efficiency"])
        traffic = row["bytes"] / (BANDWIDTH * row["hbm_memory_efficiency"])
        assert max(arithmetic, traffic) == pytest.approx(ours.median_s, rel=1e-3)
        assert f"--flops_efficiency {row['flops_efficiency']:.4}"[:26] in row["flags"]


def test_llm_analysis_gets_the_flags_of_one_model_that_it_ships(h100: Subject) -> None:
    files = llm_analysis.export(h100).files
    rows = json.loads(files["efficiencies.json"])
    for phase, batch in (("prefill", 1), ("decode", 32)):
        (flags,) = files[f"{phase}.flags"].decode().splitlines()
        row = next(r for r in rows if r["flags"] == flags)
        assert (row["phase"], row["model"], row["tp"]) == (phase, "llama-2-70b", 8)
        assert (row["batch"], row["tokens"], row["precision"]) == (batch, 2048, "bf16")


def test_a_precision_that_llm_analysis_lacks_counts_half_of_its_bytes(cpu: Subject) -> None:
    rows = json.loads(llm_analysis.export(cpu).files["efficiencies.json"])
    decode = next(r for r in rows if r["phase"] == "decode")
    assert decode["hbm_memory_efficiency"] == pytest.approx(
        decode["memory_efficiency"] / 2, rel=1e-3
    )


def test_genz_gets_one_dictionary_per_phase_in_its_units(h100: Subject) -> None:
    files = genz.export(h100).files
    rows = json.loads(files["systems.json"])
    prefill, decode = (json.loads(files[f"{phase}.json"]) for phase in ("prefill", "decode"))
    keys = ["Flops", "Memory_size", "Memory_BW", "ICN", "ICN_LL", "real_values"]
    assert list(prefill) == list(decode) == keys
    row = next(r for r in rows if r["phase"] == "decode" and r["batch"] == 32 and r["tp"] == 1)
    assert decode == row["system"]
    assert decode["Memory_BW"] == pytest.approx(
        BANDWIDTH * row["memory_efficiency"] / 2**30, rel=1e-4
    )
    assert prefill["Flops"] == pytest.approx(
        PEAK / 1e12 * next(r for r in rows if r["tokens"] == 2048)["flops_efficiency"], rel=1e-4
    )
    assert prefill["ICN"] == pytest.approx(450e9 * 0.67 / 2**30, rel=1e-4)
    compile(files["use_genz.py"], "use_genz.py", "exec")


def test_calculon_gets_falling_staircases_that_end_at_zero(h100: Subject) -> None:
    system = json.loads(calculon.export(h100).files[f"{h100.label}.json"])
    curves = [part["gflops_efficiency"] for part in system["matrix"].values()]
    curves.append(system["mem1"]["MB_efficiency"])
    for curve in curves:
        assert len(curve) >= calculon.LEAST_STEPS
        assert curve[-1][0] == 0
        assert all(low[0] < high[0] for high, low in pairwise(curve)), "strictly falling"
        assert all(0 < share <= 1 for _, share in curve)
    assert set(system["matrix"]) <= {"float8", "float16", "bfloat16", "float32"}
    assert system["processing_mode"] in ("roofline", "no_overlap")
    (network,) = system["networks"]
    assert set(network) == {"bandwidth", "efficiency", "size", "latency", "ops",
                            "must_be_filled", "processor_usage"}  # fmt: skip
    assert network["bandwidth"] == 450, "one way"


def test_blis_gets_one_row_that_says_it_is_for_the_roofline_only(h100: Subject) -> None:
    row: dict[str, Any] = json.loads(blis.export(h100).files["hardware_config.json"])[h100.label]
    assert "roofline only" in row["_comment"]
    assert list(row)[1:] == ["TFlopsPeak", "TFlopsFP8", "BwPeakTBs", "mfuPrefill", "mfuDecode",
                             "MemoryGiB"]  # fmt: skip
    assert row["TFlopsFP8"] == 1978.9, "dense"
    assert all(row[key] > 0 for key in list(row)[1:])
    assert row["BwPeakTBs"] < 3.35


def test_infersim_rows_stand_in_the_order_that_its_reader_needs(h100: Subject) -> None:
    files = infersim.export(h100).files
    base = f"bench_data/gemm/{h100.label}/data.csv"
    assert files[base].startswith(b"m,k,n,latency_us,mfu\n")
    gemm = rows_of(files[base])
    keys = [(int(r["k"]), int(r["n"]), int(r["m"])) for r in gemm]
    assert keys == sorted(keys)
    row = next(r for r in gemm if (r["m"], r["n"], r["k"]) == ("64", "28672", "4096"))
    seconds = float(h100.calibration.time("gemm", "bf16", m=64, n=28672, k=4096).median_s)
    assert float(row["latency_us"]) == pytest.approx(seconds * 1e6, rel=1e-5)
    assert float(row["mfu"]) == pytest.approx(2 * 64 * 28672 * 4096 / seconds / PEAK, rel=1e-5)
    prefill = rows_of(files[f"bench_data/mha/prefill/{h100.label}/32-8-128.csv"])
    lengths = [int(r["seq_len"]) for r in prefill]
    assert lengths == sorted(lengths)
    decode = files[f"bench_data/mha/decode/{h100.label}/32-8-128.csv"]
    assert decode.startswith(b"dtype,kv_dtype,batch_size,kv_len,latency_us,mfu\n")
    assert min(float(r["mfu"]) for r in rows_of(decode)) >= 0.001, "it rounds and divides"
    experts = rows_of(files[f"bench_data/grouped_gemm/decode/{h100.label}/data.csv"])
    assert {r["num_experts"] for r in experts} == {"8"}
    tables = [name for name in files if name.endswith(".csv")]
    made = infersim.export(h100)
    assert made.measured + made.modelled == sum(len(rows_of(files[name])) for name in tables)
    assert "models/llama-2-70b/config.json" in files
    assert "models/mixtral-8x7b/config.json" not in files, "it reads its experts as dense"
    compile(files["run_infersim.py"], "run_infersim.py", "exec")


def test_a_bundle_of_llmservingsim_has_every_layer_in_microseconds(h100: Subject) -> None:
    files = llmservingsim.export(h100).files
    root = f"profiler/perf/{h100.label}/meta-llama/Llama-3.1-8B/bf16"
    dense = rows_of(files[f"{root}/tp1/dense.csv"])
    assert {r["layer"] for r in dense} == {
        "embedding", "layernorm", "qkv_proj", "rotary_emb", "o_proj", "gate_up_proj", "act_fn",
        "down_proj", "final_layernorm",
    }  # fmt: skip
    row = next(r for r in dense if (r["layer"], r["tokens"]) == ("qkv_proj", "64"))
    seconds = float(h100.calibration.time("gemm", "bf16", m=64, n=6144, k=4096).median_s)
    assert float(row["time_us"]) == pytest.approx(seconds * 1e6, rel=1e-5)
    assert {r["layer"] for r in rows_of(files[f"{root}/tp1/per_sequence.csv"])} == {
        "lm_head", "sampler",
    }  # fmt: skip
    assert files[f"{root}/tp2/attention.csv"].startswith(
        b"prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n0,0,1,16,"
    )
    assert f"hardware: {h100.label}\n" in files[f"{root}/meta.yaml"].decode()
    experts = f"profiler/perf/{h100.label}/mistralai/Mixtral-8x7B-v0.1/bf16"
    moe = [name for name in files if name.endswith("moe.csv")]
    assert moe == [f"{experts}/tp1/moe.csv"]
