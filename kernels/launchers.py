"""The calls behind the routes: each launcher makes one product from one set of operands.

A launcher is made once per work, outside of any timing, and holds what every launch needs (scales
in the library's layout, compressed operands, the kernel's configuration). ``launch`` only enqueues
and returns the tensor that holds the product: ``operands.out`` wherever the call can write there.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from roofprobe.kernels.operands import Operands
from roofprobe.kernels.routes import MatmulRoute
from roofprobe.kernels.work import Target, Unsupported

if TYPE_CHECKING:
    import torch

Config = dict[str, int | str | bool | None]


@runtime_checkable
class CompiledHere(Protocol):
    """A launcher whose kernel is compiled by us, so that its assembly can be read."""

    def assembly(self) -> str | None:
        """Launch once and return what was compiled (PTX, AMDGCN); None in the interpreter."""
        ...


class Launcher(Protocol):
    """Makes products; ``config`` is what a reader of the record should know of the call."""

    config: Config

    def launch(self, operands: Operands) -> torch.Tensor:
        """Enqueue one product and return the tensor (m, n) that will hold it."""
        ...


Sets = tuple[Operands, ...]


class _MM:
    """``torch.mm`` into a preallocated output: cuBLAS, rocBLAS, MKL or oneDNN behind it."""

    def __init__(self, route: MatmulRoute, target: Target, sets: Sets, config: str | None) -> None:
        import torch

        self.config: Config = {}
        self._mm = torch.mm

    def launch(self, operands: Operands) -> torch.Tensor:
        return self._mm(operands.a_mk, operands.b_kn, out=operands.out)


class _CompiledMM:
    """What ``torch.compile`` makes of a product at ``max-autotune-no-cudagraphs``."""

    def __init__(self, route: MatmulRoute, target: Target, sets: Sets, config: str | None) -> None:
        import torch

        mode = "max-autotune-no-cudagraphs" if target.is_gpu else "default"
        self.config: Config = {"mode": mode}

        def product(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
            return a @ b

        torch._dynamo.reset()  # shapes of earlier cases must not make this one dynamic
        self._mm: Callable[..., torch.Tensor] = torch.compile(product, mode=mode, dynamic=False)

    def launch(self, operands: Operands) -> torch.Tensor:
        return self._mm(operands.a_mk, operands.b_kn)


class _NumpyMM:
    """``numpy.matmul``: the BLAS that numpy brings (OpenBLAS in its wheels), on the CPU."""

    def __init__(self, route: MatmulRoute, target: Target, sets: Sets, config: str | None) -> None:
        import numpy as np

        self.config: Config = {}
        self._mm = np.matmul
        self._arrays = {s.index: (s.a_mk.numpy(), s.b_kn.numpy(), s.out.numpy()) for s in sets}

    def launch(self, operands: Operands) -> torch.Tensor:
        a, b, out = self._arrays[operands.index]
        self._mm(a, b, out=out)
        return operands.out


class _ScaledMM:
    """``torch._scaled_mm``, one scale per tensor or per row: cuBLASLt, hipBLASLt or oneDNN."""

    def __init__(self, route: MatmulRoute, target: Target, sets: Sets, config: str | None) -> None:
        import torch

        row = route.compute_row
        self.config: Config = {"scaling": row.scaling, "use_fast_accum": bool(row.fast_accum)}
        self._mm = partial(
            torch._scaled_mm,
            out_dtype=getattr(torch, row.output),
            use_fast_accum=bool(row.fast_accum),
        )
        self._scales = {s.index: self._shaped(s) for s in sets}

    @staticmethod
    def _shaped(operands: Operands) -> tuple[torch.Tensor, torch.Tensor]:
        a, b = operands.a.scales, operands.b.scales
        assert a is not None, operands.index
        assert b is not None, operands.index
        return (a, b) if a.ndim == 0 else (a.view(-1, 1), b.view(1, -1))

    def launch(self, operands: Operands) -> torch.Tensor:
        scale_a, scale_b = self._scales[operands.index]
        return self._mm(operands.a_mk, operands.b_kn, scale_a, scale_b, out=operands.out)


class _BlockScaledMM:
    """``torch.nn.functional.scaled_mm``: 1x128/128x128, MXFP8 and NVFP4 through cuBLASLt.

    It has no ``out``; its result comes from torch's caching allocator.
    """

    def __init__(self, route: MatmulRoute, target: Target, sets: Sets, config: str | None) -> None:
        import torch
        import torch.nn.functional as functional

        row = route.compute_row
        kinds = functional.ScalingType
        recipes = {
            "blockwise": (kinds.BlockWise1x128, kinds.BlockWise128x128),
            "mx32": (kinds.BlockWise1x32, kinds.BlockWise1x32),
            "nv16": (kinds.BlockWise1x16, kinds.BlockWise1x16),
        }
        assert row.scaling is not None, row
        self._recipe = recipes[row.scaling]
        self.config: Config = {"scaling": row.scaling}
        swizzled = row.scaling in ("mx32", "nv16") and target.kind == "cuda"
        swizzles = functional.SwizzleType
        self._swizzle = swizzles.SWIZZLE_32_4_4 if swizzled else swizzles.NO_SWIZZLE
        self._mm = partial(functional.scaled_mm, output_dtype=getattr(torch, row.output))
        self._operands = {s.index: self._ready(s, row.scaling, swizzled) for s in sets}

    @staticmethod
    def _ready(operands: Operands, scaling: str, swizzled: bool) -> tuple[torch.Tensor, ...]:
        import torch

        a, b = operands.a_mk, operands.b_kn
        scales = [operands.a.scales, operands.b.scales]
        assert scales[0] is not None, operands.index
        assert scales[1] is not None, operands.index
        made = []
        for side, plain in enumerate((scales[0], scales[1])):
            if scaling == "blockwise":
                made.append(_deepseek_scales(plain, side))
                continue
            laid = swizzle_32_4_4(plain.view(torch.uint8)) if swizzled else plain
            kind = torch.float8_e8m0fnu if scaling == "mx32" else torch.float8_e4m3fn
            made.append(laid.view(kind))
        if scaling == "nv16":
            a, b = a.view(torch.float4_e2m1fn_x2), b.t().view(torch.float4_e2m1fn_x2).t()
        return a, b, made[0], made[1]

    def launch(self, operands: Operands) -> torch.Tensor:
        a, b, scale_a, scale_b = self._operands[operands.index]
        first, second = self._recipe
        product: torch.Tensor = self._mm(
            a, b, scale_a, first, scale_b, second,
            swizzle_a=self._swizzle, swizzle_b=self._swizzle,
        )  # fmt: skip
        return product


class _IntMM:
    """``torch._int_mm``: int8 operands, exact int32 sums."""

    def __init__(self, route: MatmulRoute, target: Target, sets: Sets, config: str | None) -> None:
        import torch

        self.config: Config = {}
        self._mm = torch._int_mm

    def launch(self, operands: Operands) -> torch.Tensor:
        return self._mm(operands.a_mk, operands.b_kn, out=operands.out)


class _SparseMM:
    """cuSPARSELt: A compressed to the two non-zeros of every four, B dense.

    Compression happens here, once, and so does the library's search for its fastest algorithm:
    left alone, torch takes the first. The call has no ``out``; operations are counted as if A were
    dense, which is what makes the figure *sparse-equivalent*.

    There are no scales. The call takes a factor, ``alpha``, but torch reads it back to the host at
    each launch (``alpha.item`` in cuSPARSELtOps.cpp): the device would run dry, and a graph cannot
    record it. The operands of sparse rows have scales of one instead.
    """

    # The search takes several launches of each algorithm, and a shape comes back in every turn of
    # our own search: by what the library knows of a product.
    _searched: ClassVar[dict[tuple[object, ...], Config]] = {}

    def __init__(self, route: MatmulRoute, target: Target, sets: Sets, config: str | None) -> None:
        import torch

        row = route.compute_row
        self._compressed = {s.index: torch._cslt_compress(s.a_mk) for s in sets}
        out_dtype = None if row.operand == row.output else getattr(torch, row.output)
        first = sets[0]
        key = (target, row.name, first.a.shape, first.b.shape)
        algorithm = self._searched.get(key) or _sparse_algorithm(
            self._compressed[first.index], first.b_kn, out_dtype
        )
        self._searched[key] = algorithm
        self.config: Config = {
            "sparsity": row.sparsity, "flops_counted": "dense", "searched": bool(algorithm),
            **algorithm,
        }  # fmt: skip
        multiply: Callable[..., torch.Tensor] = torch._cslt_sparse_mm
        self._mm = partial(multiply, out_dtype=out_dtype, **algorithm)

    def launch(self, operands: Operands) -> torch.Tensor:
        return self._mm(self._compressed[operands.index], operands.b_kn)


def _sparse_algorithm(
    compressed: torch.Tensor, b_kn: torch.Tensor, out_dtype: torch.dtype | None
) -> dict[str, Any]:
    """Return the arguments for cuSPARSELt's fastest algorithm, {} where torch cannot search.

    How to split k is a boolean, ``split_k_one_kernel``, in earlier versions of torch and a mode in
    later ones: the operator says which it takes.
    """
    import torch

    search = getattr(getattr(torch._C, "_cusparselt", None), "mm_search", None)
    if search is None:
        return {}
    try:
        alg_id, split_k, split_k_mode, _ = search(compressed, b_kn, None, None, out_dtype, False)
        schema = torch.ops.aten._cslt_sparse_mm.default._schema
    except (RuntimeError, TypeError, ValueError, AttributeError):
        return {}  # a device that is lost will say so again at the first launch
    names = {argument.name for argument in schema.arguments}
    found = {
        "alg_id": alg_id, "split_k": split_k, "split_k_mode": split_k_mode,
        "split_k_one_kernel": bool(split_k_mode),
    }  # fmt: skip
    return {name: value for name, value in found.items() if name in names}


class _Triton:
    """Our own kernels, in the named configuration or the one that the table puts first."""

    def __init__(self, route: MatmulRoute, target: Target, sets: Sets, config: str | None) -> None:
        from roofprobe.kernels import triton_configs, triton_matmul, triton_scaled

        assert target.architecture is not None, target
        scaled = route.row in triton_scaled.ROWS
        kernels = triton_scaled if scaled else triton_matmul
        try:
            known = kernels.configs_for(route.row, target.architecture)
            chosen = triton_configs.config_named(config) if config else next(iter(known), None)
        except ValueError as error:
            raise Unsupported("unknown-config", str(error)) from error
        if chosen is None:
            raise Unsupported(
                "triton",
                f"our kernel has no configuration for {route.row} on {target.architecture}",
            )
        self.config: Config = {"config": chosen.name}
        m, n = sets[0].out.shape
        problem = kernels.shape_problem(chosen, route.row, m, n, sets[0].a.shape[1])
        if problem is not None:
            raise Unsupported("shape", problem)
        self._launches = {
            each.index: kernels.launcher(
                each.a.values,
                each.b.values,
                each.out,
                row=route.row,
                config=chosen,
                scale_a=_plain(each.a.scales),
                scale_b=_plain(each.b.scales),
                multiprocessors=target.unit_count,
            )
            for each in sets
        }

    def launch(self, operands: Operands) -> torch.Tensor:
        self._launches[operands.index]()
        return operands.out

    def assembly(self) -> str | None:
        from roofprobe.kernels.aot import assembly_of

        return assembly_of(next(iter(self._launches.values()))())


def _plain(scales: torch.Tensor | None) -> Any:
    """Return scales of one byte as bytes, which is how our kernels read them."""
    import torch

    if scales is None or scales.element_size() > 1:
        return scales
    return scales.view(torch.uint8)


LAUNCHERS: dict[str, Callable[[MatmulRoute, Target, Sets, str | None], Launcher]] = {
    "mm": _MM,
    "compiled_mm": _CompiledMM,
    "numpy": _NumpyMM,
    "scaled_mm": _ScaledMM,
    "block_scaled_mm": _BlockScaledMM,
    "int_mm": _IntMM,
    "sparse_mm": _SparseMM,
    "triton": _Triton,
}


def _deepseek_scales(plain: torch.Tensor, side: int) -> torch.Tensor:
    """Return block scales (rows, k/128) as torch hands them to cuBLASLt.

    A's are (m, k/128) with m contiguous; B's are (k/128, n/128) with k contiguous, and k/128
    rounded up to a multiple of four (torch, ScaledBlas.cpp, ``_scaled_block1x128_block128x128``).
    """
    import torch

    if side == 0:
        return plain.t().contiguous().t()
    blocks, deep = plain.shape
    padded = torch.zeros(blocks, -(-deep // 4) * 4, dtype=plain.dtype, device=plain.device)
    padded[:, :deep] = plain
    return padded.t()


def swizzle_32_4_4(scales: torch.Tensor) -> torch.Tensor:
    """Return block scales (rows, columns) in the flat layout that cuBLASLt reads.

    Tiles of 128 rows by 4 columns, padded with zeros; within a tile row r, column c lies at
    (r mod 32)·16 + (r div 32)·4 + c. Source: cuBLAS documentation, "1D Block Scaling Factors
    Layout".
    """
    import torch

    rows, columns = scales.shape
    tall, wide = -(-rows // 128), -(-columns // 4)
    padded = torch.zeros(tall * 128, wide * 4, dtype=scales.dtype, device=scales.device)
    padded[:rows, :columns] = scales
    tiles = padded.view(tall, 4, 32, wide, 4).permute(0, 3, 2, 1, 4)
    return tiles.reshape(-1).contiguous()
