"""Dense matrix products C(m, n) = A(m, k) · B(k, n) through the routes that torch and we offer.

A product does 2·m·n·k operations on m·k + k·n operands, so for large shapes the arithmetic
pipes are the limit and the rate is the pipes' rate at the clock that power allows. All routes use
the TN layout (both operands contiguous along k), the one that every precision's fast path takes:
A is row-major (m, k) and B is handed over as a row-major (n, k) tensor, transposed as a view.

One table, ``ROUTES``, says for each precision which library call there is, what it needs and what
it accumulates in. Preconditions (layout, alignment, dtype) are ours: the CPU accepts what a GPU
rejects, so torch's own checks would prove nothing on a host without one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Literal

from roofprobe.kernels.accuracy import check_matmul, poison
from roofprobe.kernels.work import Check, Target, Unsupported, Work

if TYPE_CHECKING:
    import torch

Setting = Literal["none", "ieee", "tf32", "no-reduced", "fp16-acc"]


@dataclass(frozen=True, slots=True)
class MatmulRoute:
    """One way to compute a product at one precision.

    ``operand`` and ``output`` are torch dtype names; ``accumulator`` is what partial sums are
    kept in; ``align_m``, ``align_n`` and ``align_k`` are what the shape must be divisible by;
    ``min_m`` is exclusive (``_int_mm`` needs m > 16).
    """

    precision: str
    name: str
    operand: str
    output: str
    accumulator: str
    setting: Setting = "none"
    fast_accum: bool | None = None
    align_n: int = 1
    align_k: int = 1
    min_m: int = 0

    @property
    def tolerance_key(self) -> str:
        """Return the row of the tolerance table that this route is held to."""
        fast = self.fast_accum or (self.name == "triton" and self.precision == "fp8")
        return "fp8-fast" if self.precision == "fp8" and fast else self.precision


ROUTES: tuple[MatmulRoute, ...] = (
    MatmulRoute("fp64", "torch.mm", "float64", "float64", "fp64"),
    MatmulRoute("fp32", "torch.mm", "float32", "float32", "fp32", setting="ieee"),
    MatmulRoute("tf32", "torch.mm", "float32", "float32", "fp32", setting="tf32"),
    MatmulRoute("bf16", "torch.mm", "bfloat16", "bfloat16", "fp32", setting="no-reduced"),
    MatmulRoute("fp16", "torch.mm", "float16", "float16", "fp32", setting="no-reduced"),
    MatmulRoute("fp16-acc16", "torch.mm", "float16", "float16", "fp16", setting="fp16-acc"),
    MatmulRoute(
        "fp8",
        "torch._scaled_mm",
        "float8_e4m3fn",
        "bfloat16",
        "fp32",
        fast_accum=True,
        align_n=16,
        align_k=16,
    ),
    MatmulRoute(
        "fp8",
        "torch._scaled_mm",
        "float8_e4m3fn",
        "bfloat16",
        "fp32",
        fast_accum=False,
        align_n=16,
        align_k=16,
    ),
    MatmulRoute("int8", "torch._int_mm", "int8", "int32", "int32", align_n=8, align_k=8, min_m=16),
    MatmulRoute("fp64", "triton", "float64", "float64", "fp64"),
    MatmulRoute("fp32", "triton", "float32", "float32", "fp32"),
    MatmulRoute("tf32", "triton", "float32", "float32", "fp32"),
    MatmulRoute("bf16", "triton", "bfloat16", "bfloat16", "fp32"),
    MatmulRoute("fp16", "triton", "float16", "float16", "fp32"),
    MatmulRoute("fp8", "triton", "float8_e4m3fn", "bfloat16", "fp32", align_n=16, align_k=16),
    MatmulRoute("int8", "triton", "int8", "int32", "int32", align_n=8, align_k=8, min_m=16),
)

# Precisions of the public list that no route of this version computes, and what would be needed.
WITHOUT_ROUTE: dict[str, str] = {
    "mxfp8": "no MXFP8 route yet: it needs block scales of 1x32 in the e8m0 format",
    "nvfp4": "no NVFP4 route yet: it needs packed e2m1 operands with block scales of 1x16",
    "int4": "no INT4 route yet: torch offers no 4-bit integer product, Triton none either",
}

# The first compute capability whose tensor (or, for fp64 and fp32, vector) units do the precision.
_CUDA_SINCE: dict[str, int] = {
    "fp64": 0, "fp32": 0, "tf32": 80, "bf16": 80, "fp16": 70, "fp16-acc16": 70, "fp8": 89,
    "int8": 75,
}  # fmt: skip
_ROCM_WITH: dict[str, tuple[str, ...] | None] = {
    "fp64": None, "fp32": None, "bf16": None, "fp16": None, "tf32": (), "fp16-acc16": (),
    "fp8": ("gfx942", "gfx950", "gfx1200", "gfx1201"),
    "int8": None,
}  # fmt: skip


def unavailable(route: MatmulRoute, target: Target) -> Unsupported | None:
    """Say why ``route`` cannot run on ``target``, or return None when it can be tried."""
    if route.name == "triton":
        return _triton_unavailable(route, target)
    if target.kind == "cuda":
        return _cuda_unavailable(route, target)
    if target.kind == "rocm":
        wanted = _ROCM_WITH[route.precision]
        arch = target.architecture or "unknown"
        if wanted is not None and arch not in wanted:
            where = f"needs one of {', '.join(wanted)}" if wanted else "has no route on ROCm"
            return Unsupported("architecture", f"{route.precision} {where}, this device is {arch}")
        return _fast_accum_unavailable(route, target)
    if target.kind == "cpu":
        if route.precision == "tf32":
            return Unsupported("architecture", "TF32 is a GPU tensor format; this device is a CPU")
        if route.precision == "fp16-acc16":
            return Unsupported(
                "architecture", "fp16 accumulation is a GPU tensor mode; this device is a CPU"
            )
        return _fast_accum_unavailable(route, target)
    if route.precision in ("tf32", "fp16-acc16") or route.fast_accum:
        return Unsupported(
            "backend", f"torch has no switch for {route.precision} on {target.kind} devices"
        )
    return None


def shape_problem(route: MatmulRoute, m: int, n: int, k: int) -> str | None:
    """Say in a sentence why the shape does not suit the route, or return None."""
    if m <= route.min_m:
        return f"{route.name} needs m > {route.min_m}, got m = {m}"
    for axis, size, align in (("n", n, route.align_n), ("k", k, route.align_k)):
        if size % align:
            return f"{route.name} needs {axis} divisible by {align}, got {axis} = {size}"
    return None


def footprint_bytes(route: MatmulRoute, m: int, n: int, k: int) -> int:
    """Return the bytes of one set of A, B and C."""
    operand, output = _ITEM_BYTES[route.operand], _ITEM_BYTES[route.output]
    return (m * k + n * k) * operand + m * n * output


def prepare(
    route: MatmulRoute,
    target: Target,
    *,
    m: int,
    n: int,
    k: int,
    buffer_sets: int,
    seed: int,
) -> Work:
    """Allocate and fill ``buffer_sets`` sets of operands and return the work on them.

    Operands are uniform in [−1, 1] (integers uniform in [−127, 127]), drawn from ``seed``.
    Raises ``Unsupported`` when device, torch or shape does not suit the route, and whatever
    torch raises when memory runs out.
    """
    import torch

    reason = unavailable(route, target)
    if reason is not None:
        raise reason
    problem = shape_problem(route, m, n, k)
    if problem is not None:
        raise Unsupported("shape", problem)
    dtype = _operand_dtype(route, target)
    device = torch.device(target.torch_device)
    generator = torch.Generator().manual_seed(seed)
    sets = []
    for index in range(buffer_sets):
        a = _random((m, k), dtype, device, generator)
        b_nk = _random((n, k), dtype, device, generator)
        out = torch.empty((m, n), dtype=getattr(torch, route.output), device=device)
        sets.append(_Operands(a, b_nk, out, index))
    launcher = _LAUNCHERS[route.name](route, target, device)
    launches = tuple(partial(launcher.launch, operands) for operands in sets)

    def check() -> Check:
        first = sets[0]
        poison(first.out)
        launches[0]()
        return check_matmul(
            first.a, first.b_nk, first.out, precision=route.tolerance_key, seed=seed
        )

    first = sets[0]
    return Work(
        launches=launches,
        flops=2 * m * n * k,
        bytes_read=first.a.nbytes + first.b_nk.nbytes,
        bytes_written=first.out.nbytes,
        array_bytes=first.a.nbytes + first.b_nk.nbytes + first.out.nbytes,
        check=check,
        kernel=route.name,
        config=launcher.config,
        settings=partial(_settings, route.setting, target),
    )


_ITEM_BYTES = {
    "float64": 8, "float32": 4, "bfloat16": 2, "float16": 2, "float8_e4m3fn": 1, "int8": 1,
    "int32": 4,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class _Operands:
    a: torch.Tensor
    b_nk: torch.Tensor
    out: torch.Tensor
    index: int


class _MM:
    """``torch.mm`` into a preallocated output: cuBLAS, rocBLAS, MKL or oneDNN behind it."""

    def __init__(self, route: MatmulRoute, target: Target, device: torch.device) -> None:
        import torch

        self.config: dict[str, int | str | bool | None] = {}
        self._mm = torch.mm

    def launch(self, operands: _Operands) -> None:
        self._mm(operands.a, operands.b_nk.t(), out=operands.out)


class _ScaledMM:
    """``torch._scaled_mm`` with one scale per tensor, both 1: cuBLASLt, hipBLASLt or oneDNN."""

    def __init__(self, route: MatmulRoute, target: Target, device: torch.device) -> None:
        import torch

        self.config: dict[str, int | str | bool | None] = {"scaling": "tensorwise"}
        self._one = torch.ones((), dtype=torch.float32, device=device)
        self._mm = partial(
            torch._scaled_mm,
            out_dtype=getattr(torch, route.output),
            use_fast_accum=bool(route.fast_accum),
        )

    def launch(self, operands: _Operands) -> None:
        self._mm(operands.a, operands.b_nk.t(), self._one, self._one, out=operands.out)


class _IntMM:
    """``torch._int_mm``: int8 operands, exact int32 sums."""

    def __init__(self, route: MatmulRoute, target: Target, device: torch.device) -> None:
        import torch

        self.config: dict[str, int | str | bool | None] = {}
        self._mm = torch._int_mm

    def launch(self, operands: _Operands) -> None:
        self._mm(operands.a, operands.b_nk.t(), out=operands.out)


class _Triton:
    """Our own tiled kernel, with the configuration that the architecture's table names."""

    def __init__(self, route: MatmulRoute, target: Target, device: torch.device) -> None:
        import torch

        from roofprobe.kernels import triton_matmul

        assert target.architecture is not None
        config = triton_matmul.config_for(route.precision, target.architecture)
        self.config: dict[str, int | str | bool | None] = {
            name: getattr(config, name)
            for name in ("block_m", "block_n", "block_k", "group_m", "num_warps", "num_stages")
        }
        scale = torch.ones((), dtype=torch.float32, device=device)
        used_scale = scale if route.precision == "fp8" else None
        self._launch = partial(
            triton_matmul.launch,
            precision=route.precision,
            config=config,
            scale_a=used_scale,
            scale_b=used_scale,
        )

    def launch(self, operands: _Operands) -> None:
        self._launch(operands.a, operands.b_nk, operands.out)


_LAUNCHERS: dict[str, type[_MM] | type[_ScaledMM] | type[_IntMM] | type[_Triton]] = {
    "torch.mm": _MM,
    "torch._scaled_mm": _ScaledMM,
    "torch._int_mm": _IntMM,
    "triton": _Triton,
}


def _cuda_unavailable(route: MatmulRoute, target: Target) -> Unsupported | None:
    import torch

    capability = compute_capability(target.architecture)
    since = _CUDA_SINCE[route.precision]
    if capability is not None and capability < since:
        return Unsupported(
            "architecture",
            f"{route.precision} needs compute capability {since // 10}.{since % 10}, this device "
            f"has {capability // 10}.{capability % 10}",
        )
    if route.setting == "fp16-acc" and not hasattr(
        torch.backends.cuda.matmul, "allow_fp16_accumulation"
    ):
        return Unsupported(
            "torch-version",
            f"fp16 accumulation needs torch 2.7, this is {torch.__version__}",
            "pip install --upgrade torch",
        )
    if route.fast_accum and capability is not None and capability != 90:
        return Unsupported(
            "architecture", "fast accumulation is a switch of Hopper's FP8 units (sm_90) only"
        )
    return None


def _fast_accum_unavailable(route: MatmulRoute, target: Target) -> Unsupported | None:
    if route.fast_accum:
        return Unsupported(
            "architecture",
            "fast accumulation is a switch of Hopper's FP8 units (sm_90) only",
        )
    return None


def _triton_unavailable(route: MatmulRoute, target: Target) -> Unsupported | None:
    if not target.is_gpu or target.architecture is None:
        return Unsupported(
            "no-triton-target",
            f"Triton kernels are compiled for CUDA and ROCm GPUs; this device is a {target.kind}"
            + (" (its interpreter is for tests, not for timing)" if target.kind == "cpu" else ""),
        )
    try:
        import triton
    except ImportError:
        return Unsupported("no-triton", "the triton package is not installed", "pip install triton")
    from roofprobe.kernels import triton_matmul

    sentence = triton_matmul.unsupported_reason(
        route.precision, target.architecture, triton.__version__
    )
    return Unsupported("triton", sentence) if sentence else None


def compute_capability(architecture: str | None) -> int | None:
    """Return 90 for ``sm_90`` and the like, None for anything that is not a CUDA architecture."""
    found = re.fullmatch(r"sm_(\d+)[a-z]?", architecture or "")
    return int(found[1]) if found else None


def _operand_dtype(route: MatmulRoute, target: Target) -> torch.dtype:
    import torch

    name = route.operand
    if name == "float8_e4m3fn" and target.architecture == "gfx942":
        name = "float8_e4m3fnuz"  # CDNA 3 knows only the variant without negative zero
    dtype = getattr(torch, name, None)
    if dtype is None:
        raise Unsupported(
            "torch-version",
            f"torch {torch.__version__} has no type {name}",
            "pip install --upgrade torch",
        )
    assert isinstance(dtype, torch.dtype)
    return dtype


def _random(
    shape: tuple[int, int],
    dtype: torch.dtype,
    device: torch.device,
    generator: torch.Generator,
) -> torch.Tensor:
    """Fill a tensor with uniform values; on an accelerator the drawing happens there."""
    import torch

    if device.type != "cpu":
        seed = int(torch.randint(0, 2**31, (), generator=generator))
        generator = torch.Generator(device=device).manual_seed(seed)
    if dtype == torch.int8:
        return torch.randint(-127, 128, shape, dtype=torch.int8, device=device, generator=generator)
    wide = dtype if dtype in (torch.float32, torch.float64) else torch.float32
    values = torch.empty(shape, dtype=wide, device=device).uniform_(-1, 1, generator=generator)
    return values.to(dtype)


@contextmanager
def _settings(setting: Setting, target: Target) -> Iterator[None]:
    """Set torch's precision switches for the time of the work, and put them back."""
    if setting == "none":
        yield
        return
    with _switches(setting, target):
        yield


def _switches(setting: Setting, target: Target) -> _Switch | nullcontext[None]:
    import torch

    matmul = torch.backends.cuda.matmul
    if setting in ("ieee", "tf32"):
        if not target.is_gpu:
            onednn = torch.backends.mkldnn
            if hasattr(onednn, "matmul") and hasattr(onednn.matmul, "fp32_precision"):
                return _Switch(onednn.matmul, {"fp32_precision": "ieee"})
            return nullcontext()
        if hasattr(matmul, "fp32_precision"):
            return _Switch(matmul, {"fp32_precision": setting})
        return _Switch(matmul, {"allow_tf32": setting == "tf32"})
    if not target.is_gpu:
        return nullcontext()
    if setting == "fp16-acc":
        return _Switch(matmul, {"allow_fp16_accumulation": True})
    return _Switch(
        matmul,
        {
            "allow_bf16_reduced_precision_reduction": False,
            "allow_fp16_reduced_precision_reduction": False,
        },
    )


class _Switch:
    """Set attributes of a torch settings object and restore what they were."""

    def __init__(self, owner: object, values: dict[str, object]) -> None:
        self._owner = owner
        self._values = values
        self._before: dict[str, object] = {}

    def __enter__(self) -> None:
        for name, value in self._values.items():
            self._before[name] = getattr(self._owner, name)
            setattr(self._owner, name, value)

    def __exit__(self, *_: object) -> None:
        for name, value in self._before.items():
            setattr(self._owner, name, value)


def routes_for(precision: str) -> tuple[MatmulRoute, ...]:
    """Return the routes of a precision, library first; empty where there is none yet."""
    return tuple(route for route in ROUTES if route.precision == precision)
