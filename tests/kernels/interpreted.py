"""Run our Triton kernels in Triton's interpreter and print their errors as JSON.

A process of its own, because the interpreter replaces the compiler when Triton is imported.
"""

from __future__ import annotations

import json
import os

os.environ["TRITON_INTERPRET"] = "1"

import torch

from roofprobe.kernels import triton_matmul, triton_stream
from roofprobe.kernels.triton_matmul import MatmulConfig
from roofprobe.kernels.triton_stream import StreamConfig

Q = 0.4


def matmul_errors() -> dict[str, float]:
    """Return the relative error of each precision and shape, outputs poisoned first."""
    generator = torch.Generator().manual_seed(11)
    types = {
        "fp64": (torch.float64, torch.float64),
        "fp32": (torch.float32, torch.float32),
        "tf32": (torch.float32, torch.float32),
        "fp16": (torch.float16, torch.float16),
        "fp8": (torch.float8_e4m3fn, torch.bfloat16),
        "int8": (torch.int8, torch.int32),
    }
    # Whole tiles, ragged edges in every direction, a k that does not fill a step, a tiny matrix.
    shapes = [(64, 64, 64), (70, 50, 40), (33, 129, 96), (17, 5, 8)]
    errors = {}
    for precision, (operand, output) in types.items():
        for m, n, k in shapes:
            if operand == torch.int8:
                a = torch.randint(-127, 128, (m, k), generator=generator, dtype=operand)
                b = torch.randint(-127, 128, (n, k), generator=generator, dtype=operand)
            else:
                a = torch.empty(m, k).uniform_(-1, 1, generator=generator).to(operand)
                b = torch.empty(n, k).uniform_(-1, 1, generator=generator).to(operand)
            out = torch.empty(m, n, dtype=output)
            out.fill_(float("nan") if output.is_floating_point else -(2**31))
            scales = {}
            factor = 1.0
            if precision == "fp8":
                scales = {"scale_a": torch.tensor(0.5), "scale_b": torch.tensor(3.0)}
                factor = 1.5
            config = MatmulConfig(32, 32, 32, 4, 2, group_m=3)
            triton_matmul.launch(a, b, out, precision=precision, config=config, **scales)
            wide_a = a.float().double() if operand.itemsize == 1 else a.double()
            wide_b = b.float().double() if operand.itemsize == 1 else b.double()
            reference = factor * (wide_a @ wide_b.t())
            error = (out.double() - reference).norm() / reference.norm()
            errors[f"{precision} {m}x{n}x{k}"] = float(error)
    return errors


def stream_errors() -> dict[str, float]:
    """Return the greatest error of each kernel, type and length, outputs poisoned first."""
    generator = torch.Generator().manual_seed(12)
    config = StreamConfig(256, 4)
    errors = {}
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        for n in (1024, 1000, 3):
            a, b = (
                torch.empty(n, dtype=torch.float32).uniform_(-1, 1, generator=generator).to(dtype)
                for _ in range(2)
            )
            wide = torch.float64 if dtype == torch.float64 else torch.float32

            def filled(size: int, kind: torch.dtype) -> torch.Tensor:
                return torch.full((size,), float("nan"), dtype=kind)

            references = {
                "copy": a.double(),
                "scale": Q * a.double(),
                "add": a.double() + b.double(),
                "triad": a.double() + Q * b.double(),
            }
            name = f"{str(dtype).removeprefix('torch.')} {n}"
            for op, reference in references.items():
                out = filled(n, dtype)
                triton_stream.launch_map(op, a, b, out, Q, config)
                errors[f"{op} {name}"] = float((out.double() - reference).abs().max())
            out = filled(n, dtype)
            triton_stream.launch_write(out, Q, config)
            errors[f"write {name}"] = float((out.double() - Q).abs().max())
            size = triton_stream.partials_size(n, config)
            partials = filled(size, wide)
            triton_stream.launch_read(a, partials, config)
            errors[f"read {name}"] = abs(float(partials.double().sum() - a.double().sum()))
            partials = filled(size, wide)
            triton_stream.launch_dot(a, b, partials, config)
            truth = (a.double() * b.double()).sum()
            errors[f"dot {name}"] = abs(float(partials.double().sum() - truth))
    return errors


if __name__ == "__main__":
    print(json.dumps({"matmul": matmul_errors(), "stream": stream_errors()}))
