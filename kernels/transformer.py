"""A whole language model as work: one step of a real Llama of Hugging Face transformers.

The model is built from its sizes with random weights, nothing is downloaded, and run as its own
``generate`` does: no gradients, logits of the last token only, the likeliest token taken.

- **prefill**: ``batch`` prompts of ``length`` tokens into an empty cache.
- **decode**: one token per sequence behind ``length`` − 1 cached ones. The cache is a DynamicCache,
  which grows by copying (``torch.cat``); each launch begins with the same cached tensors again.

Checked before it is timed: the last token's logits against a forward pass over all tokens without
a cache, in which attention is plain products and a softmax. So a decode step must agree with what a
prefill one token longer gives.

FLOPs are 2 per weight of a product and token, and attention's; bytes are the weights and the cache.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from roofprobe.kernels import llm_check
from roofprobe.kernels.attention import Heads
from roofprobe.kernels.rows_work import DTYPES, EPSILON
from roofprobe.kernels.work import Check, Target, Unsupported, Work

if TYPE_CHECKING:
    import torch

PREFILL, DECODE = "prefill", "decode"
MEASURE = "‖logits − reference‖ / ‖reference‖ of each sequence's last token, the largest"
# What rounding in every layer may add up to; a wrong mask or cache is off by tens of percent.
TOLERANCES = {"fp32": 1e-3, "bf16": 0.1, "fp16": 0.03}
_BASE = 10000.0


@dataclass(frozen=True, slots=True)
class Sizes:
    """The sizes of a Llama."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    inter: int
    vocab: int

    @property
    def parameters(self) -> int:
        """Return all weights: embedding, layers, norms and head (not tied)."""
        return (
            2 * self.vocab * self.hidden
            + self.layer_products * self.layers
            + ((2 * self.layers + 1) * self.hidden)
        )

    @property
    def layer_products(self) -> int:
        """Return the weights of one layer's matrix products."""
        attention = 2 * (self.heads + self.kv_heads) * self.head_dim
        return self.hidden * (attention + 3 * self.inter)

    def flops(self, batch: int, query_len: int, kv_len: int) -> int:
        """Return the operations of a step whose head works on one token per sequence."""
        heads = Heads(batch, query_len, kv_len, self.heads, self.kv_heads, self.head_dim)
        products = self.layer_products * self.layers * query_len + self.vocab * self.hidden
        return 2 * batch * products + self.layers * heads.flops


@dataclass(frozen=True, slots=True)
class Step:
    """One step that can be repeated: the model's call, and the tokens that led to it."""

    model: Any
    tokens: torch.Tensor
    launch: Callable[[], torch.Tensor]
    logits: Callable[[], torch.Tensor]


def build(sizes: Sizes, precision: str, target: Target, seed: int) -> Any:
    """Return a Llama with random weights on the device.

    Raises ``Unsupported`` (``no-transformers``, ``precision``).
    """
    import torch

    try:
        from transformers import LlamaConfig, LlamaForCausalLM
    except ImportError:
        raise Unsupported(
            "no-transformers", "the transformers package is not installed",
            "pip install 'roofprobe[validate]'",
        ) from None  # fmt: skip
    if precision not in TOLERANCES:
        raise Unsupported("precision", f"transformers has no Llama in {precision}")
    new: Any = LlamaConfig  # its signature is made at run time
    config = new(
        hidden_size=sizes.hidden, num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads, num_key_value_heads=sizes.kv_heads,
        head_dim=sizes.head_dim, intermediate_size=sizes.inter, vocab_size=sizes.vocab,
        max_position_embeddings=1 << 17, rms_norm_eps=EPSILON, attn_implementation="sdpa",
        tie_word_embeddings=False, bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    devices = [target.torch_device] if target.is_gpu else []
    before = torch.get_default_dtype()
    with torch.random.fork_rng(devices=devices), torch.device(target.torch_device):
        torch.manual_seed(seed)
        torch.set_default_dtype(getattr(torch, DTYPES[precision]))
        try:
            model: Any = LlamaForCausalLM(config)
        finally:
            torch.set_default_dtype(before)
    return model.eval().requires_grad_(False)


def step(model: Any, phase: str, batch: int, length: int, seed: int) -> Step:
    """Return a step of ``phase`` over ``length`` tokens per sequence, the newest included."""
    import torch

    device = model.lm_head.weight.device
    generator = torch.Generator(device=device).manual_seed(seed)
    tokens = torch.randint(
        model.config.vocab_size, (batch, length), device=device, generator=generator
    )
    call = partial(model, use_cache=True, logits_to_keep=1)
    if phase == PREFILL:
        logits: Callable[[], torch.Tensor] = lambda: call(tokens).logits  # noqa: E731
    else:
        word = _word_for_cache(model)
        with torch.no_grad():
            cache = getattr(call(tokens[:, :-1]), word)
        kept = [(layer.keys, layer.values) for layer in cache.layers]
        newest = tokens[:, -1:].contiguous()

        def logits() -> torch.Tensor:
            for layer, (keys, values) in zip(cache.layers, kept, strict=True):
                layer.keys, layer.values = keys, values
            found: torch.Tensor = call(newest, **{word: cache}).logits
            return found

    return Step(model, tokens, lambda: logits().argmax(-1), logits)


def _word_for_cache(model: Any) -> str:
    """Return the name of the cache's argument; transformers 5.24 renamed it."""
    known = inspect.signature(type(model).forward).parameters
    return next(word for word in ("cache", "past_key_values") if word in known)


def prepare(
    model: Any, sizes: Sizes, phase: str, precision: str, *, batch: int, length: int, seed: int
) -> Work:
    """Return one step of ``model`` as work; raises ``Unsupported`` where there is no such step."""
    if min(batch, length) < 1 or (phase == DECODE and length < 2) or phase not in _PHASES:
        raise Unsupported("shape", f"there is no {phase} of {batch} x {length} tokens")
    made = step(model, phase, batch, length, seed)
    weights = sum(each.nbytes for each in model.parameters())
    cached = 2 * batch * length * sizes.layers * sizes.kv_heads * sizes.head_dim
    cached *= model.lm_head.weight.itemsize
    asked = length if phase == PREFILL else 1
    return Work(
        launches=(made.launch,),
        flops=sizes.flops(batch, asked, length),
        bytes_read=weights + cached * (phase == DECODE),
        bytes_written=cached if phase == PREFILL else cached // length,
        array_bytes=weights + cached,
        check=partial(_check, made, TOLERANCES[precision]),
        kernel=f"transformers {_version()} LlamaForCausalLM, sdpa",
        settings=no_grad,
    )


_PHASES = (PREFILL, DECODE)


@contextmanager
def no_grad() -> Iterator[None]:
    """Record no gradients, as ``generate`` does not."""
    import torch

    with torch.no_grad():
        yield


def _version() -> str:
    import transformers

    return str(transformers.__version__)


def _check(made: Step, tolerance: float) -> Check:
    found = llm_check.wide(made.logits()[:, -1])
    made.model.set_attn_implementation("eager")
    try:
        whole = made.model(made.tokens, use_cache=False, logits_to_keep=1).logits
    finally:
        made.model.set_attn_implementation("sdpa")
    reference = llm_check.wide(whole[:, -1])
    off = (found - reference).norm(dim=-1) / reference.norm(dim=-1)
    error = float(off.max())
    problem = None
    if not error <= tolerance:
        problem = f"the last token's logits are off by {error:.2g}, above {tolerance:.2g}"
    return Check(error if error == error else 1.0, tolerance, MEASURE, found.numel(), problem)
