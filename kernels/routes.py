"""Which ways there are to compute each row, and why one cannot be taken on a device.

One table, ``ROUTES``: library calls that torch offers, other libraries, algorithms found by
tuning, our own Triton kernel. Preconditions (architecture, torch version, layout, alignment) are
ours: the CPU accepts what a GPU rejects, so torch's own checks would prove nothing on a host
without one. Every refusal says what it would take.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from roofprobe.kernels.lowering import FAST_SUMS, NO_FAST_SUMS
from roofprobe.kernels.rows import BY_NAME, ComputeRow
from roofprobe.kernels.work import Target, Unsupported, without_triton

Setting = Literal["none", "ieee", "tf32", "no-reduced", "fp16-acc"]
Library = Literal["default", "lt", "tuned", "compiled"]


@dataclass(frozen=True, slots=True)
class MatmulRoute:
    """One way to compute the products of one row.

    ``call`` names the launcher; ``library`` which of torch's libraries or choosers stands behind
    it; ``align_n`` and ``align_k`` are what the shape must be divisible by, ``above_m`` what m must
    exceed. ``layouts`` are those it takes. ``optional`` routes run only when asked for.
    """

    row: str
    name: str
    call: str
    setting: Setting = "none"
    library: Library = "default"
    align_n: int = 1
    align_k: int = 1
    above_m: int = 0
    layouts: tuple[str, ...] = ("TN", "NN", "NT", "TT")
    optional: bool = False

    @property
    def compute_row(self) -> ComputeRow:
        """Return the row of the result that this route is for."""
        return BY_NAME[self.row]

    @property
    def precision(self) -> str:
        """Return the public name of the format."""
        return self.compute_row.precision

    @property
    def tolerance_key(self) -> str:
        """Return the line of the tolerance table that this route is held to."""
        row = self.compute_row
        short_sums = row.fast_accum or row.sparsity is not None
        return "fp8-fast" if row.precision == "fp8" and short_sums else row.precision


_SETTINGS: dict[str, Setting] = {
    "fp64": "none", "fp32": "ieee", "tf32": "tf32", "bf16": "no-reduced", "fp16": "no-reduced",
    "fp16-acc16": "fp16-acc",
}  # fmt: skip
_TN = ("TN",)


def _table() -> tuple[MatmulRoute, ...]:
    plain = tuple(_SETTINGS)
    scaled = ("fp8-fast", "fp8", "fp8-rowwise-fast", "fp8-rowwise")
    blocks = ("fp8-blockwise", "mxfp8", "nvfp4")
    aligned = {"fp8-blockwise": 128, "mxfp8": 128, "nvfp4": 32}
    triton = (*plain, *scaled, *blocks, "int8")
    return (
        *(MatmulRoute(row, "torch.mm", "mm", _SETTINGS[row]) for row in plain),
        *(
            MatmulRoute(row, "torch._scaled_mm", "scaled_mm", align_n=16, align_k=16, layouts=_TN)
            for row in scaled
        ),
        *(
            MatmulRoute(
                row, "F.scaled_mm", "block_scaled_mm", align_n=16, align_k=aligned[row],
                layouts=_TN,
            )
            for row in blocks
        ),
        MatmulRoute("int8", "torch._int_mm", "int_mm", align_n=8, align_k=8, above_m=16,
                    layouts=_TN),
        *(
            MatmulRoute(row, "cuSPARSELt", "sparse_mm", align_n=16, align_k=64, above_m=16,
                        layouts=_TN)
            for row in ("bf16-sparse", "fp16-sparse", "fp8-sparse", "int8-sparse")
        ),
        *(
            MatmulRoute(row, "torch.mm/lt", "mm", _SETTINGS[row], "lt")
            for row in plain if row != "fp64"
        ),
        *(MatmulRoute(row, "torch.mm/tuned", "mm", _SETTINGS[row], "tuned") for row in plain),
        *(MatmulRoute(row, "numpy.matmul", "numpy") for row in ("fp64", "fp32")),
        *(
            MatmulRoute(
                row, "triton", "triton",
                align_n={"int8": 8}.get(row, 16 if row in (*scaled, *blocks) else 1),
                align_k={"int8": 8, **aligned}.get(row, 16 if row in scaled else 1),
                layouts=_TN,
            )
            for row in triton
        ),
        *(
            MatmulRoute(row, "torch.compile", "compiled_mm", _SETTINGS[row], "compiled",
                        optional=True)
            for row in plain
        ),
    )  # fmt: skip


ROUTES: tuple[MatmulRoute, ...] = _table()

# Rows for which no product is offered, and what would be needed.
WITHOUT_ROUTE: dict[str, tuple[str, str | None]] = {
    "int4": (
        "no library that torch brings, and not Triton either, multiplies 4-bit integers; only the "
        "pipe's own rate is measured, on sm_75 to sm_89",
        "a GPU of compute capability 7.5 to 8.9",
    ),
}

# The first compute capability whose tensor (or, for fp64 and fp32, vector) units do the row.
_CUDA_SINCE: dict[str, int] = {
    "fp64": 0, "fp32": 0, "tf32": 80, "bf16": 80, "fp16": 70, "fp16-acc16": 70, "fp8": 89,
    "int8": 75, "mxfp8": 100, "nvfp4": 100,
}  # fmt: skip
# None: every AMD GPU that ROCm serves; a tuple: these only.
_ROCM_WITH: dict[str, tuple[str, ...] | None] = {
    "fp64": None, "fp32": None, "bf16": None, "fp16": None, "int8": None, "tf32": (),
    "fp16-acc16": (), "nvfp4": (), "fp8": ("gfx942", "gfx950", "gfx1200", "gfx1201"),
    "mxfp8": ("gfx950",),
}  # fmt: skip
_CPU_LACKS = {
    "tf32": "TF32 is a GPU tensor format; this device is a CPU",
    "fp16-acc16": "fp16 accumulation is a GPU tensor mode; this device is a CPU",
    "mxfp8": "torch multiplies block-scaled MXFP8 on GPUs only; this device is a CPU",
    "nvfp4": "torch multiplies block-scaled NVFP4 on GPUs only; this device is a CPU",
}


def routes_for(row: str, *, optional: bool = False) -> tuple[MatmulRoute, ...]:
    """Return the routes of a row, library first; ``optional`` adds those run only when asked."""
    return tuple(r for r in ROUTES if r.row == row and (optional or not r.optional))


def route_named(row: str, name: str) -> MatmulRoute:
    """Return one route of a row; raises ``KeyError`` naming both."""
    for route in ROUTES:
        if (route.row, route.name) == (row, name):
            return route
    raise KeyError(f"{row} has no route {name!r}")


def unavailable(route: MatmulRoute, target: Target) -> Unsupported | None:
    """Say why ``route`` cannot run on ``target``, or return None when it can be tried."""
    return refused_by_device(route, target) or _refused_by_software(route, target)


def refused_by_device(route: MatmulRoute, target: Target) -> Unsupported | None:
    """Say why ``route`` cannot run whatever is installed, or return None; imports nothing.

    Who only plans must know it too, and does so where torch is not loaded.
    """
    for rule in (_call_refused, _row_refused, _library_refused):
        reason = rule(route, target)
        if reason is not None:
            return reason
    return None


def shape_problem(
    route: MatmulRoute, m: int, n: int, k: int, layout: str = "TN", target: Target | None = None
) -> str | None:
    """Say in a sentence why shape or layout does not suit the route, or return None.

    With ``target`` the rules of its library alone are asked too.
    """
    if min(m, n, k) < 1:
        return f"a product needs m, n and k of at least 1, got {m}, {n}, {k}"
    if layout not in route.layouts:
        return f"{route.name} takes {' and '.join(route.layouts)} for {route.row}, not {layout}"
    if m <= route.above_m:
        return f"{route.name} needs m > {route.above_m}, got m = {m}"
    for axis, size, align in (("n", n, route.align_n), ("k", k, route.align_k)):
        if size % align:
            return f"{route.name} needs {axis} divisible by {align}, got {axis} = {size}"
    if route.row == "fp8-blockwise" and (m % 4 or n % 128):
        return f"{route.name} needs m divisible by 4 and n by 128, got m = {m}, n = {n}"
    if route.compute_row.sparsity and m % 32:
        return f"{route.name} needs m divisible by 32, got m = {m}"
    # torch, ATen/native/cuda: "Matrix dimensions must be multiples of 32 for block-wise scaling".
    on_rocm = target is not None and target.kind == "rocm"
    if on_rocm and (route.row, route.call) == ("mxfp8", "block_scaled_mm") and (m % 32 or n % 32):
        return f"{route.name} on ROCm needs m and n divisible by 32, got m = {m}, n = {n}"
    return None


def compute_capability(architecture: str | None) -> int | None:
    """Return 90 for ``sm_90`` and the like, None for anything that is not a CUDA architecture."""
    found = re.fullmatch(r"sm_(\d+)[a-z]?", architecture or "")
    return int(found[1]) if found else None


def _call_refused(route: MatmulRoute, target: Target) -> Unsupported | None:
    if route.call == "numpy" and target.kind != "cpu":
        return Unsupported("backend", f"numpy computes on CPUs; this device is {target.kind}")
    if route.call == "triton" and (not target.is_gpu or target.architecture is None):
        return Unsupported(
            "no-triton-target",
            f"Triton kernels are compiled for CUDA and ROCm GPUs; this device is a {target.kind}"
            + (" (its interpreter is for tests, not for timing)" if target.kind == "cpu" else ""),
        )
    return None


def _row_refused(route: MatmulRoute, target: Target) -> Unsupported | None:
    if route.call == "triton":
        return None  # what it compiles to is Triton's matter, see lowering
    row = route.compute_row
    if target.kind == "cuda":
        return _refused_by_cuda(row, target)
    if row.sparsity is not None:
        return Unsupported(
            "backend",
            f"2:4-sparse products run through cuSPARSELt on CUDA; this device is {target.kind}",
            "an NVIDIA GPU of compute capability 8.0 or newer",
        )
    if row.fast_accum:
        return Unsupported("architecture", NO_FAST_SUMS, "an Ada or Hopper GPU")
    if row.scaling == "blockwise":
        return Unsupported(
            "backend",
            f"cuBLASLt's 1x128/128x128 recipe runs on sm_90; this device is {target.kind}",
            "a Hopper GPU",
        )
    if target.kind == "rocm":
        return _refused_by_rocm(row, target)
    if target.kind == "cpu":
        lacking = _CPU_LACKS.get(row.precision)
        return Unsupported("architecture", lacking, "a GPU") if lacking else None
    if row.precision in _CPU_LACKS:
        return Unsupported(
            "backend", f"torch has no switch for {row.precision} on {target.kind} devices"
        )
    return None


def _refused_by_cuda(row: ComputeRow, target: Target) -> Unsupported | None:
    capability = compute_capability(target.architecture)
    if capability is None:
        return None
    since = max(_CUDA_SINCE[row.precision], 80 if row.sparsity else 0)
    if capability < since:
        needs = f"compute capability {since // 10}.{since % 10}"
        return Unsupported(
            "architecture",
            f"{row.name} needs {needs}, this device has {capability // 10}.{capability % 10}",
            f"a GPU of {needs} or newer",
        )
    if row.fast_accum and f"sm_{capability}" not in FAST_SUMS:
        return Unsupported("architecture", NO_FAST_SUMS, "an Ada or Hopper GPU")
    if row.scaling == "blockwise" and capability != 90:
        return Unsupported(
            "architecture",
            "cuBLASLt offers the 1x128/128x128 recipe on sm_90 only", "a Hopper GPU",
        )  # fmt: skip
    return None


def _refused_by_rocm(row: ComputeRow, target: Target) -> Unsupported | None:
    wanted = _ROCM_WITH[row.precision]
    arch = target.architecture or "unknown"
    if wanted is None or arch in wanted:
        return None
    where = f"needs one of {', '.join(wanted)}" if wanted else "has no route on ROCm"
    return Unsupported(
        "architecture",
        f"{row.precision} {where}, this device is {arch}",
        f"a GPU of {' or '.join(wanted)}" if wanted else "an NVIDIA GPU",
    )


def _library_refused(route: MatmulRoute, target: Target) -> Unsupported | None:
    if target.is_gpu:
        return None
    if route.library == "lt":
        return Unsupported(
            "backend", f"cuBLASLt and hipBLASLt are GPU libraries; this device is {target.kind}"
        )
    if route.library == "tuned":
        return Unsupported(
            "backend", f"torch.cuda.tunable tunes on GPUs; this device is {target.kind}"
        )
    return None


def _refused_by_software(route: MatmulRoute, target: Target) -> Unsupported | None:
    """Say what the torch, Triton or cuSPARSELt that is installed lacks."""
    if route.call == "triton":
        return _refused_by_triton(route, target)
    if not target.is_gpu:
        return None
    import torch

    if route.call == "block_scaled_mm":
        import torch.nn.functional as functional

        if not hasattr(functional, "scaled_mm"):
            return _newer_torch("torch.nn.functional.scaled_mm", "2.10")
    if route.setting == "fp16-acc" and not hasattr(
        torch.backends.cuda.matmul, "allow_fp16_accumulation"
    ):
        return _newer_torch("fp16 accumulation", "2.7")
    if route.compute_row.sparsity:
        import torch.backends.cusparselt as cusparselt

        if not cusparselt.is_available():
            return Unsupported(
                "no-cusparselt", "this torch was built without cuSPARSELt",
                "a torch wheel for CUDA 12.1 or newer",
            )  # fmt: skip
    if route.library == "lt" and not hasattr(torch.backends.cuda, "preferred_blas_library"):
        return _newer_torch("the choice of a BLAS library", "2.3")
    if (
        route.library == "tuned"
        and target.kind == "cuda"
        and not hasattr(torch.cuda.tunable, "set_cublaslt_requested_algo_count")
    ):
        # pytorch/pytorch#186270: before it, CUDA registers the default algorithm alone.
        return _newer_torch("tuning over cuBLASLt's algorithms", "2.15")
    return None


def _newer_torch(what: str, version: str) -> Unsupported:
    import torch

    return Unsupported(
        "torch-version",
        f"{what} needs torch {version}, this is {torch.__version__}",
        "pip install --upgrade torch",
    )


def _refused_by_triton(route: MatmulRoute, target: Target) -> Unsupported | None:
    assert target.architecture is not None, target
    missing = without_triton()
    if missing is not None:
        return missing
    import triton

    from roofprobe.kernels import lowering

    sentence = lowering.unsupported_reason(route.row, target.architecture, triton.__version__)
    return Unsupported("triton", sentence) if sentence else None
