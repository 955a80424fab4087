"""What a config says of its checkpoint's precision, in every publisher's spelling."""

from __future__ import annotations

from typing import Any

import pytest

from roofprobe.costmodel.checkpoints import kept_wide
from roofprobe.costmodel.models import Checkpoint, load_model
from roofprobe.records.errors import RoofprobeError

LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 128,
    "vocab_size": 100,
}


def checkpoint(**quantisation: object) -> Checkpoint:
    return load_model(LLAMA | {"quantization_config": quantisation}).checkpoint


def compressed(**weights: object) -> dict[str, object]:
    return {
        "quant_method": "compressed-tensors",
        "config_groups": {"group_0": {"weights": weights, "targets": ["Linear"]}},
        "ignore": ["lm_head"],
    }


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [("bfloat16", "bf16"), ("torch.float16", "fp16"), ("float32", "fp32"), (None, "bf16")],
)
def test_without_quantisation_the_dtype_is_the_precision(dtype: str | None, expected: str) -> None:
    found = load_model(LLAMA | {"torch_dtype": dtype}).checkpoint
    assert found == Checkpoint(expected, expected)
    assert not found.quantised


@pytest.mark.parametrize(
    ("quantisation", "expected"),
    [
        ({"quant_method": "fp8", "modules_to_not_convert": ["lm_head"]}, ("fp8", None)),
        ({"quant_method": "fp8", "weight_block_size": [128, 64]}, ("fp8-block", (128, 64))),
        ({"quant_method": "fbgemm_fp8"}, ("fp8", None)),
        ({"quant_method": "mxfp4"}, ("mxfp4", None)),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128}, ("int4", (1, 128))),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1}, ("int8", (1, 0))),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, ("int4", (1, 64))),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4", "ignore": []}, ("nvfp4", None)),
        ({"quant_algo": "FP8", "ignore": ["lm_head"]}, ("fp8", None)),
        (compressed(num_bits=8, type="float"), ("fp8", None)),
        (
            compressed(num_bits=8, type="float", block_structure=[128, 128]),
            ("fp8-block", (128, 128)),
        ),
        (compressed(num_bits=8, type="int"), ("int8", None)),
        (compressed(num_bits=4, type="int", group_size=32), ("int4", (1, 32))),
        (compressed(num_bits=4, type="float", group_size=16), ("nvfp4", None)),
        (compressed(num_bits=4, type="float", group_size=32), ("mxfp4", None)),
    ],
)
def test_every_way_of_quantising_is_read(
    quantisation: dict[str, Any], expected: tuple[str, tuple[int, int] | None]
) -> None:
    found = checkpoint(**quantisation)
    assert (found.precision, found.block) == expected
    assert found.base == "bf16"
    assert found.quantised


def test_the_matrix_to_logits_is_narrow_only_where_the_config_says_so() -> None:
    assert not checkpoint(quant_method="fp8").head_quantised
    assert not checkpoint(quant_method="gptq", bits=4).head_quantised
    assert checkpoint(quant_method="gptq", bits=4, lm_head=True).head_quantised
    wide = compressed(num_bits=8, type="float")
    assert not checkpoint(**wide).head_quantised
    assert checkpoint(**(wide | {"ignore": []})).head_quantised


def test_zero_points_are_there_unless_the_weights_are_symmetric() -> None:
    assert checkpoint(quant_method="awq", bits=4).zero_points
    assert not checkpoint(**compressed(num_bits=4, type="int", symmetric=True)).zero_points
    assert checkpoint(**compressed(num_bits=4, type="int", symmetric=False)).zero_points


def test_a_quantised_language_model_inside_a_multimodal_one_is_found() -> None:
    outer = {"model_type": "llava", "torch_dtype": "float16", "text_config": LLAMA}
    assert load_model(outer).checkpoint == Checkpoint("fp16", "fp16")
    quantised = outer | {"quantization_config": {"quant_method": "fp8"}}
    assert load_model(quantised).checkpoint == Checkpoint("fp8", "fp16")


@pytest.mark.parametrize(
    ("quantisation", "sentence"),
    [
        ({}, r"'None' is not known|bf16"),
        ({"quant_method": "bitsandbytes"}, r"'bitsandbytes'.* is not known \(known: fp8, "),
        ({"quant_method": ["fp8"]}, r"is not known"),
        ({"quant_method": "gptq"}, r"'bits' is missing"),
        ({"quant_method": "gptq", "bits": 3}, r"3-bit weights are not known, only 4 and 8"),
        ({"quant_method": "awq", "bits": "4"}, r"'bits' is '4', but must be a whole number"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, r"must be two whole numbers"),
        ({"quant_method": "fp8", "weight_block_size": [0, 1]}, r"must be two whole numbers"),
        ({"quant_method": "fp8", "modules_to_not_convert": "lm_head"}, r"must be a list of texts"),
        ({"quant_method": "fp8", "modules_to_not_convert": [1]}, r"must be a list of texts"),
        ({"quant_method": "fp8", "ignore": ["re:("]}, r"is not a valid regular expression"),
        ({"quant_method": "fp8", "ignore": ["re:(a+)+$"]}, r"repeats too much"),
        ({"quant_method": "fp8", "ignore": ["re:" + ".*a" * 20]}, r"repeats too much"),
        ({"quant_method": "compressed-tensors"}, r"0 different formats"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": 1}}, r"no object 'weights'"),
        (compressed(num_bits=2, type="int"), r"with 2 bits are not known"),
        (compressed(num_bits=8, type=["float"]), r"with 8 bits are not known"),
        ({"quant_method": "modelopt", "quant_algo": "W3"}, r"quant_algo .*'W3'.* is none of FP8"),
    ],
)
def test_what_is_not_understood_is_one_sentence(
    quantisation: dict[str, Any], sentence: str
) -> None:
    if not quantisation:  # an empty object says nothing
        assert checkpoint() == Checkpoint()
        return
    with pytest.raises(RoofprobeError, match=sentence):
        checkpoint(**quantisation)


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(RoofprobeError, match=r"the dtype .*int7.* is none of bfloat16"):
        load_model(LLAMA | {"torch_dtype": "int7"})


@pytest.mark.parametrize(
    ("pattern", "module", "kept"),
    [
        ("lm_head", "lm_head", True),
        ("gate", "model.layers.3.mlp.gate", True),
        ("gate", "model.layers.3.mlp.gate_proj", False),
        ("mlp.gate", "model.layers.3.mlp.gate", True),
        ("model.layers.1", "model.layers.1.mlp.up_proj", True),
        ("model.layers.1", "model.layers.11.mlp.up_proj", False),
        ("model.layers.*.self_attn", "model.layers.7.self_attn.q_proj", True),
        ("model.layers.*.self_attn", "model.layers.7.mlp.up_proj", False),
        ("language_model.model.layers.1.self_attn*", "model.layers.1.self_attn.q_proj", True),
        ("language_model.lm_head", "lm_head", True),
        (r"re:.*mlp\.(gate|up|down)_proj.*", "model.layers.0.mlp.up_proj", True),
        (r"re:.*mlp\.(gate|up|down)_proj.*", "model.layers.0.mlp.experts.up_proj", False),
        ("re:.*shared_experts.*", "model.layers.0.mlp.shared_experts.up_proj", True),
    ],
)
def test_a_module_is_kept_wide_by_its_name_and_not_by_a_part_of_a_word(
    pattern: str, module: str, kept: bool
) -> None:
    assert kept_wide((pattern,))(module) is kept
