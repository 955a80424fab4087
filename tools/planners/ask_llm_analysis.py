"""Ask llm-analysis: run in its environment; reads a JSON question, prints a JSON answer."""

import json
import pathlib
import sys

import llm_analysis.config as config
from llm_analysis.analysis import infer

question = json.load(sys.stdin)
folder = pathlib.Path(question["folder"])
gpu = config.GPUConfig(**json.loads((folder / f"{question['label']}.json").read_text()))
gpu.mem_per_GPU_in_GB = 1e6  # times are compared, not what fits
config.gpu_configs[gpu.name] = gpu
answers = []
for case in question["cases"]:
    if isinstance(case["model"], dict):
        model = config.ModelConfig(**case["model"])
        config.model_configs[model.name] = model
        name = model.name
    else:
        name = case["model"]
    try:
        found = infer(
            model_name=name,
            gpu_name=gpu.name,
            dtype_name=case["dtype_name"],
            tp_size=case["tp"],
            batch_size_per_gpu=case["batch"],
            seq_len=case["tokens"],
            num_tokens_to_generate=1,
            flops_efficiency=case["flops_efficiency"],
            hbm_memory_efficiency=case["hbm_memory_efficiency"],
            log_level="ERROR",
        )
        answers.append(
            {
                phase: {
                    "ms": found[f"{phase}_latency"] * 1e3,
                    "links_ms": found[f"{phase}_latency_fwd_tp_comm"] * 1e3,
                    "ends_ms": 1e3
                    * (
                        found[f"{phase}_latency_fwd_input_embedding"]
                        + found[f"{phase}_latency_fwd_output_embedding_loss"]
                    ),
                    "kv_cache_ms": found["kv_cache_latency"] * 1e3,
                }
                for phase in ("prefill", "decode")
            }
        )
    except Exception as error:  # whatever it raises is its answer
        answers.append({"error": f"{type(error).__name__}: {error}"})
print("ANSWER " + json.dumps(answers))
