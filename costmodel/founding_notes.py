"""The figures of the founding notes that a cost model can compute, as data with their place there.

The project began with a document "AI GPU notes" (Chinese). Its table of cards is kept in
`roofprobe.peaks.founding_notes`; here is what it says of models, memory and serving. Nothing is
corrected: where figures of the notes contradict each other, all stand here, and
docs/founding-notes.md says which hold. ``place`` is the heading in the notes, with a translation.
Token rates of the notes count prompt and output tokens together unless said otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Cards:
    """A card of the recommendation, as the catalogue knows it, and how many."""

    gpu: str
    count: int


@dataclass(frozen=True, slots=True)
class Recommendation:
    """A row of the recommendation table: nominal parameters in 10^9, weights in GB, cards."""

    title: str
    model: str
    nominal_billions: float
    precision: str
    weights_gb: float
    options: tuple[Cards, ...]


RECOMMENDATIONS_PLACE: Final = "开源大模型算力推荐 (recommended compute for open models)"
_A100: Final = "A100 SXM 80GB"
_SMALL: Final = (Cards("H20 96G", 1), Cards("L20", 1))
RECOMMENDATIONS: Final = (
    Recommendation("Llama 2 7B", "llama-2-7b", 7, "bf16", 14, (Cards("RTX 4090", 1),)),
    Recommendation("Llama 2 13B", "llama-2-13b", 13, "bf16", 26, (Cards(_A100, 1),)),
    Recommendation("Llama 2 70B", "llama-2-70b", 70, "bf16", 140, (Cards(_A100, 2),)),
    Recommendation("GPT-3", "gpt-3-175b", 175, "bf16", 350, (Cards(_A100, 5),)),
    Recommendation("DeepSeek-V3", "deepseek-v3", 671, "fp8", 700, (Cards("H20 96G", 8),)),
    Recommendation("DeepSeek-R1", "deepseek-r1", 671, "fp8", 700, (Cards("H20 96G", 8),)),
    Recommendation("R1-Distill-Qwen-1.5B", "deepseek-r1-distill-qwen-1.5b", 1.5, "bf16", 3.55,
                   _SMALL),
    Recommendation("R1-Distill-Qwen-7B", "deepseek-r1-distill-qwen-7b", 7, "bf16", 15.23, _SMALL),
    Recommendation("R1-Distill-Qwen-14B", "deepseek-r1-distill-qwen-14b", 14, "bf16", 29.54,
                   _SMALL),
    Recommendation("R1-Distill-Qwen-32B", "deepseek-r1-distill-qwen-32b", 32, "bf16", 65.53,
                   (Cards("H20 96G", 1), Cards("L20", 2))),
)  # fmt: skip

#: Not in the notes: parameters of the module for multi-token prediction that the published
#: checkpoints of DeepSeek-V3 and R1 hold besides the model (README of deepseek-ai/DeepSeek-V3).
DEEPSEEK_MTP_BILLIONS: Final = 14

MEMORY_PLACE: Final = "推理显存消耗 (memory of inference)"
#: GB per 10^9 parameters, by (purpose, precision); `memory.RULE_BYTES` has the rule itself.
MEMORY_GB_PER_BILLION: Final = {
    ("training", "fp16"): 20,
    ("inference", "fp16"): 2,
    ("training", "fp8"): 10,
    ("inference", "fp8"): 1,
}


@dataclass(frozen=True, slots=True)
class Pipeline:
    """The pipeline box; each pair is (lightest, heaviest) load. Rates per second, times in ms."""

    input_len: int = 1024
    output_len: int = 1024
    requests_per_second: tuple[float, float] = (0.02, 1.05)
    ttft_ms: tuple[float, float] = (345, 9000)
    tpot_ms: tuple[float, float] = (43.88, 125)
    e2e_s: tuple[float, float] = (45, 137)
    total_tokens_per_second: tuple[float, float] = (45.28, 2390)
    cards: int = 16
    tokens_per_second_per_card: tuple[float, float] = (2.83, 146)


PIPELINE_PLACE: Final = "模型推理Pipeline (the pipeline of inference)"
PIPELINE: Final = Pipeline()
#: "Prompts beyond or below these are not friendly to TTFT" and the range of TPOT to aim at.
SHORT_PROMPT: Final = 100
LONG_PROMPT: Final = 5000
TPOT_RANGE_MS: Final = (25, 50)


@dataclass(frozen=True, slots=True)
class H20Host:
    """DeepSeek-R1/V3 on one host of eight H20: 1K tokens in and out, TTFT at most 2 s."""

    gpu: str = "H20 96G"
    cards: int = 8
    model: str = "deepseek-r1"
    input_len: int = 1024
    output_len: int = 1024
    ttft_ms: float = 2000
    requests_per_second: float = 0.17
    tokens_per_second: float = 350
    tokens_per_minute: float = 21_000
    tokens_per_second_per_card: float = 43.64
    tpot_ms: float = 43
    wanted_tokens_per_minute: float = 20_000_000
    wanted_hosts: int = 1000


H20_HOST_PLACE: Final = "推理发展趋势 6 (trends of inference, 6: cost of one's own service)"
H20_HOST: Final = H20Host()


@dataclass(frozen=True, slots=True)
class A800Test:
    """A 175B model in int8 on four A800; rates count output tokens, ``latency_s`` is per token."""

    gpu: str = "A800"
    cards: int = 4
    model: str = "gpt-3-175b"
    parameters: float = 175e9
    precision: str = "int8"
    input_len: int = 64
    output_len: int = 64
    requests: int = 48
    latency_s: float = 0.097
    tokens_per_second: float = 493
    tokens_per_second_per_card: float = 123.29


A800_TEST_PLACE: Final = "推理性能计算 (computing the performance of inference)"
A800_TEST: Final = A800Test()


@dataclass(frozen=True, slots=True)
class Unit:
    """The least unit of a role in DeepSeek-V3's published deployment, on nodes of eight H800.

    ``ep`` of prefill is not in the notes: DeepSeek-V3 technical report (arXiv 2412.19437), 3.4.1.
    """

    role: str
    nodes: int
    gpus: int
    tp: int
    dp: int
    ep: int


DEPLOYMENT_PLACE: Final = "推理发展趋势 2 (trends of inference, 2: parallelism)"
DEPLOYMENT_GPU: Final = "H800"
DEPLOYMENT_MODEL: Final = "deepseek-v3"
DEPLOYMENT: Final = (Unit("prefill", 4, 32, 4, 8, 32), Unit("decode", 40, 320, 4, 80, 320))
#: GB/s of a GPU's InfiniBand port in that cluster: the same report, 3.2.2.
DEPLOYMENT_NETWORK_GBPS: Final = 50
#: Of the decode unit's GPUs, those with redundant experts and the shared one.
SPARE_EXPERT_GPUS: Final = 64

TIDES_PLACE: Final = "推理发展趋势 4 (trends of inference, 4: tides)"
COLD_START_GB: Final = 700
COLD_START_MINUTES: Final = 30

LARGE_MODEL_PLACE: Final = "推理发展趋势 1 (trends of inference, 1: size)"
#: "Models beyond 100B need 100 GB in FP8, so several cards."
LARGE_MODEL_BILLIONS: Final = 100
LARGE_MODEL_GB: Final = 100
#: An example, not the notes': load by hour as shares of the day's peak, with the morning and
#: evening peaks that the notes name. The peak is the notes' 20 million tokens per minute.
EXAMPLE_DAY: Final = (
    0.25, 0.15, 0.10, 0.08, 0.08, 0.10, 0.20, 0.40, 0.70, 0.95, 1.00, 0.90,
    0.70, 0.75, 0.85, 0.85, 0.80, 0.70, 0.65, 0.80, 0.95, 0.90, 0.65, 0.40,
)  # fmt: skip
