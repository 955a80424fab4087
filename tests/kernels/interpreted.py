"""Run our Triton kernels in Triton's interpreter and print their errors as JSON.

A process of its own, because the interpreter replaces the compiler when Triton is imported.
"""

from __future__ import annotations

import json
import os
import sys

os.environ["TRITON_INTERPRET"] = "1"

import torch

from roofprobe.kernels import (
    chase,
    triton_matmul,
    triton_pipe,
    triton_pipe_rows,
    triton_scaled,
)
from roofprobe.kernels.triton_chase import Cache, GpuWalk
from roofprobe.kernels.triton_configs import config_named
from roofprobe.kernels.triton_pipe_rows import PipeConfig
from roofprobe.kernels.work import Target

# Whole tiles, ragged edges in every direction, a k that does not fill a step, a tiny matrix.
SHAPES = ((64, 64, 64), (70, 50, 40), (33, 129, 96), (17, 5, 8))
# The same for descriptors, whose rows are multiples of 16 bytes whatever the type.
WIDE_SHAPES = ((64, 64, 64), (70, 48, 48), (33, 144, 96))
TYPES = {
    "fp64": (torch.float64, torch.float64),
    "fp32": (torch.float32, torch.float32),
    "tf32": (torch.float32, torch.float32),
    "fp16": (torch.float16, torch.float16),
    "fp16-acc16": (torch.float16, torch.float16),
    "fp8-fast": (torch.float8_e4m3fn, torch.bfloat16),
    "fp8": (torch.float8_e4m3fn, torch.bfloat16),
    "fp8-rowwise": (torch.float8_e4m3fn, torch.bfloat16),
    "int8": (torch.int8, torch.int32),
}
# Name → (configuration, rows, shapes). Three multiprocessors make each persistent program walk
# over several tiles. The kernels are one for all rows, so each shows a few of them.
PRODUCTS = {
    "tiled": ("32x32x32-w4-s2-g3", tuple(TYPES), SHAPES),
    "tiled full": ("32x32x32-w4-s2-full", ("fp8", "fp8-rowwise"), SHAPES),
    "persistent": ("32x32x32-w4-s2-g3-persistent", ("fp16", "fp8-rowwise", "int8"), SHAPES),
    "tma": ("32x64x32-w4-s2-g3-tma", ("fp32", "fp16", "fp8-fast", "int8"), WIDE_SHAPES),
    "tma parts": ("32x64x32-w4-s2-g3-tma-p2-e2", ("fp16", "fp8-rowwise"), WIDE_SHAPES),
    "tma quarters": ("32x64x32-w4-s2-g3-tma-e4-full", ("fp8", "tf32"), WIDE_SHAPES),
}


def values(shape: tuple[int, int], dtype: torch.dtype, generator: torch.Generator) -> torch.Tensor:
    if dtype == torch.int8:
        return torch.randint(-127, 128, shape, generator=generator, dtype=dtype)
    return torch.empty(shape).uniform_(-1, 1, generator=generator).to(dtype)


def wide(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.float() if tensor.dtype == torch.float8_e4m3fn else tensor).double()


def poisoned(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    return torch.full(shape, float("nan") if dtype.is_floating_point else -(2**31), dtype=dtype)


def relative_error(out: torch.Tensor, reference: torch.Tensor) -> float:
    return float((out.double() - reference).norm() / reference.norm())


def product_errors() -> dict[str, float]:
    """Return the relative error of each kernel, row and shape, outputs poisoned first."""
    generator = torch.Generator().manual_seed(11)
    errors = {}
    for kernel, (config, rows, shapes) in PRODUCTS.items():
        for row in rows:
            operand, output = TYPES[row]
            for m, n, k in shapes:
                a, b = values((m, k), operand, generator), values((n, k), operand, generator)
                out = poisoned((m, n), output)
                reference = wide(a) @ wide(b).t()
                scales = {}
                if row in ("fp8", "fp8-fast"):
                    scales = {"scale_a": torch.tensor(0.5), "scale_b": torch.tensor(3.0)}
                    reference = 1.5 * reference
                elif row == "fp8-rowwise":
                    scales = {
                        "scale_a": torch.empty(m).uniform_(0.25, 1, generator=generator),
                        "scale_b": torch.empty(n).uniform_(0.25, 1, generator=generator),
                    }
                    reference *= scales["scale_a"].double()[:, None]
                    reference *= scales["scale_b"].double()[None, :]
                triton_matmul.launch(
                    a, b, out, row=row, config=config_named(config), multiprocessors=3, **scales
                )
                errors[f"{row} {kernel} {m}x{n}x{k}"] = relative_error(out, reference)
    return errors


def blockwise_errors() -> dict[str, float]:
    """Return the relative error of the block-scaled FP8 product, by pointers and descriptors."""
    generator = torch.Generator().manual_seed(13)
    errors = {}
    for config in ("32x64x128-w4-s2", "32x64x128-w4-s2-tma"):
        for m, n, k in ((64, 128, 256), (45, 200, 384)):
            a = values((m, k), torch.float8_e4m3fn, generator)
            b = values((n, k), torch.float8_e4m3fn, generator)
            scale_a = torch.empty(m, k // 128).uniform_(0.25, 1, generator=generator)
            scale_b = torch.empty(-(-n // 128), k // 128).uniform_(0.25, 1, generator=generator)
            full_a = wide(a) * scale_a.double().repeat_interleave(128, 1)
            full_b = scale_b.double().repeat_interleave(128, 0)[:n].repeat_interleave(128, 1)
            out = poisoned((m, n), torch.bfloat16)
            triton_scaled.launcher(
                a, b, out, row="fp8-blockwise", config=config_named(config), scale_a=scale_a,
                scale_b=scale_b, multiprocessors=3,
            )()  # fmt: skip
            reference = full_a @ (wide(b) * full_b).t()
            errors[f"{config} {m}x{n}x{k}"] = relative_error(out, reference)
    return errors


E2M1 = torch.tensor([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6]).double()


def microscaled_errors() -> dict[str, float]:
    """Return the relative error of MXFP8 and NVFP4, all 16 codes of e2m1 and scales of 1/4 to 4.

    The interpreter of Triton 3.9 reads every scale byte as e8m0, so NVFP4 gets such scales here
    instead of e4m3: packing, layout and indices are tested, the meaning of its scales is not.
    """
    generator = torch.Generator().manual_seed(17)
    errors = {}
    for row, length in (("mxfp8", 32), ("nvfp4", 16)):
        for config in ("32x32x64-w4-s2", "32x32x64-w4-s2-tma"):
            for m, n, k in ((64, 64, 128), (45, 50, 192)):
                stored, full = [], []
                for rows in (m, n):
                    powers = torch.randint(-2, 3, (rows, k // length), generator=generator)
                    codes = (powers + 127).to(torch.uint8)
                    if row == "mxfp8":
                        operand = values((rows, k), torch.float8_e4m3fn, generator)
                        plain = wide(operand)
                    else:
                        operand = torch.randint(
                            0, 256, (rows, k // 2), generator=generator, dtype=torch.uint8
                        )
                        nibbles = torch.stack((operand & 15, operand >> 4), dim=-1)
                        plain = E2M1[nibbles.reshape(rows, k).long()]
                    stored.append((operand, codes))
                    full.append(plain * (2.0**powers).double().repeat_interleave(length, 1))
                (a, scale_a), (b, scale_b) = stored
                out = poisoned((m, n), torch.bfloat16)
                triton_scaled.launcher(
                    a, b, out, row=row, config=config_named(config), scale_a=scale_a,
                    scale_b=scale_b, multiprocessors=3,
                )()  # fmt: skip
                errors[f"{row} {config} {m}x{n}x{k}"] = relative_error(out, full[0] @ full[1].t())
    return errors


def pipe_results() -> dict[str, bool]:
    """Return for each loop whether every program stored the expected integers."""
    dot = PipeConfig(16, 32, 32, 4, 1, unroll=2)
    vector = PipeConfig(1, 128, 1, 4, 1, unroll=3)
    cases = {
        "fp64": dot, "tf32": dot, "fp16": dot, "fp16-acc16": dot, "fp8-fast": dot, "fp8": dot,
        "int8": dot, "fp64-vector": vector, "fp32-vector": vector, "fp16-vector": vector,
    }  # fmt: skip
    right = {}
    for name, config in cases.items():
        row = triton_pipe_rows.pipe_row(name, "sm_90", "3.9.0")
        # An architecture of neither maker: no assembly, which the interpreter could not run.
        buffers = triton_pipe.make_buffers(row, config, 3, "cpu", arch="interpreter", seed=5)
        triton_pipe.launcher(row, config, buffers, 4, arch="interpreter")()
        wanted = triton_pipe.expected(row, config, 4, seed=5)
        right[name] = triton_pipe.wrong_programs(buffers, wanted) == {} and bool(wanted.any())
    return right


CACHES: tuple[Cache, ...] = ("l1", "l2")


def chase_lines() -> dict[str, dict[str, list[float]]]:
    """Return where launches and timed accesses of the chase stand, in lines from the first one.

    An architecture of neither maker again: plain loads, and a counter that rises by one per load.
    """
    target = Target("cuda", "cpu", "interpreter")
    found = {}
    for cache in CACHES:
        for lines in (2, 37, 64, 1000):
            work = chase.prepare(
                target, footprint_bytes=128 * lines, seed=lines, accesses=96, cache=cache
            )
            walk = work.launches[0]
            assert isinstance(walk, GpuWalk)
            stops = [(walk.position - walk.base) / 128]
            walk()
            stops.append((walk.position - walk.base) / 128)
            cycles = chase.access_cycles(work, 5)
            stops.append((walk.position - walk.base) / 128)
            right = work.check().error
            walk._buffer[0, 0] += 128  # line 0 now leads elsewhere
            found[f"{cache} {lines}"] = {
                "stops": stops, "cycles": cycles.tolist(), "errors": [right, work.check().error],
            }  # fmt: skip
    return found


if __name__ == "__main__":
    parts = {
        "products": product_errors,
        "blockwise": blockwise_errors,
        "microscaled": microscaled_errors,
        "pipe": pipe_results,
        "chase": chase_lines,
    }
    print(json.dumps({name: parts[name]() for name in sys.argv[1:] or parts}))
