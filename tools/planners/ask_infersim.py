"""Ask InferSim: run in its clone, with the exported files in it; prints a JSON answer."""

import json
import pathlib
import re
import subprocess
import sys

question = json.load(sys.stdin)
folder = pathlib.Path(question["folder"]).resolve()
answers = []
for case in question["cases"]:
    command = [
        sys.executable, str(folder / "run_infersim.py"), "--device-type", question["label"],
        "--config-path", case["config"], "--world-size", "1",
        "--max-prefill-tokens", str(case["tokens"]), "--target-isl", str(case["tokens"]),
        "--target-osl", "2", "--decode-bs", str(case["batch"]),
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    found = {
        name.lower() + "_ms": float(match.group(1))
        for name in ("TTFT", "TPOT")
        if (match := re.search(rf"{name} \(ms\):\s+([\d.]+)", done.stdout))
    }
    answers.append(
        found if len(found) == 2 else {"error": done.stderr[-300:] or done.stdout[-300:]}
    )
print("ANSWER " + json.dumps(answers))
