"""The calls between a model's products are those that transformers makes, bit by bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from roofprobe.kernels import eager_rows
from roofprobe.kernels.rows_work import EPSILON
from roofprobe.kernels.work import Target, Unsupported, Work

CPU = Target("cpu", "cpu")
ITEM = 4


def prepared(op: str, rows: int, width: int, cache_bytes: int | None = None) -> Work:
    return eager_rows.prepare(
        op, "fp32", CPU, rows=rows, width=width, head_dim=16, cache_bytes=cache_bytes,
        limit_bytes=None, seed=1,
    )  # fmt: skip


@pytest.mark.parametrize("op", eager_rows.OPERATIONS)
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_every_operation_is_what_float64_says(op: str, rows: int) -> None:
    check = prepared(op, rows, 32).check()
    assert check.problem is None
    assert check.checked_elements >= rows * 16


def test_norms_and_rotations_are_the_models_own() -> None:
    pytest.importorskip("transformers")
    from transformers import LlamaConfig
    from transformers.models.llama import modeling_llama as theirs

    x = torch.randn(2, 5, 32)
    norm = theirs.LlamaRMSNorm(32, eps=EPSILON)
    assert torch.equal(norm(x), eager_rows.rms_norm(x, norm.weight))
    made: Any = LlamaConfig
    config = made(hidden_size=32, num_attention_heads=2, head_dim=16)
    positions = torch.arange(5).unsqueeze(0)
    embedding = theirs.LlamaRotaryEmbedding(config)
    cos, sin = embedding(x, positions)
    ours = eager_rows.angles(positions, embedding.inv_freq, torch.float32)
    assert torch.equal(cos, ours[0])
    assert torch.equal(sin, ours[1])
    q, k = (torch.randn(2, 2, 5, 16) for _ in range(2))
    rotated = theirs.apply_rotary_pos_emb(q, k, cos, sin)
    assert torch.equal(rotated[0], eager_rows.rotate(q, cos, sin))
    assert torch.equal(rotated[1], eager_rows.rotate(k, cos, sin))


def test_caches_go_round_and_nothing_else_does() -> None:
    one = 8 * 32 * ITEM
    assert len(prepared("kv_append", 8, 32, cache_bytes=one).launches) == 4
    assert len(prepared("kv_store", 8, 32, cache_bytes=one).launches) == 1
    assert len(prepared("add", 8, 32, cache_bytes=one).launches) == 1


def test_bytes_are_those_that_the_model_moves() -> None:
    size = 8 * 32 * ITEM
    assert (prepared("add", 8, 32).bytes_read, prepared("add", 8, 32).bytes_written) == (
        2 * size, size,
    )  # fmt: skip
    appended = prepared("kv_append", 8, 32)
    assert (appended.bytes_read, appended.bytes_written) == (size, size)


@pytest.mark.parametrize(
    ("op", "width", "code"), [("quantize", 32, "unknown-route"), ("rope", 24, "shape")]
)
def test_what_cannot_be_done_has_a_reason(op: str, width: int, code: str) -> None:
    with pytest.raises(Unsupported) as refused:
        prepared(op, 2, width)
    assert refused.value.code == code
