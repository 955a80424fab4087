"""The inventory of a step: shapes that one GPU runs, and work that adds up to the model's."""

from __future__ import annotations

import numpy as np
import pytest

from roofprobe.costmodel.forms import Rates, count
from roofprobe.costmodel.model_shape import (
    DenseMlp,
    EncoderShape,
    GroupedQueryAttention,
    LatentAttention,
    Layer,
    ModelShape,
    MoeMlp,
)
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.ops import Op
from roofprobe.costmodel.steps import Layout, Load, _windowed, encoder_ops, step_ops
from roofprobe.costmodel.weight_memory import wide_parts

RATES = Rates(flops=1.0, bandwidth=1.0, link=1.0)
LLAMA_8B = ModelShape(
    "llama", "LlamaForCausalLM", 4096, 128256,
    (Layer(GroupedQueryAttention(32, 8, 128), DenseMlp(14336)),) * 32, tied_embeddings=False,
)  # fmt: skip
MOE = ModelShape(
    "moe", "Moe", 2048, 1000,
    (
        Layer(GroupedQueryAttention(32, 4, 128), DenseMlp(6144)),
        *(Layer(GroupedQueryAttention(32, 4, 128), MoeMlp(128, 8, 768, shared_inter=1536)),) * 3,
    ),
    tied_embeddings=False,
)  # fmt: skip
MLA = ModelShape(
    "mla", "Mla", 7168, 1000,
    (Layer(LatentAttention(128, 1536, 512, 64, 128, 128), DenseMlp(18432)),) * 2,
    tied_embeddings=False,
)  # fmt: skip


def ops_of(model: ModelShape, load: Load, precision: str = "bf16", **layout: int) -> list[Op]:
    sp = bool(layout.pop("sp", 0))
    return [
        op
        for op in step_ops(
            model, load, precision=precision, kv_precision="bf16", layout=Layout(**layout, sp=sp)
        )
        if float(op.count) > 0
    ]


def shape_of(ops: list[Op], name: str) -> dict[str, float]:
    (op,) = [op for op in ops if op.name == name]
    return {key: float(value) for key, value in op.shape.items()}


def flops_of(ops: list[Op], op: str) -> float:
    return sum(
        float(one.count * count(op, one.precision, one.shape, RATES, kv_precision="bf16").flops)
        for one in ops
        if one.op == op
    )


def test_products_of_a_decode_step_are_twice_the_weights_per_token() -> None:
    ops = ops_of(LLAMA_8B, Load(decodes=4.0, context=100.0))
    weights = 32 * 4096 * (6144 + 4096 + 2 * 14336 + 14336) + 128256 * 4096
    assert flops_of(ops, "gemm") == 2 * 4 * weights


def test_logits_are_of_the_last_token_of_each_sequence_only() -> None:
    ops = ops_of(LLAMA_8B, Load(prompts=2.0, prompt_len=1000.0, decodes=3.0, context=7.0))
    assert shape_of(ops, "lm_head") == {"m": 5, "n": 128256, "k": 4096}
    assert shape_of(ops, "qkv")["m"] == 2003
    assert shape_of(ops, "sample") == {"rows": 5, "width": 128256}


def test_new_keys_and_values_are_written_before_the_cache_is_read() -> None:
    def written(kv_precision: str, tp: int) -> tuple[str, float]:
        ops = step_ops(
            LLAMA_8B, Load(decodes=4.0, context=9.0), precision="bf16", kv_precision=kv_precision,
            layout=Layout(tp=tp),
        )  # fmt: skip
        (op,) = [op for op in ops if op.name == "kv_write"]
        return op.op, float(op.shape["rows"] * op.shape["width"])

    assert written("bf16", 1) == ("rope", 4 * 2 * 8 * 128)
    assert written("fp8", 16) == ("quantize", 4 * 2 * 1 * 128)


def test_tensor_parallelism_divides_columns_then_rows_and_reduces_twice_per_layer() -> None:
    ops = ops_of(LLAMA_8B, Load(decodes=8.0, context=100.0), tp=4)
    assert shape_of(ops, "qkv") == {"m": 8, "n": 6144 / 4, "k": 4096}
    assert shape_of(ops, "o") == {"m": 8, "n": 4096, "k": 1024}
    assert shape_of(ops, "gate_up") == {"m": 8, "n": 2 * 14336 / 4, "k": 4096}
    assert shape_of(ops, "down") == {"m": 8, "n": 4096, "k": 14336 / 4}
    assert shape_of(ops, "lm_head")["n"] == 128256 / 4
    reduces = [op for op in ops if op.op == "all_reduce"]
    assert [(float(op.count), float(op.shape["bytes"])) for op in reduces] == [
        (64.0, 8 * 4096 * 2.0)
    ]


def test_kv_heads_are_replicated_once_there_are_more_gpus() -> None:
    ops = ops_of(LLAMA_8B, Load(decodes=1.0, context=10.0), tp=16)
    assert shape_of(ops, "attention")["kv_heads"] == 1
    assert shape_of(ops, "attention")["heads"] == 2


def test_one_gpu_has_no_communication() -> None:
    assert {op.op for op in ops_of(MOE, Load(decodes=1.0))} & {
        "all_reduce", "all_to_all", "all_gather", "p2p", "reduce_scatter"
    } == set()  # fmt: skip


def test_sequence_parallelism_splits_norms_and_the_all_reduce() -> None:
    ops = ops_of(LLAMA_8B, Load(prompts=1.0, prompt_len=1024.0), tp=4, sp=1)
    names = {op.op for op in ops}
    assert {"reduce_scatter", "all_gather"} <= names
    assert "all_reduce" not in names
    assert shape_of(ops, "norm")["rows"] == 256


def test_stages_send_once_between_each_other() -> None:
    ops = ops_of(LLAMA_8B, Load(decodes=4.0), pp=4)
    (send,) = [op for op in ops if op.op == "p2p"]
    assert (float(send.count), float(send.shape["bytes"])) == (3.0, 4 * 4096 * 2.0)


def test_the_head_stays_bf16_in_an_fp8_model() -> None:
    ops = {op.name: op.precision for op in ops_of(LLAMA_8B, Load(decodes=1.0), "fp8")}
    assert (ops["qkv"], ops["down"], ops["lm_head"], ops["attention"]) == (
        "fp8", "fp8", "bf16", "bf16",
    )  # fmt: skip


def test_quantisation_is_an_operation_of_its_own_only_when_the_product_lacks_it() -> None:
    def quantized(separate: bool) -> dict[str, float]:
        ops = step_ops(
            LLAMA_8B, Load(decodes=2.0), precision="fp8", kv_precision="bf16",
            separate_quantise=separate,
        )  # fmt: skip
        return {op.name: float(op.shape["width"]) for op in ops if op.op == "quantize"}

    assert quantized(False) == {}
    assert quantized(True) == {
        "qkv_quantize": 4096, "o_quantize": 4096, "gate_up_quantize": 4096, "down_quantize": 14336,
    }  # fmt: skip


def test_experts_share_a_layer_with_a_router_and_shared_experts_behind_a_dense_layer() -> None:
    ops = ops_of(MOE, Load(decodes=16.0, context=10.0))
    counts = {op.name: float(op.count) for op in ops}
    assert (counts["experts"], counts["router"], counts["shared_down"], counts["down"]) == (
        3,
        3,
        3,
        1,
    )
    assert shape_of(ops, "experts") == {
        "tokens": 16, "experts": 128, "topk": 8, "hidden": 2048, "inter": 768, "local_experts": 128,
    }  # fmt: skip


def test_experts_within_a_replica_are_divided_and_added_up_by_the_all_reduce() -> None:
    ops = ops_of(MOE, Load(decodes=16.0, context=10.0), tp=8, ep=4)
    experts = shape_of(ops, "experts")
    assert (experts["local_experts"], experts["inter"], experts["tokens"]) == (32, 384, 16)
    assert "all_to_all" not in {op.op for op in ops}


def test_experts_across_replicas_exchange_tokens_twice_a_layer() -> None:
    ops = ops_of(MOE, Load(decodes=16.0, context=10.0), tp=1, ep=32, dp=32)
    experts = shape_of(ops, "experts")
    assert (experts["local_experts"], experts["inter"], experts["tokens"]) == (4, 768, 16 * 32)
    (exchange,) = [op for op in ops if op.op == "all_to_all"]
    assert float(exchange.count) == 2 * 3
    assert float(exchange.shape["bytes"]) == 16 * 8 * 2048 * 2
    assert float(exchange.shape["ranks"]) == 32


def test_latent_attention_compresses_and_keeps_its_cache_whole() -> None:
    ops = ops_of(MLA, Load(decodes=2.0, context=50.0), tp=8)
    assert shape_of(ops, "q_a_kv_a") == {"m": 2, "n": 2112, "k": 7168}
    assert shape_of(ops, "q_b") == {"m": 2, "n": 24576 / 8, "k": 1536}
    assert shape_of(ops, "kv_b") == {"m": 2, "n": 32768 / 8, "k": 512}
    assert shape_of(ops, "o") == {"m": 2, "n": 7168, "k": 16384 / 8}
    assert shape_of(ops, "attention") == {
        "batch": 2, "kv_len": 50, "heads": 16, "kv_rank": 512, "rope_dim": 64,
    }  # fmt: skip


@pytest.mark.parametrize(("length", "window"), [(64, 100), (100, 100), (512, 128), (1000, 250)])
def test_windowed_attention_has_the_pairs_of_its_mask(length: int, window: int) -> None:
    mask = np.tril(np.ones((length, length))) - np.tril(np.ones((length, length)), -window)
    batch, query, keys = _windowed(1.0, length, length, window)
    pairs = float(batch * query * (2 * keys - query) / 2)
    # A triangle is counted as half a square: half a pair less per query.
    assert pairs == pytest.approx(mask.sum() - length / 2, rel=0.01)


def test_a_windowed_layer_reads_no_more_than_its_window_in_decode() -> None:
    model = ModelShape(
        "w", "W", 64, 100,
        (Layer(GroupedQueryAttention(4, 4, 16, window=128), DenseMlp(64)),
         Layer(GroupedQueryAttention(4, 4, 16), DenseMlp(64))),
        tied_embeddings=True,
    )  # fmt: skip
    ops = ops_of(model, Load(decodes=1.0, context=1000.0))
    assert [float(op.shape["kv_len"]) for op in ops if op.name == "attention"] == [128, 1000]


def test_chunks_of_a_prompt_see_what_came_before() -> None:
    whole = ops_of(LLAMA_8B, Load(prompts=1.0, prompt_len=4096.0))
    chunk = ops_of(LLAMA_8B, Load(prompts=1.0, prompt_len=1024.0, prefix_len=1536.0))
    # Four chunks behind 0, 1024, 2048, 3072 tokens: 1536 on average, the same pairs in all.
    diagonal = 32 * 2 * 32 * 128 * 128 * 4096  # the tile on the diagonal, as both count it
    assert 4 * flops_of(chunk, "attention_prefill") - diagonal == pytest.approx(
        flops_of(whole, "attention_prefill") - diagonal
    )


def test_shapes_are_arrays_over_cases() -> None:
    ops = step_ops(
        LLAMA_8B, Load(decodes=np.array([1.0, 8.0]), context=np.array([10.0, 20.0])),
        precision="bf16", kv_precision="bf16", layout=Layout(tp=np.array([1, 2])),
    )  # fmt: skip
    by_name = {op.name: op for op in ops if op.op != "attention_prefill"}
    assert by_name["down"].shape["k"].tolist() == [14336, 7168]
    assert by_name["all_reduce"].count.tolist() == [0, 64]


def test_an_encoder_sees_all_its_tokens_from_each() -> None:
    encoder = EncoderShape("vision", 1024, 24, 16, 4096, False, 588, 576)
    ops = list(encoder_ops(encoder, 2.0, 576.0, precision="bf16"))
    assert flops_of(ops, "gemm") == 2 * 2 * 576 * (24 * 12 * 1024**2 + 588 * 1024)
    pairs = flops_of(ops, "attention_prefill") / (24 * 4 * 2 * 16 * 64)
    assert pairs == pytest.approx(576**2, rel=0.12)
    assert pairs > 576**2


def test_what_a_narrow_checkpoint_keeps_wide_computes_wide() -> None:
    model = load_model("gpt-oss-120b")
    ops = {
        op.name: op.precision
        for op in step_ops(
            model, Load(decodes=4, context=64), precision="int4", kv_precision="bf16"
        )
    }
    assert {ops[name] for name in ("qkv", "o", "router", "lm_head")} == {"bf16"}
    assert ops["experts"] == "int4"
    assert wide_parts(model, "bf16", model.layer_sequence[0]) == frozenset()
