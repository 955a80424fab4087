"""Ask GenZ: run in its environment; reads a JSON question, prints a JSON answer."""

import json
import sys

from GenZ import decode_moddeling, prefill_moddeling

question = json.load(sys.stdin)
answers = []
for case in question["cases"]:
    common = {
        "model": case["model"],
        "batch_size": case["batch"],
        "input_tokens": case["tokens"],
        "system_name": {**case["system"], "Memory_size": 1e6},  # times, not what fits
        "bits": case["bits"],
        "tensor_parallel": case["tp"],
    }
    try:
        if case["phase"] == "prefill":
            found = prefill_moddeling(**common)
        else:
            found = decode_moddeling(**common, Bb=1, output_tokens=0)
        rows = found["model_df"]
        names, times = rows["Layer Name"], rows["Latency (msec)"]
        answers.append(
            {
                "ms": float(found["Latency"]),
                "embedding_ms": float(times[names == "embeddings"].sum()),
                "classifier_ms": float(times[names == "classifier"].sum()),
                "links_ms": float(found["summary_table"]["Comm Latency (msec)"].iloc[0]),
                "scores_ms": float(times[names.isin(["Logit", "Attend"])].sum()),
            }
        )
    except Exception as error:  # whatever it raises is its answer
        answers.append({"error": f"{type(error).__name__}: {error}"})
print("ANSWER " + json.dumps(answers))
