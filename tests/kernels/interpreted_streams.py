"""Run our Triton streams in Triton's interpreter, as a probe prepares them, and print JSON.

A process of its own, because the interpreter replaces the compiler when Triton is imported.
"""

from __future__ import annotations

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

from roofprobe.kernels import stream
from roofprobe.kernels.work import Target

# A GPU as far as the routes are concerned; its three multiprocessors make each persistent program
# walk over several blocks.
TARGET = Target("cuda", "cpu", "sm_90", 3)
CONFIGS = ("b2048-w4", "b4096-w4-g2", "b4096-w4-g1-s3", "b4096-w4-g2-s3-tma")
BLOCK_BYTES = 4096
KERNELS = (
    "read", "write", "copy", "scale", "add", "triad", "dot", "nstream", "gather-16", "gather-64",
    "strided-2", "strided-16", "l2-read",
)  # fmt: skip


def sizes(kernel: str, item: int, config: str) -> tuple[int, ...]:
    """Return numbers of elements: whole blocks, a ragged end, and very little."""
    row = stream.BY_NAME[kernel]
    if row.group == "gather":
        pages = 7 * (row.page_bytes or 0) // item
        return (pages, pages + 5)
    if row.group == "strided":
        one = row.granule_bytes // item
        return (256 * one, 77 * one + 5, one)
    if row.group == "cache":
        return (5 * row.granule_bytes // item, row.granule_bytes // item + 7)
    whole = 16 * BLOCK_BYTES // item
    rows = 128 // item
    return (whole, whole + rows) if config.endswith("tma") else (whole, whole - 3, 3)


def configs_of(kernel: str) -> tuple[str, ...]:
    """Return the forms that a kernel has."""
    if stream.BY_NAME[kernel].group == "cache":
        return (CONFIGS[0], CONFIGS[1])
    return CONFIGS[:-1] if kernel.startswith("strided") else CONFIGS


def passes_of(kernel: str) -> int:
    """Return how often a launch goes over its array; no number of blocks divides it."""
    return 3 if stream.BY_NAME[kernel].group == "cache" else 1


def outcomes() -> dict[str, dict[str, object]]:
    """Return what the check of each kernel, configuration, type and size says."""
    found: dict[str, dict[str, object]] = {}
    for kernel in KERNELS:
        for config in CONFIGS:
            if config not in configs_of(kernel):
                continue
            for precision in ("fp32", "bf16", "fp64") if config == CONFIGS[0] else ("bf16",):
                for elements in sizes(kernel, stream.ITEM_BYTES[precision], config):
                    work = stream.prepare(
                        kernel, "triton", precision, TARGET, elements=elements, buffer_sets=1,
                        seed=7, config=config, passes=passes_of(kernel),
                    )  # fmt: skip
                    check = work.check()
                    found[f"{kernel} {config} {precision} {elements}"] = {
                        "problem": check.problem,
                        "error": check.error,
                        "tolerance": check.tolerance,
                        "checked": check.checked_elements,
                        "read": work.bytes_read,
                        "written": work.bytes_written,
                        "config": work.config,
                    }
    return found


if __name__ == "__main__":
    print(json.dumps(outcomes()))
