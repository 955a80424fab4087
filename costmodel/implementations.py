"""How a model's code is written, as far as its time depends on it: which operations it splits.

A serving engine multiplies by q, k and v at once, adds the residual in the norm, and writes new
keys into a cache that is there. The eager code of Hugging Face transformers (models/llama of
version 5) makes each of these calls by itself, copies the whole cache to append to it, and computes
cos and sin of the positions once per step. The shapes of the operations follow from the model; the
kernels that stand for them in a calibration are named here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal


@dataclass(frozen=True, slots=True)
class Implementation:
    """A way of writing a model, as data.

    ``split`` multiplies by q, k, v, gate and up one by one and rotates q and k apart; ``adds`` are
    sums with the residual per layer that are operations of their own; ``cache`` says whether new
    keys and values are written into it or appended by copying; ``angles`` that cos and sin are
    computed in each step, ``strided_head`` that the head takes prompts' last states as a slice of
    all. ``kernels`` names, per class, which of a calibration's kernels this code
    calls, the best first; classes that are not named take any.
    """

    name: str
    split: bool = False
    adds: int = 0
    cache: Literal["write", "append"] = "write"
    angles: bool = False
    strided_head: bool = False
    kernels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


FUSED: Final = Implementation("fused engine")
_OWN: Final = ("transformers", "torch")
TRANSFORMERS: Final = Implementation(
    "transformers eager",
    split=True,
    adds=2,
    cache="append",
    angles=True,
    strided_head=True,
    kernels={
        **{
            op: _OWN
            for op in ("rmsnorm", "rope", "silu_mul", "add", "kv_store", "kv_append", "embed",
                       "angles")
        },
        **{op: ("transformers", "sdpa") for op in ("attention_prefill", "attention_decode")},
        "sample": ("argmax",),
    },
)  # fmt: skip
