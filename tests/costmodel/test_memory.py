"""What a model occupies: exact where it can be added up, published sizes where there are some."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.costmodel.memory import (
    RUNTIME_RESERVE_BYTES,
    UTILISATION,
    activation_bytes,
    kv_bytes_per_token,
    kv_cache_bytes,
    load_time_s,
    max_batch,
    memory_of,
    require_fit,
    rule_of_thumb_bytes,
    weight_bytes,
)
from roofprobe.costmodel.models import load_model, preset_names
from roofprobe.costmodel.weights import parameters
from roofprobe.records.errors import RoofprobeError

GB = 1e9
GIB = 2**30


# Model, GB of weights in BF16 (DeepSeek: FP8 and 700 for the machine) in the founding notes.
@pytest.mark.parametrize(
    ("name", "published_gb", "digits"),
    [
        ("llama-2-13b", 26.0, 0),
        ("gpt-3-175b", 349.2, 1),
        ("deepseek-r1-distill-qwen-1.5b", 3.55, 2),
        ("deepseek-r1-distill-qwen-7b", 15.23, 2),
        ("deepseek-r1-distill-qwen-14b", 29.54, 2),
        ("deepseek-r1-distill-qwen-32b", 65.53, 2),
    ],
)
def test_weights_are_those_of_the_founding_notes(
    name: str, published_gb: float, digits: int
) -> None:
    assert round(weight_bytes(load_model(name)) / GB, digits) == published_gb


# gpt-oss model card, arXiv 2508.10925, table 1: checkpoint sizes.
@pytest.mark.parametrize(("name", "gib"), [("gpt-oss-20b", 12.8), ("gpt-oss-120b", 60.8)])
def test_a_checkpoint_in_mxfp4_has_its_published_size(name: str, gib: float) -> None:
    assert round(weight_bytes(load_model(name)) / GIB, 1) == gib


def test_an_fp8_checkpoint_keeps_embeddings_head_norms_and_routers_wide() -> None:
    shape = load_model("deepseek-v3")
    wide = 2 * 129280 * 7168 + 58 * (256 * 7168 + 256) + 61 * (2 * 7168 + 1536 + 512) + 7168
    scales = weight_bytes(shape) - parameters(shape) - wide
    # One FP32 for each 128 x 128 values.
    assert scales == pytest.approx((parameters(shape) - wide) / 128**2 * 4, rel=0.005)


@pytest.mark.parametrize("name", preset_names())
def test_a_wide_model_takes_its_parameters_times_their_width(name: str) -> None:
    shape = load_model(name)
    assert weight_bytes(shape, "bf16") == 2 * parameters(shape)
    assert weight_bytes(shape, "fp32") == 4 * parameters(shape)


def test_quantising_leaves_the_embedding_and_the_head_in_bf16() -> None:
    shape = load_model("llama-3.1-8b")
    ends = 2 * 128256 * 4096 + 65 * 4096
    matrices = parameters(shape) - ends
    assert weight_bytes(shape, "fp8") == 2 * ends + matrices + 32 * 7 * 4
    assert weight_bytes(shape, "int4") == 2 * ends + matrices // 2 + matrices // 128 * 5 // 2


def test_modules_that_the_config_names_stay_wide() -> None:
    config: dict[str, Any] = {"model_type": "llama", "hidden_size": 64, "num_hidden_layers": 2}
    config |= {"num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 100}
    narrow = config | {"quantization_config": {"quant_method": "fp8"}}
    kept = {"quant_method": "fp8", "modules_to_not_convert": ["model.layers.1.mlp"]}
    more = weight_bytes(load_model(config | {"quantization_config": kept}))
    assert more - weight_bytes(load_model(narrow)) == 3 * 64 * 128 - 3 * 4


def test_tensor_parallelism_splits_matrices_and_copies_norms() -> None:
    shape = load_model("llama-3.1-8b")
    norms = 65 * 4096
    assert weight_bytes(shape, tp=8) == 2 * ((parameters(shape) - norms) // 8 + norms)


def test_heads_of_keys_and_values_are_copied_beyond_their_number() -> None:
    shape = load_model("llama-3.1-8b")
    norms, pairs = 65 * 4096, 32 * 2 * 8 * 128 * 4096
    split = (parameters(shape) - norms - pairs) // 16
    assert weight_bytes(shape, tp=16) == 2 * (split + norms + pairs // 8)


def test_expert_parallelism_spreads_whole_experts() -> None:
    shape = load_model("qwen3-30b-a3b")
    experts = 48 * 128 * 3 * 768 * 2048
    rest = parameters(shape) - experts
    assert weight_bytes(shape, ep=8) == 2 * (rest + experts // 8)
    assert weight_bytes(shape, tp=4, ep=4) == weight_bytes(shape, tp=4, ep=2)
    assert weight_bytes(shape, tp=4, ep=8) < weight_bytes(shape, tp=4, ep=4)


def test_the_fullest_stage_of_a_pipeline_counts() -> None:
    shape = load_model("llama-2-7b")
    table = 32000 * 4096
    layer = (parameters(shape) - 2 * table - 4096) // 32
    assert weight_bytes(shape, pp=2) == 2 * (16 * layer + table + 4096)
    assert weight_bytes(shape, pp=3) == 2 * (11 * layer + table)


def test_a_pipeline_needs_tied_embeddings_at_both_ends() -> None:
    shape = load_model("qwen3-4b")
    table = 151936 * 2560
    layer = (parameters(shape) - table - 2560) // 36
    assert weight_bytes(shape, pp=2) == 2 * (18 * layer + table + 2560)


# The formulas of the field: 2 x heads of keys x width x layers x bytes; MLA (512 + 64) x bytes.
@pytest.mark.parametrize(
    ("name", "precision", "tp", "expected"),
    [
        ("llama-3.1-8b", "bf16", 1, 2 * 8 * 128 * 32 * 2),
        ("llama-3.1-8b", "fp8", 1, 2 * 8 * 128 * 32),
        ("llama-3.1-8b", "bf16", 4, 2 * 2 * 128 * 32 * 2),
        ("llama-3.1-8b", "bf16", 16, 2 * 1 * 128 * 32 * 2),
        ("llama-2-7b", "fp16", 1, 2 * 32 * 128 * 32 * 2),
        ("deepseek-v3", "bf16", 1, 576 * 61 * 2),
        ("deepseek-v3", "bf16", 8, 576 * 61 * 2),
        ("deepseek-v3", "fp8", 8, 576 * 61),
        ("gpt-oss-120b", "bf16", 1, 2 * 8 * 64 * 36 * 2),
    ],
)
def test_a_token_takes_what_the_formula_says(
    name: str, precision: str, tp: int, expected: int
) -> None:
    assert kv_bytes_per_token(load_model(name), precision, tp=tp) == expected


def test_heads_that_do_not_divide_evenly_are_rounded_up() -> None:
    # Ten heads of keys on four GPUs: three on the fullest.
    shape = load_model("llama-2-13b")
    assert kv_bytes_per_token(shape, "bf16", tp=8) == 2 * 5 * 128 * 40 * 2
    config: dict[str, Any] = {"model_type": "llama", "hidden_size": 80, "num_hidden_layers": 1}
    config |= {"num_attention_heads": 20, "num_key_value_heads": 10, "vocab_size": 9}
    assert kv_bytes_per_token(load_model(config | {"intermediate_size": 8}), tp=4) == 2 * 3 * 4 * 2


def test_layers_with_a_window_keep_no_more_than_the_window() -> None:
    shape = load_model("gpt-oss-120b")
    layer = 2 * 8 * 64 * 2
    found = kv_cache_bytes(shape, context_len=[100, 128, 1000], batch=3)
    assert found.tolist() == [
        3 * layer * 36 * 100,
        3 * layer * 36 * 128,
        3 * layer * 18 * (128 + 1000),
    ]


def test_the_fullest_stage_depends_on_the_context_where_windows_differ() -> None:
    config: dict[str, Any] = {"model_type": "qwen3", "hidden_size": 64, "num_hidden_layers": 3}
    config |= {"num_attention_heads": 4, "intermediate_size": 8, "vocab_size": 9, "head_dim": 16}
    config |= {"sliding_window": 10}
    config |= {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"]}
    found = kv_cache_bytes(load_model(config), context_len=[5, 100], pp=2)
    layer = 2 * 4 * 16 * 2
    assert found.tolist() == [2 * 5 * layer, 100 * layer]


def test_cases_come_as_arrays_of_one_shape() -> None:
    shape = load_model("llama-3.1-8b")
    lengths, batches = np.array([[100], [200]]), np.array([1, 2, 4])
    found = memory_of(shape, context_len=lengths, batch=batches)
    assert found.kv_cache_bytes.shape == (2, 3)
    assert found.per_gpu_bytes.shape == (2, 3)
    one = memory_of(shape, context_len=200, batch=4)
    assert found.per_gpu_bytes[1, 2] == one.per_gpu_bytes
    assert max_batch(shape, 80 * GB, context_len=lengths).shape == (2, 1)


def test_memory_is_the_sum_of_its_parts_on_every_gpu() -> None:
    shape = load_model("qwen3-30b-a3b")
    found = memory_of(shape, context_len=1000, batch=8, tp=2, pp=3, ep=4)
    parts = found.weights_bytes + found.kv_cache_bytes + found.activations_bytes
    assert found.per_gpu_bytes == parts + RUNTIME_RESERVE_BYTES
    assert found.gpus == 12
    assert found.total_bytes == 12 * found.per_gpu_bytes


def test_activations_are_the_widest_point_of_a_step_and_the_logits() -> None:
    shape = load_model("llama-3.1-8b")
    per_token = (3 * 4096 + 3 * 14336) * 2
    assert activation_bytes(shape, batch=4, step_tokens=100) == 100 * per_token + 4 * 128256 * 6
    assert activation_bytes(shape, batch=200, step_tokens=100) == 200 * (per_token + 128256 * 6)
    half = (3 * 4096 + 3 * 7168) * 2
    assert activation_bytes(shape, batch=1, step_tokens=100, tp=2) == 100 * half + 64128 * 6


@pytest.mark.parametrize("name", ["llama-3.1-8b", "gpt-oss-20b", "deepseek-r1-distill-qwen-14b"])
@pytest.mark.parametrize("context_len", [128, 2000, 30000])
def test_the_largest_batch_fits_and_one_more_does_not(name: str, context_len: int) -> None:
    shape, capacity = load_model(name), 80 * GB
    found = int(max_batch(shape, capacity, context_len=context_len))
    assert 0 < found < 8192

    def held(batch: int) -> float:
        return float(memory_of(shape, context_len=context_len, batch=batch).per_gpu_bytes)

    assert held(found) <= UTILISATION * capacity < held(found + 1)


def test_a_step_decodes_no_more_sequences_than_it_has_tokens() -> None:
    assert max_batch(load_model("qwen3-0.6b"), 10_000 * GB, context_len=1) == 8192


def test_a_model_that_does_not_fit_has_no_batch_and_one_sentence_with_the_sums() -> None:
    shape = load_model("llama-3.1-70b")
    assert max_batch(shape, 80 * GB, context_len=1000) == 0
    with pytest.raises(
        RoofprobeError,
        match=r"llama-3\.1-70b does not fit on GPUs of 80 GB at tp=1, .* 141\.1 GB of weights",
    ) as caught:
        require_fit(shape, 80 * GB, context_len=1000)
    assert caught.value.code == "does-not-fit"
    assert require_fit(shape, 80 * GB, context_len=1000, tp=4) > 0


@pytest.mark.parametrize(
    ("model", "gpu_gib", "tp"),
    [
        ("llama-2-7b", 24, 1),
        ("llama-2-13b", 80, 1),
        ("deepseek-v3", 96, 8),
        ("deepseek-r1", 96, 8),
        ("deepseek-r1-distill-qwen-32b", 96, 1),
        ("deepseek-r1-distill-qwen-32b", 48, 2),
    ],
)
def test_the_founding_notes_recommended_cards_hold_their_models(
    model: str, gpu_gib: int, tp: int
) -> None:
    assert require_fit(load_model(model), gpu_gib * GIB, context_len=1024, tp=tp) >= 1


def test_llama_2_70b_on_two_cards_of_80_gib_leaves_room_for_a_small_batch_only() -> None:
    # The founding notes recommend two; each holds 69 GB of weights of the 77.3 that are used.
    shape = load_model("llama-2-70b")
    assert 0 < require_fit(shape, 80 * GIB, context_len=1024, tp=2) < 32


@pytest.mark.parametrize("bad", [-1, 1.5, float("nan"), float("inf"), 1e12, "many", None, [1, -1]])
def test_lengths_that_are_no_counts_are_one_sentence(bad: Any) -> None:
    with pytest.raises(RoofprobeError, match=r"context_len must hold whole numbers from 0"):
        kv_cache_bytes(load_model("llama-3.1-8b"), context_len=bad)
    with pytest.raises(RoofprobeError, match=r"batch must hold whole numbers from 0"):
        activation_bytes(load_model("llama-3.1-8b"), batch=bad)


@pytest.mark.parametrize("capacity", [0, -1.0, float("nan"), float("inf")])
def test_a_memory_that_is_none_is_one_sentence(capacity: float) -> None:
    with pytest.raises(RoofprobeError, match=r"memory of a GPU must be a number of bytes above 0"):
        max_batch(load_model("llama-3.1-8b"), capacity, context_len=1)


def test_an_unknown_precision_of_the_cache_is_answered_with_the_known_ones() -> None:
    with pytest.raises(RoofprobeError, match=r"'int2' is not known; use one of fp32, bf16"):
        kv_bytes_per_token(load_model("llama-3.1-8b"), "int2")


@pytest.mark.parametrize(
    ("precision", "purpose", "expected"),
    [
        ("fp16", "inference", 2 * GB),
        ("fp16", "training", 20 * GB),
        ("fp8", "inference", 1 * GB),
        ("fp8", "training", 10 * GB),
    ],
)
def test_a_billion_parameters_take_what_the_founding_notes_say(
    precision: str, purpose: str, expected: float
) -> None:
    assert rule_of_thumb_bytes(1e9, precision, purpose) == expected


def test_there_is_no_rule_where_the_founding_notes_have_none() -> None:
    with pytest.raises(RoofprobeError, match=r"no rule for 'training' in 'int4'"):
        rule_of_thumb_bytes(1e9, "int4", "training")


def test_a_cold_start_takes_the_bytes_over_the_rate() -> None:
    assert load_time_s(700 * GB, 700 / 1800) == pytest.approx(1800)
    assert load_time_s([10 * GB, 20 * GB], 5).tolist() == [2, 4]
    with pytest.raises(RoofprobeError, match=r"must be a number of GB/s above 0"):
        load_time_s(1, 0)


def lengths() -> st.SearchStrategy[list[int]]:
    return st.lists(st.integers(0, 1_000_000), min_size=1, max_size=5)


@given(name=st.sampled_from(preset_names()), contexts=lengths(), batch=st.integers(0, 5000))
def test_more_tokens_never_take_less(name: str, contexts: list[int], batch: int) -> None:
    shape = load_model(name)
    ordered: npt.ArrayLike = sorted(contexts)
    found = kv_cache_bytes(shape, context_len=ordered, batch=batch)
    assert np.all(np.diff(found) >= 0)
    assert np.all(found <= kv_bytes_per_token(shape) * np.asarray(ordered) * batch)
    fitting = max_batch(shape, 1e12, context_len=ordered)
    assert np.all(np.diff(fitting) <= 0)
