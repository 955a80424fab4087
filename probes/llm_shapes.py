"""Which sizes of which operation are measured, by tier and kind of device: tables, nothing else.

GPU: the layers of models that people serve, whole and as tensor-parallel slices, at the numbers of
tokens of decoding (1 … 128) and prefill (up to 8192); between powers of two a few that are ragged,
for a kernel that is chosen by size jumps there. CPU: layers of small models, wide enough to fit the
constants of a cost model that a small transformer can then be held against.

Sizes of the models: their ``config.json`` (Llama 3.1 8B and 70B, Qwen3 32B and 30B-A3B, DeepSeek
V3, Mixtral 8x7B).
"""

from __future__ import annotations

from dataclasses import dataclass

Tier = str
Shape = dict[str, int]


@dataclass(frozen=True, slots=True)
class Site:
    """One weight (n, k) of a model and, where it is one, the tensor-parallel slice of it."""

    model: str
    part: str
    n: int
    k: int


def _sites(model: str, *parts: tuple[str, int, int]) -> tuple[Site, ...]:
    return tuple(Site(model, *part) for part in parts)


LLAMA_8B = _sites(
    "llama-3.1-8b", ("qkv", 6144, 4096), ("o", 4096, 4096), ("gate_up", 28672, 4096),
    ("down", 4096, 14336), ("lm_head", 128256, 4096),
)  # fmt: skip
LLAMA_70B = _sites(
    "llama-3.1-70b", ("qkv", 10240, 8192), ("o", 8192, 8192), ("gate_up", 57344, 8192),
    ("down", 8192, 28672),
)  # fmt: skip
LLAMA_70B_TP8 = _sites(
    "llama-3.1-70b/8", ("qkv", 1280, 8192), ("o", 8192, 1024), ("gate_up", 7168, 8192),
    ("down", 8192, 3584),
)  # fmt: skip
LLAMA_70B_TP4 = _sites(
    "llama-3.1-70b/4", ("qkv", 2560, 8192), ("o", 8192, 2048), ("gate_up", 14336, 8192),
    ("down", 8192, 7168),
)  # fmt: skip
LLAMA_8B_TP2 = _sites(
    "llama-3.1-8b/2", ("qkv", 3072, 4096), ("o", 4096, 2048), ("gate_up", 14336, 4096),
    ("down", 4096, 7168),
)  # fmt: skip
QWEN_32B = _sites(
    "qwen3-32b", ("qkv", 10240, 5120), ("o", 5120, 8192), ("gate_up", 51200, 5120),
    ("down", 5120, 25600),
)  # fmt: skip
DEEPSEEK_V3 = _sites(
    "deepseek-v3", ("q_a+kv_a", 2112, 7168), ("q_b", 24576, 1536), ("kv_b", 32768, 512),
    ("o", 7168, 16384), ("gate_up", 36864, 7168), ("down", 7168, 18432),
    ("shared_gate_up", 4096, 7168), ("shared_down", 7168, 2048), ("router", 256, 7168),
    ("lm_head", 129280, 7168),
)  # fmt: skip
HEADS_OF_VOCABULARY = _sites(
    "vocabulary", ("llama-3.1-70b", 128256, 8192), ("qwen3-32b", 151936, 5120)
)
SMALL = _sites(
    "small-256", ("qkv", 512, 256), ("gate_up", 1408, 256), ("down", 256, 704),
) + _sites(
    "small-512", ("qkv", 1024, 512), ("o", 512, 512), ("gate_up", 2816, 512), ("down", 512, 1408),
) + _sites(
    "small-1024", ("qkv", 2048, 1024), ("o", 1024, 1024), ("gate_up", 5632, 1024),
    ("down", 1024, 2816),
)  # fmt: skip
SMALL_HEADS = _sites("small", ("lm_head", 8192, 512), ("lm_head", 32000, 1024))

_POWERS = tuple(1 << power for power in range(14))  # 1 … 8192
_RAGGED = (17, 24, 33, 48, 65, 96, 129, 192, 257, 384, 513, 768, 1025, 1536)
_SOME = (1, 4, 16, 32, 64, 128, 256, 512, 1024, 2048, 8192)
_FEW = (1, 16, 128, 2048)
_MOST_HEAD_ROWS = 256  # of a vocabulary's product: one row per sequence, never per prompt token

# Precision → (sites, tokens) of products, by tier. On a GPU.
Gemms = tuple[tuple[tuple[Site, ...], tuple[int, ...]], ...]
GPU_GEMMS: dict[Tier, dict[str, Gemms]] = {
    "quick": {"bf16": ((LLAMA_8B[2:3], (1, 32, 2048)),)},
    "standard": {
        "bf16": ((LLAMA_8B, (*_SOME, 48, 192)), ((*LLAMA_70B, *LLAMA_70B_TP8), _FEW)),
        "fp8": (((LLAMA_8B[0], *LLAMA_8B[2:4]), (1, 16, 64, 128, 129, 512, 2048)),
                (LLAMA_70B[2:], (1, 64, 1024))),
        "fp8-block": ((DEEPSEEK_V3[4:8], (16, 2048)),),
        "nvfp4": ((LLAMA_8B[2:4], (16, 128, 2048)),),
    },
    "soak": {
        **{
            precision: (
                ((*LLAMA_8B, *LLAMA_8B_TP2, *LLAMA_70B, *LLAMA_70B_TP4, *LLAMA_70B_TP8, *QWEN_32B,
                  *DEEPSEEK_V3, *HEADS_OF_VOCABULARY), (*_POWERS, *_RAGGED, 16384)),
            )
            for precision in ("bf16", "fp8")
        },
        "fp8-block": ((DEEPSEEK_V3, _SOME),),
        **{
            precision: (((*LLAMA_8B, *LLAMA_70B_TP8), _SOME),)
            for precision in ("fp16", "fp32", "int8", "mxfp8", "nvfp4")
        },
    },
}  # fmt: skip
CPU_GEMMS: dict[Tier, dict[str, Gemms]] = {
    "quick": {"fp32": ((SMALL[3:7], (1, 128)),)},
    "standard": {
        "fp32": ((SMALL, (1, 4, 8, 32, 128, 512)), (SMALL_HEADS, (1, 8))),
        "bf16": ((SMALL[3:7], (1, 128)),),
    },
    "soak": {
        precision: ((SMALL, (*_POWERS[:11], 3, 6, 12, 24, 48, 96, 192, 384, 768)),
                    (SMALL_HEADS, _POWERS[:6]))
        for precision in ("fp32", "bf16")
    },
}  # fmt: skip

# (heads, kv_heads, head_dim): whole models, and what is left of them in a tensor-parallel slice.
GPU_HEADS = (
    (32, 8, 128), (64, 8, 128), (40, 8, 128), (16, 4, 128), (8, 2, 128), (8, 1, 128), (4, 1, 128),
)  # fmt: skip
CPU_HEADS = ((8, 4, 64), (4, 2, 64), (16, 8, 64))

# Per tier: (how many of the heads above, (batch, query_len, kv_len)).
Prefills = tuple[tuple[int, tuple[tuple[int, int, int], ...]], ...]
GPU_PREFILLS: dict[Tier, Prefills] = {
    "quick": ((1, ((1, 2048, 2048),)),),
    "standard": (
        (1, ((1, 128, 128), (1, 512, 512), (1, 2048, 2048), (1, 8192, 8192), (4, 1024, 1024),
             (1, 512, 4096), (1, 2048, 16384))),
        (7, ((1, 1024, 1024), (1, 4096, 4096))),
    ),
    "soak": (
        (7, tuple((batch, length, length) for length in (128, 256, 512, 1024, 2048, 4096, 8192,
                                                         16384, 32768)
                  for batch in (1, 2, 4, 8) if batch * length <= 32768)),
        (7, tuple((1, asked, kept) for asked in (16, 128, 512, 2048)
                  for kept in (4096, 16384, 65536))),
    ),
}  # fmt: skip
CPU_PREFILLS: dict[Tier, Prefills] = {
    "quick": ((1, ((1, 128, 128),)),),
    "standard": (
        (1, ((1, 16, 16), (1, 64, 64), (1, 128, 128), (1, 256, 256), (1, 512, 512),
             (1, 1024, 1024), (4, 128, 128), (1, 64, 512))),
        (3, ((1, 32, 32), (1, 128, 128), (1, 512, 512))),
    ),
    "soak": (
        (3, tuple((batch, length, length) for length in (16, 32, 64, 128, 256, 512, 1024)
                  for batch in (1, 2, 4, 8))),
        (3, ((1, 64, 512), (1, 128, 1024))),
    ),
}  # fmt: skip
# Per tier: (how many of the heads above, batches, lengths of the cache).
Decodes = tuple[tuple[int, tuple[int, ...], tuple[int, ...]], ...]
GPU_DECODES: dict[Tier, Decodes] = {
    "quick": ((1, (32,), (4096,)),),
    "standard": ((1, (1, 16, 128), (512, 4096, 32768)), (7, (8, 64), (4096,))),
    "soak": (
        (7, (1, 2, 4, 8, 16, 32, 64, 128, 256),
         (1, 128, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)),
    ),
}  # fmt: skip
CPU_DECODES: dict[Tier, Decodes] = {
    "quick": ((1, (1, 8), (512,)),),
    "standard": ((1, (1, 2, 4, 8), (64, 256, 512, 1024)), (3, (1, 8), (128, 512))),
    "soak": ((3, (1, 2, 4, 8), (16, 64, 128, 256, 512, 768, 1024)),),
}
# Above: a cache that no single device keeps beside its weights.
MOST_CACHED_TOKENS = 1 << 21

_V3 = {"heads": 128, "kv_rank": 512, "rope_dim": 64}
_V3_PREFILL = {"heads": 128, "kv_rank": 512, "rope_dim": 64, "nope_dim": 128, "v_dim": 128}
MLA_DECODES: dict[Tier, tuple[Shape, ...]] = {
    "quick": (),
    "standard": tuple(
        {"batch": batch, "kv_len": length, **_V3, "heads": heads}
        for heads in (128, 16) for batch, length in ((1, 4096), (16, 4096), (64, 8192))
    ),
    "soak": tuple(
        {"batch": batch, "kv_len": length, **_V3, "heads": heads}
        for heads in (128, 64, 32, 16) for batch in (1, 4, 16, 64, 128)
        for length in (512, 2048, 8192, 32768)
    ),
}  # fmt: skip
MLA_PREFILLS: dict[Tier, tuple[Shape, ...]] = {
    "quick": (),
    "standard": tuple(
        {"batch": 1, "query_len": length, "kv_len": length, **_V3_PREFILL, "heads": heads}
        for heads in (128, 16) for length in (512, 4096)
    ),
    "soak": tuple(
        {"batch": 1, "query_len": length, "kv_len": length, **_V3_PREFILL, "heads": heads}
        for heads in (128, 64, 32, 16) for length in (128, 512, 2048, 8192)
    ),
}  # fmt: skip


def _experts(experts: int, topk: int, hidden: int, inter: int, local: int) -> Shape:
    return {
        "experts": experts, "topk": topk, "hidden": hidden, "inter": inter, "local_experts": local,
    }  # fmt: skip


MIXTRAL = _experts(8, 2, 4096, 14336, 8)
QWEN_30B = _experts(128, 8, 2048, 768, 128)
DEEPSEEK_EP8 = _experts(256, 8, 7168, 2048, 32)
DEEPSEEK = _experts(256, 8, 7168, 2048, 256)
SMALL_EXPERTS = _experts(8, 2, 512, 704, 8)

# Per tier: (layer, tokens, routings).
Moes = tuple[tuple[Shape, tuple[int, ...], tuple[str, ...]], ...]
_BOTH = ("balanced", "power-law-1.2")
GPU_EXPERTS: dict[Tier, Moes] = {
    "quick": (),
    "standard": (
        (MIXTRAL, (1, 16, 2048), _BOTH[:1]),
        (QWEN_30B, (1, 16, 128, 2048), _BOTH),
        (DEEPSEEK_EP8, (1, 64, 2048), _BOTH[:1]),
    ),
    "soak": tuple(
        (layer, (*_POWERS, 16384), _BOTH) for layer in (MIXTRAL, QWEN_30B, DEEPSEEK_EP8, DEEPSEEK)
    ),
}
CPU_EXPERTS: dict[Tier, Moes] = {
    "quick": (),
    "standard": ((SMALL_EXPERTS, (1, 8, 128), _BOTH[:1]), (SMALL_EXPERTS, (128,), _BOTH[1:])),
    "soak": ((SMALL_EXPERTS, _POWERS[:10], _BOTH),),
}

# Operation → widths; rows by tier. The width of silu_mul is that of its result.
GPU_ROWS: dict[str, tuple[int, ...]] = {
    "rmsnorm": (4096,), "rope": (5120,), "silu_mul": (14336,), "quantize": (4096, 14336),
    "sample": (128256,),
}  # fmt: skip
CPU_ROWS: dict[str, tuple[int, ...]] = {
    "rmsnorm": (512, 1024),
    "rope": (768, 1536),
    "silu_mul": (1408, 2816),
    "sample": (8192, 32000),
}
ROW_COUNTS: dict[tuple[str, Tier], tuple[int, ...]] = {
    ("gpu", "quick"): (),
    ("gpu", "standard"): (1, 32, 512, 4096),
    ("gpu", "soak"): (*_POWERS, 16384),
    ("cpu", "quick"): (1, 128),
    ("cpu", "standard"): (1, 8, 128, 512),
    ("cpu", "soak"): _POWERS[:11],
}
MOST_SAMPLED = 256  # rows: as many as there are sequences


def rows_of(op: str, kind: str, tier: Tier) -> tuple[int, ...]:
    """Return the numbers of rows at which an operation is measured."""
    counts = ROW_COUNTS[(kind, tier)]
    if op != "sample":
        return counts
    most = MOST_SAMPLED if kind == "gpu" else 8
    return tuple(count for count in counts if count <= most)


def gemm_shapes(kind: str, tier: Tier, precision: str) -> tuple[tuple[Site, int], ...]:
    """Return the (weight, tokens) of a precision, each once, in the order of the table."""
    table = (CPU_GEMMS if kind == "cpu" else GPU_GEMMS)[tier].get(precision, ())
    found: dict[tuple[int, int, int], tuple[Site, int]] = {}
    for sites, tokens in table:
        for m in tokens:
            for site in sites:
                head = site.part == "lm_head" or site.model == "vocabulary"
                if not (head and m > _MOST_HEAD_ROWS):
                    found.setdefault((m, site.n, site.k), (site, m))
    return tuple(found.values())
