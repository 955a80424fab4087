"""Attention on the processor: right against float64, counted exactly, wrong results are seen."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from roofprobe.kernels import attention, cached_decode, latent_attention
from roofprobe.kernels.attention import Heads, check_attention, reference
from roofprobe.kernels.work import Target, Unsupported, Work

CPU = Target("cpu", "cpu", "x86_64", 2)
H100 = Target("cuda", "cuda:0", "sm_90", 132)
MIB = 1 << 20
# No prefix, a prefix, one token on top of others; groups of one, two and all heads.
PREFILLS = (
    Heads(2, 17, 17, 4, 2, 32), Heads(1, 64, 64, 8, 1, 64), Heads(1, 5, 70, 6, 3, 16),
    Heads(3, 1, 1, 2, 2, 32), Heads(1, 33, 129, 4, 4, 64),
)  # fmt: skip
DECODES = (Heads(1, 1, 1, 4, 2, 32), Heads(3, 1, 100, 8, 4, 64), Heads(2, 1, 513, 4, 1, 16))


def prefill(heads: Heads, precision: str = "fp32") -> Work:
    return attention.prepare_prefill(heads, precision, CPU, cache_bytes=0, limit_bytes=None, seed=1)


def decode(heads: Heads, precision: str = "fp32", cache_bytes: int = 0) -> Work:
    return attention.prepare_decode(
        heads, precision, CPU, cache_bytes=cache_bytes, limit_bytes=None, seed=1
    )


@pytest.mark.parametrize("heads", PREFILLS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_prefill_is_right(heads: Heads, precision: str) -> None:
    told = prefill(heads, precision).check()
    assert told.problem is None
    assert told.checked_elements == heads.batch * heads.heads * heads.query_len * heads.head_dim
    assert 0 < told.error < (1e-6 if precision == "fp32" else 1e-2) or heads.kv_len == 1


@pytest.mark.parametrize("heads", DECODES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_decode_is_right(heads: Heads, precision: str) -> None:
    assert decode(heads, precision).check().problem is None


@given(st.integers(1, 40), st.integers(0, 40))
def test_pairs_are_those_that_a_causal_mask_leaves(asked: int, before: int) -> None:
    heads = Heads(1, asked, before + asked, 1, 1, 1)
    seen = torch.ones(asked, before + asked).tril(before)
    assert heads.pairs == int(seen.sum())


def test_operations_and_bytes_are_counted_from_the_shape() -> None:
    work = prefill(Heads(2, 16, 48, 8, 2, 64))
    pairs = 16 * 48 - 16 * 15 // 2
    assert work.flops == 2 * 8 * pairs * 4 * 64
    q, kv = 2 * 16 * 8 * 64 * 4, 2 * 48 * 2 * 64 * 4
    assert (work.bytes_read, work.bytes_written) == (q + 2 * kv, q)
    one = decode(Heads(4, 1, 1000, 8, 2, 64), "bf16")
    assert one.flops == 4 * 8 * 1000 * 4 * 64
    assert one.bytes_read == 2 * (4 * 8 * 64 + 2 * 4 * 1000 * 2 * 64)
    assert one.bytes_written == 2 * 4 * 8 * 64


def test_the_cache_of_a_decode_goes_round_and_a_prompt_without_prefix_does_not() -> None:
    heads = Heads(1, 1, 1024, 8, 4, 64)
    sets = decode(heads, cache_bytes=8 * MIB).launches
    assert len(sets) == 16, "2 MiB each against 4 times 8 MiB"
    pointers = {launch.args[1].data_ptr() for launch in sets}  # type: ignore[attr-defined]
    assert len(pointers) == 16
    whole = attention.prepare_prefill(
        Heads(1, 64, 64, 8, 4, 64), "fp32", CPU, cache_bytes=8 * MIB, limit_bytes=None, seed=1
    )
    assert len(whole.launches) == 1


@pytest.mark.parametrize("heads", [Heads(2, 9, 9, 4, 2, 16), Heads(1, 4, 12, 4, 2, 16)])
def test_the_reference_is_plain_attention(heads: Heads, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = torch.Generator().manual_seed(3)
    q = torch.randn(heads.batch, heads.heads, heads.query_len, 16, generator=generator)
    k, v = (torch.randn(heads.batch, heads.kv_heads, heads.kv_len, 16, generator=generator)
            for _ in "kv")  # fmt: skip
    rows = []
    for sequence in range(heads.batch):
        for head in range(heads.heads):
            for query in range(heads.query_len):
                sees = heads.kv_len - heads.query_len + query + 1
                keys = k[sequence, head // 2, :sees].double()
                scores = keys @ q[sequence, head, query].double() / math.sqrt(16)
                weights = scores.exp() / scores.exp().sum()
                rows.append(weights @ v[sequence, head // 2, :sees].double())
    expected = torch.stack(rows)
    for chunk in (1 << 24, 300, 20):
        monkeypatch.setattr(attention, "_CHUNK_ELEMENTS", chunk)
        found = torch.cat(list(reference(heads, q, k, v)))
        assert torch.allclose(found, expected, rtol=1e-12, atol=1e-14), chunk


@pytest.mark.parametrize("fault", ["later key seen", "last key left out", "heads swapped"])
def test_a_fault_of_one_key_or_one_head_is_seen(fault: str) -> None:
    heads = Heads(1, 64, 64, 4, 2, 64)
    q, k, v = (torch.randn(1, count, 64, 64, generator=torch.Generator().manual_seed(count))
               for count in (4, 2, 3))  # fmt: skip
    v = v[:, :2]
    hidden = ~torch.ones(64, 64, dtype=torch.bool).tril()
    if fault == "later key seen":
        hidden[10, 11] = False
    elif fault == "last key left out":
        hidden[63, 63] = True
    mask = torch.zeros(64, 64).masked_fill(hidden, -math.inf)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
    if fault == "heads swapped":
        out = out[:, [1, 0, 2, 3]]
    assert check_attention(heads, q, k, v, out, 1.2e-2).problem is not None


def test_sizes_that_make_no_attention_are_refused_in_a_sentence() -> None:
    for heads in (Heads(1, 8, 4, 2, 2, 16), Heads(1, 4, 4, 3, 2, 16), Heads(0, 4, 4, 2, 2, 16)):
        with pytest.raises(Unsupported) as refused:
            prefill(heads)
        assert refused.value.code == "shape"
        assert refused.value.sentence


def test_backends_depend_on_device_precision_and_groups() -> None:
    grouped, equal = Heads(1, 1, 9, 8, 2, 64), Heads(1, 1, 9, 8, 8, 64)
    assert attention.backends(CPU, grouped, "fp32") == ("default",)
    assert attention.backends(H100, grouped, "bf16") == ("flash", "cudnn")
    assert attention.backends(H100, equal, "bf16") == ("flash", "cudnn", "efficient")
    assert attention.backends(H100, grouped, "fp32") == ("math",)


def test_a_backend_is_chosen_for_the_time_of_the_work_only() -> None:
    work = attention.by_backend(prefill(Heads(1, 16, 16, 2, 2, 16)), "math")
    assert work.kernel == "SDPA math"
    before = torch.backends.cuda.flash_sdp_enabled()
    with work.settings():
        assert not torch.backends.cuda.flash_sdp_enabled()
        assert work.check().problem is None
    assert torch.backends.cuda.flash_sdp_enabled() == before


def test_an_fp8_cache_needs_our_kernel_on_a_gpu_that_converts_it() -> None:
    def code(target: Target, kv_precision: str = "fp8") -> str | None:
        reason = cached_decode.unavailable(target, "bf16", kv_precision)
        return reason.code if reason else None

    assert code(CPU) == "no-triton-target"
    assert code(replace(H100, architecture="sm_80")) == "architecture"
    assert code(replace(H100, architecture="sm_80"), "bf16") is None
    assert code(replace(H100, architecture="sm_75"), "bf16") == "architecture"
    assert code(H100) is None
    assert code(H100, "int4") == "precision"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_latent_attention_is_right_in_both_forms(precision: str) -> None:
    for batch, kv_len in ((1, 1), (2, 200)):
        work = latent_attention.prepare_decode(
            precision, CPU, batch=batch, kv_len=kv_len, heads=4, kv_rank=32, rope_dim=16,
            cache_bytes=MIB, limit_bytes=None, seed=1,
        )  # fmt: skip
        assert work.check().problem is None
        assert work.flops == 2 * batch * 4 * kv_len * (48 + 32)
        item = 4 if precision == "fp32" else 2
        assert work.bytes_read == item * (batch * 4 * 48 + batch * kv_len * 48)
        assert work.bytes_written == item * batch * 4 * 32
    whole = latent_attention.prepare_prefill(
        precision, CPU, batch=2, query_len=20, kv_len=20, heads=4, nope_dim=32, rope_dim=16,
        v_dim=32, limit_bytes=None, seed=1,
    )  # fmt: skip
    assert whole.check().problem is None
    assert whole.flops == 2 * 2 * 4 * (20 * 21 // 2) * (48 + 32)
    assert whole.config["form"] == "not absorbed"
