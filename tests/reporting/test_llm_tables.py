"""Tables of a model's operations: sizes down, tokens across, times and rates in the cells."""

from __future__ import annotations

from typing import Any

from roofprobe.records.schema import (
    Case,
    Device,
    Distribution,
    Environment,
    Measurement,
    Options,
    Run,
)
from roofprobe.reporting.html import to_html
from roofprobe.reporting.llm_tables import _commonest, _spread, llm_tables
from roofprobe.reporting.markdown import to_markdown

CPU = Device(device_id="cpu", torch_device="cpu", backend="cpu", name="Example CPU")
LLAMA = {"heads": 32, "kv_heads": 8, "head_dim": 128}


def figure(unit: str, value: float) -> Distribution:
    return Distribution(unit=unit, median=value, ci_low=value, ci_high=value, p10=value, p90=value,
                        best=value, n=9)  # fmt: skip


def measured(op: str, shape: dict[str, int], us: float, rate: float, unit: str, **more: Any) -> Any:
    fields: dict[str, Any] = {"precision": "bf16", "route": "sdpa", **more}
    status = fields.pop("status", "ok")
    case = Case(case_id=f"{op}/{shape}/{more}", family="llm", op=op, shape=shape, **fields)
    return Measurement(case=case, device_id="cpu", status=status, latency=figure("us", us),
                       rate=figure(unit, rate))  # fmt: skip


def run_of(*measurements: Measurement) -> Run:
    return Run(
        run_id="20000101T000000Z-example", status="complete",
        started_at="2000-01-01T00:00:00+00:00", options=Options(families=("llm",)),
        environment=Environment(host="h", os="o", kernel="k", python="3", roofprobe="0"),
        devices=(CPU,), measurements=measurements,
    )  # fmt: skip


def layer(m: int, n: int, us: float, rate: float, **more: Any) -> Any:
    unit = "TFLOPS" if m >= 256 else "GB/s"
    return measured("gemm", {"m": m, "n": n, "k": 64}, us, rate, unit, **more)


LAYERS = (layer(1, 128, 12.5, 0.95), layer(512, 128, 2500.0, 0.25), layer(1, 256, 25.0, 21.0))
DECODES = tuple(
    measured("attention_decode", {"batch": 8, "kv_len": 4096, **LLAMA}, 100.0, 900.0, "GB/s",
             route="triton", kv_precision=kv, config="paged")
    for kv in ("bf16", "fp8")
)  # fmt: skip


def test_layers_are_weights_down_and_tokens_across_with_one_unit_per_column() -> None:
    (table,) = llm_tables(run_of(*LAYERS), "cpu")
    assert table.heads == ("", "m=1 GB/s", "m=512 GFLOPS")
    assert table.rows == (
        ("bf16 128x64", "12.5µs 0.950", "2.50ms 250"), ("bf16 256x64", "25.0µs 21.0", "–"),
    )  # fmt: skip


def test_a_decode_is_told_by_its_cache_and_route() -> None:
    (table,) = llm_tables(run_of(*DECODES), "cpu")
    assert table.heads == ("", "8x4096 GB/s")
    assert [row[0] for row in table.rows] == [
        "bf16 KV fp8 triton paged 32/8x128", "bf16 triton paged 32/8x128",
    ]  # fmt: skip


def test_a_prompt_after_a_prefix_names_both() -> None:
    sizes = ((512, 512), (512, 4096))
    prompts = [
        measured("attention_prefill", {"batch": 1, "query_len": q, "kv_len": kv, **LLAMA}, 9.0, 2.0,
                 "TFLOPS")
        for q, kv in sizes
    ]  # fmt: skip
    (table,) = llm_tables(run_of(*prompts), "cpu")
    assert table.heads == ("", "1x512 TFLOPS", "1x512+3584 TFLOPS")


def test_every_kind_of_operation_has_a_table_and_a_brief_report_two() -> None:
    experts = {"tokens": 8, "experts": 8, "topk": 2, "hidden": 64, "inter": 32, "local_experts": 8}
    latent = {"batch": 1, "kv_len": 9, "heads": 16, "kv_rank": 8, "rope_dim": 8}
    run = run_of(
        *LAYERS, *DECODES,
        measured("attention_prefill", {"batch": 1, "query_len": 9, "kv_len": 9, **LLAMA}, 9.0, 2.0,
                 "TFLOPS"),
        measured("mla_decode", latent, 9.0, 2.0, "GB/s", route="bmm"),
        measured("grouped_gemm", experts, 9.0, 2.0, "GB/s", route="loop", config="balanced"),
        measured("rmsnorm", {"rows": 8, "width": 64}, 9.0, 2.0, "GB/s", route="torch"),
    )  # fmt: skip
    titles = [table.title for table in llm_tables(run, "cpu")]
    assert titles == ["Layers", "Attention of prompts", "Attention of one token",
                      "Latent attention", "Experts", "Row by row"]  # fmt: skip
    brief = [table.title for table in llm_tables(run, "cpu", brief=True)]
    assert brief == ["Layers", "Attention of one token"]
    for text in (to_markdown(run), to_html(run)):
        assert all(title in text for title in titles)
        assert "2 of 8, 64x32" in text


def test_what_failed_or_was_launched_one_by_one_is_not_shown() -> None:
    assert llm_tables(run_of(layer(1, 8, 1.0, 1.0, status="failed")), "cpu") == ()
    assert llm_tables(run_of(layer(1, 8, 1.0, 1.0, role="eager")), "cpu") == ()
    assert llm_tables(run_of(), "cpu") == ()


def test_many_sizes_are_thinned_and_first_and_last_stay() -> None:
    many = [layer(1 << power, n, 1.0, 1.0) for power in range(12) for n in range(8, 800, 8)]
    (table,) = llm_tables(run_of(*many), "cpu")
    assert len(table.heads) == 6
    assert len(table.rows) == 12
    assert [row[0] for row in (table.rows[0], table.rows[-1])] == ["bf16 8x64", "bf16 792x64"]


def test_columns_are_those_that_most_lines_have() -> None:
    keys = [(1,), (2,), (2,), (3,), (4,), (4,), (5,), (6,), (7,), (8,)]
    assert _commonest(keys) == ((1,), (2,), (4,), (5,), (8,))
    assert _spread([1, 2, 3], 1) == (3,)
    assert _spread([1, 2, 3], 0) == ()
