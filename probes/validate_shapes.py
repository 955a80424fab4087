"""Which real models are run to hold predictions against, and at which batches and lengths.

CPU: three small models in float32 that differ in depth, width, heads and vocabulary; each is larger
than the last-level caches of common hosts, so that weights come from memory as they do in a served
model. GPU: the sizes of Llama 3.2 1B and 3B and of Llama 3.1 8B (their ``config.json``) in bf16,
with as many layers as fit.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from roofprobe.kernels.transformer import DECODE, PREFILL, Sizes
from roofprobe.records import transformer_floor as floor
from roofprobe.records.schema import Device

Asked = tuple[str, int, int]  # phase, batch, tokens per sequence
ITEM_BYTES = {"fp32": 4, "bf16": 2, "fp16": 2}
_SHARE_OF_FREE = 0.6  # of the memory, for weights and caches; the rest is for what is computed
_LEAST_LAYERS = 2


@dataclass(frozen=True, slots=True)
class Model:
    """A model by name."""

    name: str
    sizes: Sizes


CPU_MODELS = (
    Model("small-256", Sizes(16, 256, 4, 2, 64, 704, 8192)),
    Model("small-512", Sizes(8, 512, 8, 4, 64, 1408, 16000)),
    Model("small-768", Sizes(6, 768, 12, 4, 64, 2048, 32000)),
)
GPU_MODELS = (
    Model("llama-3.2-1b", Sizes(16, 2048, 32, 8, 64, 8192, 128256)),
    Model("llama-3.2-3b", Sizes(28, 3072, 24, 8, 128, 8192, 128256)),
    Model("llama-3.1-8b", Sizes(32, 4096, 32, 8, 128, 14336, 128256)),
)
FLOORS = tuple(Model(floor.MODEL, Sizes(layers=n, **floor.SIZES)) for n in floor.LAYERS)

_CPU_STEPS: dict[str, tuple[Asked, ...]] = {
    "quick": ((PREFILL, 1, 64), (DECODE, 1, 128), (PREFILL, 1, 256), (DECODE, 1, 512)),
    "standard": (
        (PREFILL, 1, 64), (DECODE, 1, 128), (PREFILL, 1, 256), (DECODE, 1, 512),
        (PREFILL, 4, 64), (DECODE, 8, 128),
    ),
    "soak": tuple(
        [(PREFILL, batch, length) for batch in (1, 4) for length in (16, 64, 256, 512)]
        + [(DECODE, batch, length) for batch in (1, 2, 4, 8) for length in (64, 256, 1024)]
    ),
}  # fmt: skip
_GPU_STEPS: dict[str, tuple[Asked, ...]] = {
    "quick": ((PREFILL, 1, 512), (DECODE, 1, 1024), (PREFILL, 1, 2048), (DECODE, 16, 1024)),
    "standard": (
        (PREFILL, 1, 512), (DECODE, 1, 1024), (PREFILL, 1, 2048), (DECODE, 16, 1024),
        (PREFILL, 4, 1024), (DECODE, 64, 2048),
    ),
    "soak": tuple(
        [(PREFILL, batch, length) for batch in (1, 4) for length in (128, 512, 2048, 4096)]
        + [(DECODE, batch, length) for batch in (1, 4, 16, 64) for length in (256, 1024, 4096)]
    ),
}  # fmt: skip


def models(device: Device, tier: str, precision: str) -> tuple[Model, ...]:
    """Return the models to run on ``device``, each with as many of its layers as have room."""
    on_cpu = device.backend == "cpu"
    table = CPU_MODELS if on_cpu else GPU_MODELS
    chosen = table[1:2] if tier == "quick" else table
    free = device.memory_free_bytes or device.memory_bytes
    if free is None:
        return chosen
    room = int(free * _SHARE_OF_FREE) // ITEM_BYTES[precision]
    fitted = [_fitted(model, steps(device, tier), room) for model in chosen]
    return tuple(model for model in fitted if model is not None)


def _fitted(model: Model, asked: tuple[Asked, ...], room_elements: int) -> Model | None:
    sizes = model.sizes
    cached = max(2 * batch * length * sizes.kv_heads * sizes.head_dim for _, batch, length in asked)
    outer = replace(sizes, layers=0).parameters
    # The cache of one layer more is made anew in each layer of a decode step.
    layers = (room_elements - outer - cached) // (sizes.layer_products + 2 * sizes.hidden + cached)
    if layers < _LEAST_LAYERS:
        return None
    return model if layers >= sizes.layers else replace(model, sizes=replace(sizes, layers=layers))


def steps(device: Device, tier: str) -> tuple[Asked, ...]:
    """Return the steps that every model runs, prefill and decode by turns."""
    return (_CPU_STEPS if device.backend == "cpu" else _GPU_STEPS)[tier]
