"""The model that has nothing to compute, and the names under which its steps are recorded.

The host's own work in a step (Python, module calls, views, masks) is what is left of a model whose
tensors are so small that arithmetic takes no time: a step of a few layers and one of many, and the
operations of both, each by itself. Whoever measures it and whoever predicts with it must mean the
same model, so its sizes stand here.
"""

from __future__ import annotations

from typing import Final

MODEL: Final = "floor"
SIZES: Final = {
    "hidden": 32, "heads": 2, "kv_heads": 1, "head_dim": 16, "inter": 32, "vocab": 64,
}  # fmt: skip
LAYERS: Final = (2, 18)
# Phase → (batch, tokens per sequence).
STEPS: Final = {"prefill": (1, 2), "decode": (1, 3)}


def route(phase: str, layers: int) -> str:
    """Return the route under which a step's time is kept among a calibration's launch costs."""
    return f"transformers-{phase}-{layers}-layers"
