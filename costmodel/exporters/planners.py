"""The planners that can be exported to, as data: what each does with the figures and what it loses.

``version`` is what the exporter was checked against, or how its format is known. ``load`` are the
commands that load the files, with ``{out}`` the folder, ``{label}`` the device's name there and
``{model}`` a model whose config.json is among them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from roofprobe.costmodel.exporters import (
    aiconfigurator,
    blis,
    calculon,
    genz,
    infersim,
    llm_analysis,
    llmservingsim,
)
from roofprobe.costmodel.exporters.files import Export
from roofprobe.costmodel.exporters.subject import Subject


@dataclass(frozen=True, slots=True)
class Planner:
    """One planner. ``refusal`` says why nothing is exported to it; otherwise ``export`` does."""

    name: str
    version: str
    uses: str
    loses: tuple[str, ...]
    load: str
    export: Callable[[Subject], Export] | None = None
    refusal: str = ""


_FIXED: Final = (
    "Fixed times (launches, prologues) are inside the efficiencies: they hold for the batch and "
    "length that they were made for, and flatter or punish others."
)
_ROWS: Final = (
    Planner(
        "aiconfigurator",
        "aiconfigurator 0.12.0, checked by running it",
        "It looks up each operation's time in the tables, exactly where a shape is there and "
        "blended between neighbours where it is not, and adds them up. Norms, activations and "
        "look-ups take bytes / (mem_bw × mem_bw_empirical_scaling_factor) + "
        "mem_empirical_constant_latency. A model with experts also needs --moe-tp-size and "
        "--moe-ep-size.",
        (
            "Decode steps have no rotation, no cache write and no sampling in its inventory; "
            "`probe plan` counts them.",
            "Tokens are spread evenly over experts; it asks for a power law, finds none, and takes "
            "the even spread without a word.",
            "Intervals: a table has one time per shape.",
            "Out of memory only warns there; `probe plan` refuses.",
        ),
        "aiconfigurator cli estimate --model-path {out}/models/{model} --systems-paths "
        "{out} --system {label} --backend vllm --estimate-mode static --isl 1024 --osl 128 "
        "--batch-size 8 --tp-size 1",
        aiconfigurator.export,
    ),
    Planner(
        "llm-analysis",
        "llm-analysis 0.2.2, checked by running it",
        "Each block of a layer takes the larger of its FLOPs over peak × flops_efficiency and its "
        "bytes over bandwidth × hbm_memory_efficiency.",
        (
            _FIXED,
            "It counts 16·H² FLOPs per token and layer for the MLP whatever its width, the whole "
            "square of causal attention, the logits of every prompt token, and per token the KV "
            "cache of the full length twice.",
            "Experts: FLOPs ignore how many each token visits.",
        ),
        "cp {out}/{label}.json $(python -c 'import llm_analysis; print(llm_analysis.__path__[0])')"
        "/gpu_configs/ && for phase in prefill decode; do python -m llm_analysis.analysis infer "
        "--model_name upstage_Llama-2-70b-instruct-v2 --num_tokens_to_generate 128 "
        "$(cat {out}/$phase.flags); done",
        llm_analysis.export,
    ),
    Planner(
        "genz",
        "genz-llm 0.0.16, checked by running it",
        "Each operation takes the larger of its FLOPs over Flops and its bytes over Memory_BW; "
        "collectives take ICN and ICN_LL.",
        (
            _FIXED,
            "It counts the embedding as a product with the whole vocabulary, the logits of every "
            "prompt token, and the whole square of causal attention.",
            "Norms, activations and rotations are not counted; their time is inside the "
            "efficiencies.",
        ),
        "python {out}/use_genz.py",
        genz.export,
    ),
    Planner(
        "calculon",
        "calculon at commit caa4b11, checked by running it",
        "Each operation takes the larger of its FLOPs over peak × efficiency at its GFLOP and its "
        "bytes over bandwidth × efficiency at its MB.",
        (
            "A step function: an operation just below a threshold takes that of the size below.",
            "Efficiency depends on the size of an operation alone, not on its shape.",
            "Prefill and training only: no KV cache, no experts, two matrices per MLP; attention "
            "writes its scores to memory.",
        ),
        "PYTHONPATH=. ./bin/calculon llm app.json exe.json {out}/{label}.json -",
        calculon.export,
    ),
    Planner(
        "infersim",
        "InferSim at commit f2293da, checked by running it",
        "Only mfu is used: FLOPs over peak × mfu of the table's row that its rules find.",
        (
            "TFLOPS count 1024 GFLOPS there (2.4 % too fast); prefill attention divides by 1.8 "
            "where its benchmarks divide by 2 (11 % too slow); a batch takes the mfu of the next "
            "smaller one.",
            "Norms, rotations, logits and sampling are not counted; 30 ms and 5 ms are added for "
            "its scheduler.",
            "Memory bandwidth has its own factor 0.8.",
        ),
        "cp -r {out}/bench_data {out}/models {out}/run_infersim.py InferSim/ && cd InferSim && "
        "python run_infersim.py --device-type {label} --config-path models/{model}/config.json",
        infersim.export,
    ),
    Planner(
        "blis",
        "inference-sim (BLIS) at commit f90a1e3, its documented format; not run",
        "Its roofline model: FLOPs over peak × mfu of the phase, or bytes over bandwidth.",
        (
            _FIXED,
            "Its default model (trained-physics) would correct twice: use the roofline one.",
        ),
        "blis run --hardware-config {out}/hardware_config.json --hardware {label} "
        "--latency-model roofline",
        blis.export,
    ),
    Planner(
        "llmservingsim",
        "LLMServingSim at commit 5daddb2, its documented bundle; loaded by its reader",
        "It adds up the layers' times, interpolated linearly over tokens, sequences and the four "
        "axes of attention, and simulates queues and links.",
        (
            "A step of prompts and decodes takes the sum of both attentions here.",
            "Links are those of its cluster configuration, not of these files.",
        ),
        "cp -r {out}/profiler LLMServingSim/ (the cluster configuration's hardware is {label})",
        llmservingsim.export,
    ),
    Planner(
        "vidur",
        "vidur 0.0.26",
        "", (), "",
        refusal="Vidur fits random forests to five statistics (min, max, mean, median, std) of "
        "repeated timings of every operation of its own profiler; a calibration has one median per "
        "shape, and inventing the spread would not be honest, so nothing is exported to it",
    ),
)  # fmt: skip
PLANNERS: Final[Mapping[str, Planner]] = MappingProxyType({row.name: row for row in _ROWS})
