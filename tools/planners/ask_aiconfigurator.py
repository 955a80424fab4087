"""Ask aiconfigurator: run in its environment; reads a JSON question, prints a JSON answer."""

import json
import sys

from aiconfigurator.cli.api import cli_estimate

question = json.load(sys.stdin)
answers = []
for case in question["cases"]:
    try:
        found = cli_estimate(
            model_path=case["model"],
            system_name=question["label"],
            systems_paths=question["folder"],
            mode="static",
            backend_name="vllm",
            isl=case["input_len"],
            osl=case["output_len"],
            batch_size=case["batch"],
            tp_size=case["tp"],
            # Of experts it wants to know both, and that their product is the group.
            moe_tp_size=case["ep"] and case["tp"] // case["ep"],
            moe_ep_size=case["ep"],
            gemm_quant_mode="bfloat16",
            kvcache_quant_mode="bfloat16",
            database_mode="SILICON",
        )
        answers.append({"ttft_ms": float(found.ttft), "tpot_ms": float(found.tpot)})
    except Exception as error:  # whatever it raises is its answer
        answers.append({"error": f"{type(error).__name__}: {error}"})
print("ANSWER " + json.dumps(answers))
