"""Parameter counts: exact for a model that can be added up by hand, published ones otherwise."""

from __future__ import annotations

import pytest

from roofprobe.costmodel.models import load_model, preset_names
from roofprobe.costmodel.weights import (
    active_parameters,
    embedding_parameters,
    encoder_parameters,
    layer_weights,
    parameters,
)

# Name, published total in 10^9, where it is published.
PUBLISHED = [
    ("llama-2-7b", 6.738, "parameter count of meta-llama/Llama-2-7b-hf on the hub"),
    ("llama-2-13b", 13.016, "parameter count of meta-llama/Llama-2-13b-hf on the hub"),
    ("llama-2-70b", 68.98, "parameter count of meta-llama/Llama-2-70b-hf on the hub"),
    ("llama-3.1-8b", 8.03, "parameter count of meta-llama/Llama-3.1-8B on the hub"),
    ("llama-3.1-70b", 70.55, "parameter count of meta-llama/Llama-3.1-70B on the hub"),
    ("llama-3.1-405b", 405.85, "parameter count of meta-llama/Llama-3.1-405B on the hub"),
    ("gpt-3-175b", 174.6, "arXiv 2005.14165, table D.1"),
    ("deepseek-v3", 671.0, "DeepSeek-V3, README_WEIGHTS.md"),
    ("deepseek-r1", 671.0, "model card of deepseek-ai/DeepSeek-R1"),
    ("deepseek-r1-distill-qwen-1.5b", 1.777, "founding notes: 3.55 GB in BF16"),
    ("deepseek-r1-distill-qwen-7b", 7.615, "founding notes: 15.23 GB in BF16"),
    ("deepseek-r1-distill-qwen-14b", 14.77, "founding notes: 29.54 GB in BF16"),
    ("deepseek-r1-distill-qwen-32b", 32.765, "founding notes: 65.53 GB in BF16"),
    ("qwen2.5-7b", 7.61, "model card of Qwen/Qwen2.5-7B"),
    ("qwen2.5-14b", 14.7, "model card of Qwen/Qwen2.5-14B"),
    ("qwen2.5-32b", 32.76, "parameter count of Qwen/Qwen2.5-32B on the hub; its card says 32.5"),
    ("qwen2.5-72b", 72.7, "model card of Qwen/Qwen2.5-72B"),
    ("qwen3-0.6b", 0.596, "size of the checkpoint Qwen/Qwen3-0.6B, whose card says 0.6"),
    ("qwen3-1.7b", 1.72, "size of the checkpoint Qwen/Qwen3-1.7B, whose card says 1.7"),
    ("qwen3-4b", 4.02, "size of the checkpoint Qwen/Qwen3-4B, whose card says 4.0"),
    ("qwen3-8b", 8.19, "size of the checkpoint Qwen/Qwen3-8B, whose card says 8.2"),
    ("qwen3-14b", 14.8, "model card of Qwen/Qwen3-14B"),
    ("qwen3-32b", 32.8, "model card of Qwen/Qwen3-32B"),
    ("qwen3-30b-a3b", 30.5, "model card of Qwen/Qwen3-30B-A3B"),
    ("qwen3-235b-a22b", 235.0, "model card of Qwen/Qwen3-235B-A22B"),
    ("mistral-7b-v0.1", 7.24, "parameter count of mistralai/Mistral-7B-v0.1 on the hub"),
    ("mistral-7b", 7.25, "parameter count of mistralai/Mistral-7B-v0.3 on the hub"),
    ("mixtral-8x7b", 46.7, "mistral.ai, Mixtral of Experts"),
    ("mixtral-8x22b", 140.6, "mistral.ai, models: 8x22B"),
    ("gpt-oss-20b", 20.91, "gpt-oss model card, arXiv 2508.10925, table 1"),
    ("gpt-oss-120b", 116.83, "gpt-oss model card, arXiv 2508.10925, table 1"),
]
# Name, published active count in 10^9, its last digit's worth, whether the publisher counts the
# table of embeddings, source.
ACTIVE = [
    ("gpt-oss-20b", 3.61, 0.0, False, "gpt-oss model card, arXiv 2508.10925, table 1"),
    ("gpt-oss-120b", 5.13, 0.0, False, "gpt-oss model card, arXiv 2508.10925, table 1"),
    ("deepseek-v3", 36.7, 0.0, False, "DeepSeek-V3, README_WEIGHTS.md"),
    ("deepseek-v3", 37, 1.0, True, "arXiv 2412.19437"),
    ("mixtral-8x7b", 12.9, 0.0, True, "mistral.ai, Mixtral of Experts"),
    ("mixtral-8x22b", 39.1, 0.0, True, "mistral.ai, models: 8x22B"),
    ("qwen3-30b-a3b", 3.3, 0.1, True, "model card of Qwen/Qwen3-30B-A3B"),
    ("qwen3-235b-a22b", 22, 1.0, True, "model card of Qwen/Qwen3-235B-A22B"),
]
# Parameters without either embedding, in 10^9, from the model cards of Qwen3.
WITHOUT_EMBEDDINGS = [
    ("qwen3-0.6b", 0.44),
    ("qwen3-1.7b", 1.4),
    ("qwen3-4b", 3.6),
    ("qwen3-8b", 6.95),
    ("qwen3-14b", 13.2),
    ("qwen3-32b", 31.2),
    ("qwen3-30b-a3b", 29.9),
    ("qwen3-235b-a22b", 234),
]

TINY = {
    "model_type": "llama",
    "hidden_size": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 12,
    "vocab_size": 10,
}


@pytest.mark.parametrize(("name", "published", "source"), PUBLISHED)
def test_total_parameters_are_the_published_ones(name: str, published: float, source: str) -> None:
    assert parameters(load_model(name)) / 1e9 == pytest.approx(published, rel=0.005), source


def test_every_preset_has_a_published_count() -> None:
    # The releases of 2025-07 have the sizes of the models that they follow, and a longer context.
    assert {name.removesuffix("-2507") for name in preset_names()} == {row[0] for row in PUBLISHED}


@pytest.mark.parametrize("name", [name for name in preset_names() if name.endswith("-2507")])
def test_a_release_with_a_longer_context_has_the_same_parameters(name: str) -> None:
    before, after = load_model(name.removesuffix("-2507")), load_model(name)
    assert parameters(after) == parameters(before)
    assert (before.max_context, after.max_context) == (40960, 262144)


@pytest.mark.parametrize(("name", "published", "digit", "with_table", "source"), ACTIVE)
def test_active_parameters_are_the_published_ones_by_their_publishers_way_of_counting(
    name: str, published: float, digit: float, with_table: bool, source: str
) -> None:
    shape = load_model(name)
    found = active_parameters(shape) + with_table * embedding_parameters(shape)
    # Some print two digits only, rounded or cut off: then the next digit is theirs.
    assert found / 1e9 == pytest.approx(published, rel=0.005, abs=digit), source


@pytest.mark.parametrize(("name", "published"), WITHOUT_EMBEDDINGS)
def test_parameters_without_embeddings_are_those_of_the_model_cards(
    name: str, published: float
) -> None:
    shape = load_model(name)
    tables = shape.vocab * shape.hidden * (1 if shape.tied_embeddings else 2)
    assert (parameters(shape) - tables) / 1e9 == pytest.approx(published, rel=0.01)


def test_a_dense_model_adds_up_by_hand() -> None:
    # Per layer: q 8x8, k and v 4x8, o 8x8, three of 12x8, two norms of 8.
    layer = 64 + 2 * 32 + 64 + 3 * 96 + 2 * 8
    shape = load_model(TINY)
    assert parameters(shape) == 2 * 10 * 8 + 2 * layer + 8
    assert active_parameters(shape) == 10 * 8 + 2 * layer + 8
    assert embedding_parameters(shape) == 80


def test_tied_embeddings_count_once() -> None:
    tied = load_model({**TINY, "tie_word_embeddings": True})
    assert parameters(load_model(TINY)) - parameters(tied) == 80
    assert active_parameters(tied) == active_parameters(load_model(TINY))


def test_biases_count_with_their_outputs() -> None:
    shape = load_model({**TINY, "attention_bias": True, "mlp_bias": True})
    more = 2 * ((8 + 4 + 4) + 8 + (12 + 12 + 8))
    assert parameters(shape) - parameters(load_model(TINY)) == more


def test_of_experts_all_are_stored_and_topk_take_part() -> None:
    moe = {**TINY, "model_type": "qwen2_moe", "num_experts": 6, "num_experts_per_tok": 2}
    moe |= {"moe_intermediate_size": 5, "shared_expert_intermediate_size": 7}
    shape = load_model(moe)
    attention = (64 + 8) + 2 * (32 + 4) + 64
    expert, shared, router = 3 * 5 * 8, 3 * 7 * 8, 6 * 8
    rest = 80 + 8 + 2 * (attention + 16 + shared + 8 + router)  # 8: the shared expert's gate
    assert parameters(shape) == 80 + rest + 2 * 6 * expert
    assert active_parameters(shape) == rest + 2 * 2 * expert


def test_latent_attention_adds_up_by_hand() -> None:
    shape = load_model("deepseek-v3")
    layer, count = shape.layer_groups[0]
    attention = sum(
        weight.values
        for weight in layer_weights(layer, shape.hidden)
        if weight.module.startswith("self_attn.")
    )
    queries = 7168 * 1536 + 1536 + 1536 * 128 * 192
    keys_and_values = 7168 * 576 + 512 + 512 * 128 * 256
    assert attention == queries + keys_and_values + 128 * 128 * 7168
    assert count == 3


def test_an_encoder_has_the_parameters_of_its_layers() -> None:
    audio = {"model_type": "qwen2_audio_encoder", "d_model": 8, "encoder_layers": 3}
    audio |= {"encoder_attention_heads": 2, "encoder_ffn_dim": 16, "num_mel_bins": 5}
    shape = load_model({"model_type": "qwen2_audio", "text_config": TINY, "audio_config": audio})
    (encoder,) = shape.encoders
    layer = 4 * (64 + 8) + (128 + 16) + (128 + 8) + 2 * 16
    assert encoder_parameters(encoder) == (3 * 5 * 8 + 8) + 3 * layer
    assert parameters(shape) == parameters(load_model(TINY))


@pytest.mark.parametrize(
    ("degree", "expected"),
    [(1, (16, 8, 16)), (2, (8, 8, 8)), (4, (4, 8, 4)), (8, (4, 8, 4))],
)
def test_heads_of_keys_are_copied_once_there_are_fewer_than_gpus(
    degree: int, expected: tuple[int, int, int]
) -> None:
    shape = load_model(
        {**TINY, "num_attention_heads": 8, "num_key_value_heads": 4, "head_dim": 4}
        | {"attention_bias": True}
    )
    keys = {w.module: w for w in layer_weights(shape.layer_sequence[0], 8)}["self_attn.k_proj"]
    assert keys.share(degree) == expected
