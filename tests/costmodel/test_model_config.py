"""Reading config.json: every architecture's own rules, and one sentence for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofprobe.costmodel.architectures import load_architectures
from roofprobe.costmodel.layer_rules import EXPERT_LAYERS, SHARED, WINDOWS
from roofprobe.costmodel.memory import memory_of, weight_bytes
from roofprobe.costmodel.models import (
    DenseMlp,
    EncoderShape,
    GroupedQueryAttention,
    LatentAttention,
    ModelShape,
    MoeMlp,
    load_model,
)
from roofprobe.costmodel.weights import active_parameters, encoder_parameters, parameters
from roofprobe.records.errors import RoofprobeError

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 6,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 128,
    "vocab_size": 100,
    "max_position_embeddings": 4096,
}
GQA = GroupedQueryAttention(heads=4, kv_heads=2, head_dim=16)
EXPERTS: dict[str, Any] = {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
LATENT: dict[str, Any] = {
    "q_lora_rank": None,
    "kv_lora_rank": 24,
    "qk_rope_head_dim": 4,
    "qk_nope_head_dim": 8,
    "v_head_dim": 12,
    "n_routed_experts": 8,
    "n_shared_experts": 2,
    "first_k_dense_replace": 1,
    **{name: EXPERTS[name] for name in ("num_experts_per_tok", "moe_intermediate_size")},
}
GEMMA3 = {
    "model_type": "gemma3_text",
    "hidden_size": 2560,
    "intermediate_size": 10240,
    "num_hidden_layers": 34,
    "sliding_window": 1024,
}
SIGLIP = {
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_attention_heads": 16,
    "num_hidden_layers": 27,
    "image_size": 896,
    "patch_size": 14,
}

QWEN3_VISION = {
    "model_type": "qwen3_vl",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_heads": 16,
    "depth": 27,
    "patch_size": 16,
    "out_hidden_size": 4096,
    "deepstack_visual_indexes": [8, 16, 24],
}


def of(model_type: str, **more: object) -> ModelShape:
    config = {name: value for name, value in LLAMA.items() if name != "architectures"}
    return load_model(config | {"model_type": model_type} | more)


def windows(shape: ModelShape) -> list[int | None]:
    return [layer.attention.window for layer in shape.layer_sequence]


def kinds(shape: ModelShape) -> str:
    return "".join(layer.mlp.kind[0] for layer in shape.layer_sequence)


def test_a_dense_decoder_is_read_whole() -> None:
    shape = load_model(LLAMA)
    assert (shape.architecture, shape.hidden, shape.vocab, shape.layers) == ("llama", 64, 100, 6)
    assert shape.layer_groups == ((shape.layer_sequence[0], 6),)
    assert shape.layer_sequence[0].attention == GQA
    assert shape.layer_sequence[0].mlp == DenseMlp(128)
    assert (shape.tied_embeddings, shape.max_context) == (False, 4096)
    assert (shape.heads, shape.experts) == (4, 0)


def test_without_heads_of_keys_every_head_has_its_own() -> None:
    config = {name: value for name, value in LLAMA.items() if name != "num_key_value_heads"}
    attention = load_model(config).layer_sequence[0].attention
    assert isinstance(attention, GroupedQueryAttention)
    assert attention.kv_heads == 4


def test_a_head_may_be_wider_than_its_share_of_the_model() -> None:
    attention = of("qwen3").layer_sequence[0].attention
    assert isinstance(attention, GroupedQueryAttention)
    assert (attention.head_dim, attention.qk_norm) == (128, "head")


def test_gpt2_has_positions_biases_and_its_own_names() -> None:
    shape = load_model(
        {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 32}
        | {"vocab_size": 100}
    )
    assert shape.learned_positions == 32
    assert shape.tied_embeddings
    assert shape.layer_sequence[0].mlp == DenseMlp(256, gated=False, bias=True)
    layer = 4 * 64 * 65 + 256 * 65 + 64 * 257 + 2 * 128
    assert parameters(shape) == 100 * 64 + 32 * 64 + 2 * layer + 128


@pytest.mark.parametrize(
    ("model_type", "more", "expected"),
    [
        ("llama", {"sliding_window": 8}, [None] * 6),
        ("mistral", {"sliding_window": 8}, [8] * 6),
        ("mistral", {"sliding_window": None}, [None] * 6),
        ("mistral", {"sliding_window": 0}, [None] * 6),
        ("gemma2", {"sliding_window": 8}, [8, None] * 3),
        ("gemma3_text", {"sliding_window": 8}, [8] * 5 + [None]),
        ("gemma3_text", {"sliding_window": 8, "sliding_window_pattern": 2}, [8, None] * 3),
        ("qwen2", {"sliding_window": 8, "use_sliding_window": False}, [None] * 6),
        (
            "qwen2",
            {"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 4},
            [None] * 4 + [8] * 2,
        ),
        (
            "qwen3",
            {"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"] * 3},
            [None, 8] * 3,
        ),
    ],
)
def test_windows_are_where_the_architecture_has_them(
    model_type: str, more: dict[str, object], expected: list[int | None]
) -> None:
    assert windows(of(model_type, **more)) == expected


@pytest.mark.parametrize(
    ("model_type", "more", "expected"),
    [
        ("llama", EXPERTS, "dddddd"),
        ("qwen3_moe", EXPERTS, "mmmmmm"),
        ("qwen3_moe", EXPERTS | {"decoder_sparse_step": 2}, "dmdmdm"),
        ("qwen3_moe", EXPERTS | {"mlp_only_layers": [0, 5]}, "dmmmmd"),
        ("deepseek_v2", LATENT, "dmmmmm"),
        ("deepseek_v2", LATENT | {"moe_layer_freq": 2, "first_k_dense_replace": 2}, "ddmdmd"),
        ("deepseek_v2", LATENT | {"moe_layer_freq": [0, 0, 1, 1, 0, 1]}, "ddmmdm"),
    ],
)
def test_experts_are_where_the_architecture_has_them(
    model_type: str, more: dict[str, object], expected: str
) -> None:
    assert kinds(of(model_type, **more)) == expected


def test_latent_attention_and_shared_experts_are_read() -> None:
    shape = of("deepseek_v2", **LATENT)
    layer = shape.layer_sequence[-1]
    assert layer.attention == LatentAttention(
        heads=4, q_rank=None, kv_rank=24, rope_dim=4, nope_dim=8, v_dim=12
    )
    assert layer.mlp == MoeMlp(experts=8, topk=2, inter=32, shared_inter=64)
    assert shape.experts == 8


def test_defaults_of_the_publishers_class_stand_in_for_absent_fields() -> None:
    shape = load_model(GEMMA3)
    attention = shape.layer_sequence[0].attention
    assert attention == GroupedQueryAttention(8, 4, 256, window=1024, qk_norm="head")
    assert (shape.vocab, shape.tied_embeddings) == (262208, True)
    # The text model of google/gemma-3-4b-it: 3.88 billion parameters.
    assert parameters(shape) / 1e9 == pytest.approx(3.88, rel=0.005)


def test_a_size_may_stand_under_the_name_that_later_configs_give_it() -> None:
    later = {
        "num_local_experts" if name == "num_experts" else name: EXPERTS[name] for name in EXPERTS
    }
    assert of("qwen3_moe", **later) == of("qwen3_moe", **EXPERTS)


def test_a_multimodal_model_is_its_language_model_and_an_encoder() -> None:
    shape = load_model(
        {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3"}
        | {"text_config": GEMMA3, "vision_config": SIGLIP}
    )
    assert shape.architecture == "gemma3"
    assert shape.encoders == (
        EncoderShape("vision", 1152, 27, 16, 4304, False, input_width=588, tokens=4096),
    )
    assert shape.encoders[0].head_dim == 72
    assert parameters(shape) == parameters(load_model(GEMMA3))
    assert weight_bytes(shape) - weight_bytes(load_model(GEMMA3)) > 2 * 400e6


def test_an_audio_encoder_is_read() -> None:
    audio = {"model_type": "qwen2_audio_encoder", "d_model": 1280, "encoder_layers": 32}
    audio |= {"encoder_attention_heads": 20, "encoder_ffn_dim": 5120, "num_mel_bins": 128}
    shape = load_model(
        {"model_type": "qwen2_audio", "text_config": LLAMA}
        | {"audio_config": audio | {"max_source_positions": 1500}}
    )
    assert shape.encoders == (EncoderShape("audio", 1280, 32, 20, 5120, False, 384, 1500),)


def test_sizes_may_stand_at_the_top_of_a_multimodal_config() -> None:
    vision = {"model_type": "qwen2_5_vl", "hidden_size": 1280, "out_hidden_size": 64}
    shape = of("qwen2_5_vl", vision_config=vision)
    assert (shape.architecture, shape.hidden) == ("qwen2_5_vl", 64)
    assert shape.encoders[0] == EncoderShape(
        "vision", 1280, 32, 16, 3420, True, 1176, None, 1, merged_width=5120, output_width=64
    )


# Modules of these sizes built by transformers 5.24 on a device without memory, without heads.
@pytest.mark.parametrize(
    ("outer", "vision", "built", "within"),
    [
        ("gemma3", SIGLIP, 416_866_032, 0.012),
        ("qwen3_vl", QWEN3_VISION, 576_388_336, 0.005),
        ("qwen2_5_vl", {"model_type": "qwen2_5_vl", "hidden_size": 1280}, 676_550_144, 0.001),
    ],
)
def test_an_encoder_has_about_the_parameters_of_the_real_one(
    outer: str, vision: dict[str, Any], built: int, within: float
) -> None:
    shape = load_model({"model_type": outer, "text_config": LLAMA, "vision_config": vision})
    assert encoder_parameters(shape.encoders[0]) == pytest.approx(built, rel=within)


def test_tied_embeddings_may_be_said_around_the_language_model() -> None:
    config = {"model_type": "llava", "text_config": LLAMA}
    assert not load_model(config).tied_embeddings
    assert load_model(config | {"tie_word_embeddings": True}).tied_embeddings


def test_every_rule_in_the_table_of_architectures_is_one_that_the_code_has() -> None:
    table = load_architectures()
    rows = {row.key: row for row in (*table.by_class.values(), *table.by_type.values())}
    assert len(rows) >= 16
    for row in (*rows.values(), table.approximate):
        assert row.moe in EXPERT_LAYERS
    for row in rows.values():
        assert row.classes
        assert row.model_types
        assert row.source
        assert row.window in WINDOWS
        assert row.shared in SHARED
        assert row.attention in ("gqa", "mla")


BUILT: dict[str, tuple[dict[str, Any], int]] = {
    "llama": ({"attention_bias": True, "mlp_bias": True}, 237_888),
    "mistral": ({"head_dim": 32}, 308_544),
    "mixtral": ({"num_local_experts": 4}, 678_720),
    "qwen2": ({}, 235_584),
    "qwen2_moe": (
        {"num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 32}
        | {"shared_expert_intermediate_size": 48, "decoder_sparse_step": 2, "mlp_only_layers": [1]},
        304_320,
    ),
    "qwen3_moe": (
        {"num_experts": 8, "moe_intermediate_size": 32, "mlp_only_layers": [1], "head_dim": 16},
        360_448,
    ),
    "qwen3": ({"attention_bias": True}, 758_976),
    "deepseek_v2": (LATENT, 407_248),
    "deepseek_v3": (
        LATENT
        | {"q_lora_rank": 20, "n_shared_experts": 1, "first_k_dense_replace": 2}
        | {"attention_bias": True},
        341_128,
    ),
    "gpt_oss": ({"num_local_experts": 8, "num_experts_per_tok": 2, "head_dim": 16}, 1_286_664),
    "glm4_moe": (
        LATENT
        | {"n_shared_experts": 1, "head_dim": 16, "use_qk_norm": True, "attention_bias": True},
        391_976,
    ),
    "minimax_m2": ({"num_local_experts": 8, "num_experts_per_tok": 2, "head_dim": 16}, 1_270_704),
    "gemma": ({}, 1_334_336),
    "gemma2": ({}, 1_335_104),
    "gemma3_text": ({}, 1_338_176),
    "phi3": ({}, 234_816),
}


@pytest.mark.parametrize("model_type", BUILT)
def test_a_small_model_has_exactly_the_parameters_that_transformers_builds(model_type: str) -> None:
    # Built by transformers 5.24 from the same config, routing biases included.
    more, built = BUILT[model_type]
    shape = of(model_type, **more)
    assert parameters(shape) == built


def test_an_unknown_architecture_is_refused_with_what_is_known() -> None:
    with pytest.raises(RoofprobeError, match=r"'MambaForCausalLM' is not known.*Known are .*llama"):
        load_model(LLAMA | {"architectures": ["MambaForCausalLM"]})
    with pytest.raises(RoofprobeError, match=r"the model type 'mamba' is not known") as caught:
        of("mamba")
    assert caught.value.code == "unsupported-architecture"


def test_an_unknown_architecture_is_a_marked_plain_decoder_where_that_is_allowed() -> None:
    shape = load_model(LLAMA | {"architectures": ["Mamba"]}, allow_approximate=True)
    assert shape.architecture == "approximate"
    assert shape.approximate is not None
    assert shape.approximate.startswith(
        "the architecture 'Mamba' is not known; it is treated as a plain decoder: full attention"
    )
    assert parameters(shape) == parameters(load_model(LLAMA))


def test_an_approximation_keeps_the_experts_that_a_config_counts() -> None:
    config = LLAMA | EXPERTS | {"architectures": ["Unknown"], "model_type": "unknown"}
    shape = load_model(config, allow_approximate=True)
    assert kinds(shape) == "mmmmmm"
    assert shape.layer_sequence[0].mlp == MoeMlp(experts=8, topk=2, inter=32)


def test_an_approximation_looks_for_the_language_model_inside_an_unknown_multimodal_one() -> None:
    config = {"architectures": ["Unknown"], "text_config": LLAMA}
    assert parameters(load_model(config, allow_approximate=True)) == parameters(load_model(LLAMA))
    with pytest.raises(RoofprobeError, match=r"'Unknown' is not known"):
        load_model(config)


def test_sparse_attention_is_latent_attention_without_its_indexer_where_that_is_allowed() -> None:
    config = LLAMA | LATENT | {"architectures": ["GlmMoeDsaForCausalLM"]}
    config |= {"model_type": "glm_moe_dsa", "layer_types": ["deepseek_sparse_attention"] * 6}
    with pytest.raises(RoofprobeError, match=r"the indexer of its sparse attention is left out"):
        load_model(config)
    shape = load_model(config, allow_approximate=True)
    assert shape.approximate is not None
    whole = LLAMA | LATENT | {"architectures": ["DeepseekV3ForCausalLM"]}
    assert shape.layer_sequence == load_model(whole | {"model_type": None}).layer_sequence


def test_an_unknown_encoder_is_left_out_only_where_that_is_allowed() -> None:
    config = {"model_type": "llava", "text_config": LLAMA}
    config |= {"vision_config": {"model_type": "eye", "hidden_size": 1}}
    with pytest.raises(RoofprobeError, match=r"the encoder in vision_config is not known"):
        load_model(config)
    shape = load_model(config, allow_approximate=True)
    assert shape.encoders == ()
    assert shape.approximate == "the encoder in vision_config is not known; it is left out"


@pytest.mark.parametrize("field", ["hidden_size", "num_hidden_layers", "intermediate_size"])
@pytest.mark.parametrize("value", [None, 0, -1, 1.5, True, "64", [64], 10**30, float("nan")])
def test_a_size_that_is_none_is_one_sentence(field: str, value: object) -> None:
    with pytest.raises(RoofprobeError, match=field) as caught:
        load_model(LLAMA | {field: value})
    assert caught.value.code == "bad-model"


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        ({"num_key_value_heads": 3}, r"4 query heads cannot share 3 heads of keys"),
        ({"num_key_value_heads": 8}, r"4 query heads cannot share 8 heads of keys"),
        ({"num_attention_heads": 6}, r"width 64 is no multiple of the 6 heads"),
        ({"model_type": "qwen2"}, r"'architectures' says 'LlamaForCausalLM', but 'model_type'"),
        ({"architectures": None, "model_type": None}, r"neither 'architectures' nor 'model_type'"),
        ({"architectures": "LlamaForCausalLM"}, r"must be a list of texts"),
        ({"architectures": [3]}, r"must be a list of texts"),
        ({"model_type": 3}, r"'model_type' must be a text"),
        ({"tie_word_embeddings": "yes"}, r"must be true or false"),
        ({"attention_bias": 1}, r"must be true or false"),
        ({"layer_types": ["full_attention"]}, r"names 1 layers, but there are 6"),
        ({"layer_types": ["linear_attention"] * 6}, r"the type 'linear_attention' are not known"),
        ({"layer_types": ["sliding_attention"] * 6}, r"'sliding_window' has no size"),
        ({"num_hidden_layers": 10_001}, r"from 1 to 10,000"),
        ({"quantization_config": 3}, r"must be an object"),
        ({"vision_config": SIGLIP | {"image_size": 8}}, r"8 pixels are smaller than a patch"),
        ({"vision_config": SIGLIP | {"num_attention_heads": 7}}, r"no multiple of the 7 heads"),
    ],
)
def test_a_contradiction_is_one_sentence(more: dict[str, object], sentence: str) -> None:
    with pytest.raises(RoofprobeError, match=sentence) as caught:
        load_model(LLAMA | more)
    assert "\n" not in caught.value.sentence


@pytest.mark.parametrize(
    ("model_type", "more", "sentence"),
    [
        ("qwen3_moe", EXPERTS | {"num_experts_per_tok": 9}, r"9 experts, but there are only 8"),
        ("qwen3_moe", {}, r"'moe_intermediate_size' is missing"),
        ("deepseek_v2", LATENT | {"n_routed_experts": None}, r"'n_routed_experts' is missing"),
        ("qwen3_moe", EXPERTS | {"mlp_only_layers": ["a"]}, r"list of layer numbers"),
        ("deepseek_v2", LATENT | {"moe_layer_freq": [1]}, r"must be a number, or 6 times 0 or 1"),
        ("deepseek_v2", LATENT | {"kv_lora_rank": None}, r"'kv_lora_rank' is missing"),
        (
            "deepseek_v2",
            LATENT | {"sliding_window": 4, "layer_types": ["sliding_attention"] * 6},
            r"latent attention with a sliding window is not known",
        ),
        ("gpt2", {"n_embd": 64, "n_layer": 1, "n_head": 4}, r"'n_positions' is missing"),
        ("llava", {}, r"the object 'text_config'.* is missing"),
        ("llava", {"text_config": 3}, r"'text_config' is '3', but must be an object"),
        ("llava", {"text_config": {"model_type": "llava"}}, r"inside a multimodal model"),
        ("llava", {"text_config": {}}, r"neither 'architectures' nor 'model_type'"),
    ],
)
def test_what_an_architecture_lacks_is_one_sentence(
    model_type: str, more: dict[str, object], sentence: str
) -> None:
    with pytest.raises(RoofprobeError, match=sentence):
        of(model_type, **({"architectures": None} | more))


def test_a_config_is_read_from_its_file_and_from_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    file = folder / "config.json"
    file.write_text(json.dumps(LLAMA))
    assert load_model(file) == load_model(str(folder)) == load_model(folder)
    shape = load_model(folder)
    assert (shape.name, shape.source) == ("my-model", str(file))
    other = file.rename(tmp_path / "small.json")
    assert load_model(other).name == "small"


def test_the_file_beside_the_config_says_how_modelopt_quantised(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    beside = {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(beside))
    assert load_model(tmp_path).checkpoint.precision == "fp8"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", r"is not JSON"),
        (b"{'model_type': 'llama'}", r"is not JSON"),
        (b"\xff\xfe\x00", r"is not JSON"),
        (b"[" * 100_000, r"is not JSON"),
        (b"[1, 2]", r"holds no JSON object"),
        (b"null", r"holds no JSON object"),
        (b"{}", r"neither 'architectures' nor 'model_type'"),
    ],
)
def test_a_file_that_is_no_config_is_one_sentence(
    tmp_path: Path, content: bytes, sentence: str
) -> None:
    file = tmp_path / "config.json"
    file.write_bytes(content)
    with pytest.raises(RoofprobeError, match=sentence) as caught:
        load_model(file)
    assert len(caught.value.sentence) < 500


def test_a_folder_without_a_config_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(RoofprobeError, match=r"config\.json cannot be read: No such file"):
        load_model(tmp_path)


def test_a_file_too_large_for_a_config_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    with file.open("wb") as sparse:
        sparse.truncate(20_000_000)
    with pytest.raises(RoofprobeError, match=r"too large for a model's config"):
        load_model(file)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-2, 40)
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["fp8", "gptq", "sliding_attention", "LlamaForCausalLM", "gemma3"])
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
BASES = [
    LLAMA,
    LLAMA | LATENT | {"model_type": "deepseek_v2", "architectures": ["DeepseekV2ForCausalLM"]},
    LLAMA | EXPERTS | {"model_type": "qwen3_moe", "architectures": ["Qwen3MoeForCausalLM"]},
    LLAMA | {"quantization_config": {"quant_method": "awq", "bits": 4}},
    {"model_type": "gemma3", "text_config": GEMMA3, "vision_config": SIGLIP},
    {"model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 8},
]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_config_is_a_model_or_one_sentence(data: st.DataObject) -> None:
    base = data.draw(st.sampled_from(BASES))
    extra = ["layer_types", "sliding_window", "torch_dtype", "head_dim", "quantization_config"]
    keys = st.sampled_from(sorted({*base, *extra}))
    config = base | data.draw(st.dictionaries(keys, VALUES, max_size=3))
    try:
        shape = load_model(config, allow_approximate=data.draw(st.booleans()))
    except RoofprobeError:
        return
    assert 0 < active_parameters(shape) <= parameters(shape) + shape.vocab * shape.hidden
    assert weight_bytes(shape) > 0
    assert float(memory_of(shape, context_len=10).per_gpu_bytes) > 0


@settings(max_examples=100, deadline=None)
@given(config=st.dictionaries(st.text(max_size=10), VALUES, max_size=4))
def test_any_object_is_answered_with_one_sentence(config: dict[str, object]) -> None:
    with pytest.raises(RoofprobeError):
        load_model(config)
