"""Ask LLMServingSim's reader: run in ``serving/`` of its clone; prints a JSON answer.

Adds up one step of a dense model by the simulator's own look-ups and its own list of layers.
"""

import json
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path.cwd().parent))
from serving.core import trace_generator

question = json.load(sys.stdin)
root = pathlib.Path.cwd().parent / "profiler" / "perf" / question["label"]
shutil.rmtree(root, ignore_errors=True)
shutil.copytree(pathlib.Path(question["folder"]) / "profiler" / "perf" / question["label"], root)
answers = []
for case in question["cases"]:
    try:
        db = trace_generator._load_perf_db(
            question["label"], case["model"], case["variant"], {case["tp"]}, "llama"
        )
        prefill = case["phase"] == "prefill"
        tokens = case["tokens"] if prefill else case["batch"]
        sequences = 1 if prefill else case["batch"]
        sequence = db["architecture"]["sequence"]

        prompt, decodes = (case["tokens"], 0) if prefill else (0, case["batch"])
        context = 0 if prefill else case["tokens"]
        attention_ns = trace_generator._lookup_attention(
            db, case["tp"], prompt, 0, decodes, context
        )
        times = {"attention": attention_ns}
        for name in ("lm_head", "sampler"):
            times[name] = trace_generator._lookup_per_sequence(db, name, case["tp"], sequences)
        for name in db["tables"][case["tp"]]["dense"]:
            times[name] = trace_generator._lookup_dense(db, name, case["tp"], tokens)
        layer = [n for part in ("pre_attn", "post_attn", "mlp_dense") for n in sequence[part]]
        ends = [*sequence["prologue"], *sequence["head"]]
        total = case["layers"] * sum(times[n] for n in layer) + sum(times[n] for n in ends)
        answers.append({"ms": total / 1e6})
    except Exception as error:  # whatever it raises is its answer
        answers.append({"error": f"{type(error).__name__}: {error}"})
print("ANSWER " + json.dumps(answers))
