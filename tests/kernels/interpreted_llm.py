"""Run our decode attention and row kernels in Triton's interpreter, as a probe does; print JSON.

In fp16, since the interpreter multiplies the bits of bf16 as if they were integers.

A process of its own, because the interpreter replaces the compiler when Triton is imported.
"""

from __future__ import annotations

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

import torch

from roofprobe.kernels import cached_decode, rows_work, triton_decode
from roofprobe.kernels.attention import Heads
from roofprobe.kernels.work import Check, Target

# Eight multiprocessors, so that long caches are split and short ones are not.
TARGET = Target("cuda", "cpu", "sm_90", 8)
# (batch, kv_len, heads, kv_heads, head_dim): one key, less than a step, ragged, split in many;
# groups of one, two and of five, all heads on one.
DECODES = (
    (1, 1, 4, 1, 128), (2, 50, 4, 2, 64), (3, 300, 10, 2, 32), (1, 1030, 8, 1, 128),
    (2, 700, 2, 2, 16), (1, 4097, 2, 1, 64),
)  # fmt: skip
ROWS = {
    "rmsnorm": ((1, 64), (5, 300)), "rope": ((3, 128), (2, 1280)), "silu_mul": ((1, 40), (3, 2050)),
    "quantize": ((1, 16), (4, 300)),
}  # fmt: skip


def told(check: Check) -> dict[str, object]:
    return {"problem": check.problem, "error": check.error, "checked": check.checked_elements}


def decodes() -> dict[str, dict[str, object]]:
    """Return what the check says of each size, cache and layout, and what it says of faults."""
    found: dict[str, dict[str, object]] = {}
    for size in DECODES:
        batch, kv_len, heads, kv_heads, width = size
        for kv_precision in ("fp16", "fp8"):
            for paged in (False, True):
                work = cached_decode.prepare(
                    Heads(batch, 1, kv_len, heads, kv_heads, width), "fp16", kv_precision, TARGET,
                    paged=paged, cache_bytes=0, limit_bytes=None, seed=3,
                )  # fmt: skip
                name = f"{'x'.join(map(str, size))} {kv_precision}{' paged' if paged else ''}"
                splits = triton_decode.splits_for(batch * kv_heads, kv_len, 8)
                found[name] = {
                    **told(work.check()), "read": work.bytes_read, "written": work.bytes_written,
                    "splits": splits,
                }  # fmt: skip
    return found


def row_operations() -> dict[str, dict[str, object]]:
    """Return what the check says of each fused operation."""
    found = {}
    for op, sizes in ROWS.items():
        for precision in ("bf16", "fp32"):
            for rows, width in sizes:
                work = rows_work.prepare(
                    op,
                    "triton",
                    precision,
                    TARGET,
                    rows=rows,
                    width=width,
                    limit_bytes=None,
                    seed=5,
                )
                found[f"{op} {precision} {rows}x{width}"] = told(work.check())
    return found


def forgotten_split() -> dict[str, object]:
    """Return what the check says when the last split of a cache is left out of the result."""
    right = triton_decode.splits_for
    launcher = triton_decode.launcher

    def short(*arguments: torch.Tensor, kv_len: int, **more: object) -> object:
        return launcher(*arguments, kv_len=kv_len - 64, **more)  # type: ignore[arg-type]

    triton_decode.launcher = short  # type: ignore[assignment]
    work = cached_decode.prepare(
        Heads(1, 1, 1024, 8, 1, 64), "fp16", "fp16", TARGET, paged=False, cache_bytes=0,
        limit_bytes=None, seed=3,
    )  # fmt: skip
    triton_decode.launcher, triton_decode.splits_for = launcher, right
    return told(work.check())


if __name__ == "__main__":
    print(
        json.dumps({"decodes": decodes(), "rows": row_operations(), "forgotten": forgotten_split()})
    )
