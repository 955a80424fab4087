"""Time single loads of a chase as a GPU does, in Triton's interpreter, and print them as JSON.

A process of its own, because the interpreter replaces the compiler when Triton is imported.
"""

from __future__ import annotations

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

from roofprobe.kernels import chase
from roofprobe.kernels.work import Target
from roofprobe.probes.latency import single_loads

if __name__ == "__main__":
    # A GPU of neither maker: plain loads, and a counter that rises by one per load.
    target = Target("cuda", "cpu", "interpreter")
    work = chase.prepare(target, footprint_bytes=128 * 37, seed=1, accesses=96)
    print(json.dumps([each.model_dump() for each in single_loads(work, target, loads=64)]))
