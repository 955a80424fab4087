"""Streaming kernels: what device memory delivers to plain code, counted as STREAM counts.

Each kernel goes once over arrays far larger than every cache, so bytes over time is the memory's
rate. Counted is each byte that must cross the memory interface once, reads plus writes, without
write-allocate traffic (McCalpin's STREAM convention; on a CPU without non-temporal stores the
hardware moves up to half as much again on writes, which this figure does not see). ``read`` and
``dot`` only read; ``write`` only writes; ``copy`` and ``scale`` are half and half and usually the
slowest on a GPU, because the bus turns round; ``add`` and ``triad`` read two and write one.

The copy engine (``cudaMemcpyAsync`` behind ``Tensor.copy_``) is no kernel on the compute units and
does not reach the memory's roof: it has a row of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from roofprobe.kernels.accuracy import check_elementwise, check_sum, poison
from roofprobe.kernels.work import Check, Target, Unsupported, Work

if TYPE_CHECKING:
    import torch

SCALAR = 0.4
"""The factor q of scale and triad and the value of write: BabelStream's 0.4, inexact in binary."""

_RELATIVE_TOLERANCE = {"float64": 1e-14, "float32": 2e-7, "bfloat16": 8e-3, "float16": 1e-3}
_SUM_TOLERANCE = {"float64": 1e-12, "float32": 1e-5, "bfloat16": 1e-2, "float16": 2e-3}
DTYPES = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
ITEM_BYTES = {"fp64": 8, "fp32": 4, "bf16": 2, "fp16": 2}


@dataclass(frozen=True, slots=True)
class StreamKernel:
    """A kernel as data: how many arrays it reads and writes, and its operations per element."""

    name: str
    formula: str
    reads: int
    writes: int
    flops_per_element: int

    @property
    def arrays(self) -> int:
        """Return how many arrays one set of buffers holds."""
        return self.reads + self.writes


KERNELS: tuple[StreamKernel, ...] = (
    StreamKernel("read", "s += a[i]", reads=1, writes=0, flops_per_element=1),
    StreamKernel("write", "a[i] = q", reads=0, writes=1, flops_per_element=0),
    StreamKernel("copy", "c[i] = a[i]", reads=1, writes=1, flops_per_element=0),
    StreamKernel("scale", "c[i] = q·a[i]", reads=1, writes=1, flops_per_element=1),
    StreamKernel("add", "c[i] = a[i] + b[i]", reads=2, writes=1, flops_per_element=1),
    StreamKernel("triad", "c[i] = a[i] + q·b[i]", reads=2, writes=1, flops_per_element=2),
    StreamKernel("dot", "s += a[i]·b[i]", reads=2, writes=0, flops_per_element=2),
)
BY_NAME = {kernel.name: kernel for kernel in KERNELS}

ROUTES: tuple[str, ...] = ("torch", "triton", "copy-engine")


def unavailable(kernel: str, route: str, precision: str, target: Target) -> Unsupported | None:
    """Say why this kernel has no such route on ``target``, or return None when it can be tried."""
    if route == "copy-engine":
        if kernel != "copy":
            return Unsupported("copy-engine", "a copy engine only copies")
        if target.kind == "cpu":
            return Unsupported("no-copy-engine", "a CPU has no copy engine for its own memory")
        return None
    if route == "torch" and kernel == "copy" and target.is_gpu:
        return Unsupported(
            "copy-engine-route",
            "torch hands a copy within a device to the copy engine, which has its own row",
        )
    if route == "triton":
        if not target.is_gpu or target.architecture is None:
            return Unsupported(
                "no-triton-target",
                f"Triton kernels are compiled for CUDA and ROCm GPUs; this device is a "
                f"{target.kind}"
                + (
                    " (its interpreter is for tests, not for timing)"
                    if target.kind == "cpu"
                    else ""
                ),
            )
        try:
            import triton  # noqa: F401 - only its presence matters here
        except ImportError:
            return Unsupported(
                "no-triton", "the triton package is not installed", "pip install triton"
            )
    return None


def bytes_per_launch(kernel: str, precision: str, elements: int) -> tuple[int, int]:
    """Return (bytes read, bytes written) of one launch over arrays of ``elements``."""
    row = BY_NAME[kernel]
    item = ITEM_BYTES[precision]
    return row.reads * elements * item, row.writes * elements * item


def prepare(
    kernel: str,
    route: str,
    precision: str,
    target: Target,
    *,
    elements: int,
    buffer_sets: int,
    seed: int,
) -> Work:
    """Allocate and fill ``buffer_sets`` sets of arrays of ``elements`` and return the work.

    Values are uniform in [−1, 1] from ``seed``, never constant: some memories compress.
    Raises ``Unsupported`` where the route does not exist on ``target``.
    """
    import torch

    reason = unavailable(kernel, route, precision, target)
    if reason is not None:
        raise reason
    row = BY_NAME[kernel]
    dtype = getattr(torch, DTYPES[precision])
    device = torch.device(target.torch_device)
    seeds = torch.Generator().manual_seed(seed)
    sets: list[tuple[torch.Tensor, ...]] = []
    for _ in range(buffer_sets):
        arrays = [_random(elements, dtype, device, seeds) for _ in range(row.reads)]
        arrays += [torch.empty(elements, dtype=dtype, device=device) for _ in range(row.writes)]
        sets.append(tuple(arrays))
    if route == "triton":
        launcher, result, config = _triton_launcher(kernel, precision, elements, target)
    else:
        launcher, result, config = _torch_launcher(kernel, dtype, device)
    read, written = bytes_per_launch(kernel, precision, elements)
    first = sets[0]
    return Work(
        launches=tuple(partial(launcher, *arrays) for arrays in sets),
        flops=row.flops_per_element * elements,
        bytes_read=read,
        bytes_written=written,
        array_bytes=elements * dtype.itemsize,
        check=partial(_check, kernel, DTYPES[precision], first, partial(launcher, *first), result),
        kernel=f"{'copy_' if kernel == 'copy' else kernel} ({route})",
        config=config,
    )


def _random(
    elements: int, dtype: torch.dtype, device: torch.device, seeds: torch.Generator
) -> torch.Tensor:
    import torch

    seed = int(torch.randint(0, 2**31, (), generator=seeds))
    generator = torch.Generator(device=device if device.type == "cuda" else "cpu")
    generator.manual_seed(seed)
    array = torch.empty(elements, dtype=dtype, device=device)
    if device.type in ("cpu", "cuda"):
        return array.uniform_(-1, 1, generator=generator)
    return array.copy_(torch.empty(elements, dtype=dtype).uniform_(-1, 1, generator=generator))


Launcher = Callable[..., None]
Result = Callable[[], float]
Config = dict[str, int | str | bool | None]


def _torch_launcher(
    kernel: str, dtype: torch.dtype, device: torch.device
) -> tuple[Launcher, Result | None, Config]:
    """Return torch's own operation, writing into preallocated tensors, as a launcher."""
    import torch

    total = torch.empty((), dtype=dtype, device=device)

    def read(a: torch.Tensor) -> None:
        torch.sum(a, dim=0, out=total)

    def write(a: torch.Tensor) -> None:
        a.fill_(SCALAR)

    def copy(a: torch.Tensor, c: torch.Tensor) -> None:
        c.copy_(a)

    def scale(a: torch.Tensor, c: torch.Tensor) -> None:
        torch.mul(a, SCALAR, out=c)

    def add(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> None:
        torch.add(a, b, out=c)

    def triad(a: torch.Tensor, b: torch.Tensor, c: torch.Tensor) -> None:
        torch.add(a, b, alpha=SCALAR, out=c)

    def dot(a: torch.Tensor, b: torch.Tensor) -> None:
        torch.dot(a, b, out=total)

    launchers: dict[str, Launcher] = {
        "read": read, "write": write, "copy": copy, "scale": scale, "add": add, "triad": triad,
        "dot": dot,
    }  # fmt: skip

    def result() -> float:
        return float(total.double())

    reduces = BY_NAME[kernel].writes == 0
    if reduces:
        total.fill_(float("nan"))
    return launchers[kernel], result if reduces else None, {}


def _triton_launcher(
    kernel: str, precision: str, elements: int, target: Target
) -> tuple[Launcher, Result | None, Config]:
    """Return our Triton kernel as a launcher with the architecture's configuration."""
    import torch

    from roofprobe.kernels import triton_stream

    assert target.architecture is not None
    config = triton_stream.config_for(kernel, DTYPES[precision], target.architecture)
    settings: Config = {name: getattr(config, name) for name in ("block", "num_warps")}
    device = torch.device(target.torch_device)
    if BY_NAME[kernel].writes == 0:
        size = triton_stream.partials_size(elements, config)
        wide = torch.float64 if precision == "fp64" else torch.float32
        partials = torch.full((size,), float("nan"), dtype=wide, device=device)
        launch: Launcher = (
            triton_stream.launch_read if kernel == "read" else triton_stream.launch_dot
        )

        def reduce(*arrays: torch.Tensor) -> None:
            launch(*arrays, partials, config)

        return reduce, lambda: float(partials.double().sum()), settings
    launchers: dict[str, Launcher] = {
        "write": lambda a: triton_stream.launch_write(a, SCALAR, config),
        "copy": lambda a, c: triton_stream.launch_map("copy", a, a, c, SCALAR, config),
        "scale": lambda a, c: triton_stream.launch_map("scale", a, a, c, SCALAR, config),
        "add": lambda a, b, c: triton_stream.launch_map("add", a, b, c, SCALAR, config),
        "triad": lambda a, b, c: triton_stream.launch_map("triad", a, b, c, SCALAR, config),
    }
    return launchers[kernel], None, settings


def _check(
    kernel: str,
    dtype: str,
    arrays: tuple[torch.Tensor, ...],
    launch: Callable[[], None],
    result: Result | None,
) -> Check:
    """Poison the output, launch once, compare every element (or the sum) in float64."""
    row = BY_NAME[kernel]
    if result is not None:
        launch()
        value = result()
        reference, magnitude = _reference_sum(arrays)
        return check_sum(value, reference, magnitude, arrays[0].numel(), _SUM_TOLERANCE[dtype])
    out = arrays[-1]
    poison(out)
    launch()
    reads = arrays[: row.reads]

    def reference_of(start: int, stop: int) -> torch.Tensor:
        return _reference(
            kernel, tuple(array[start:stop].double() for array in reads), stop - start
        )

    if kernel == "write":
        constant = _constant(out)
        return check_elementwise(out, lambda start, stop: constant[: stop - start], 0.0)
    tolerance = 0.0 if kernel == "copy" else _RELATIVE_TOLERANCE[dtype]
    return check_elementwise(out, reference_of, tolerance)


def _constant(out: torch.Tensor) -> torch.Tensor:
    """Return a chunk of the value of ``write`` as the array's type holds it, in float64."""
    import torch

    value = torch.tensor(SCALAR, dtype=out.dtype).double().to(out.device)
    return value.expand(min(out.numel(), 1 << 24))


def _reference(kernel: str, reads: tuple[torch.Tensor, ...], count: int) -> torch.Tensor:
    if kernel == "copy":
        return reads[0]
    if kernel == "scale":
        return SCALAR * reads[0]
    if kernel == "add":
        return reads[0] + reads[1]
    assert kernel == "triad", (kernel, count)
    return reads[0] + SCALAR * reads[1]


def _reference_sum(arrays: tuple[torch.Tensor, ...]) -> tuple[float, float]:
    """Return (Σ terms, Σ|terms|) in float64 of a sum or a dot product, in chunks."""
    total = 0.0
    magnitude = 0.0
    step = 1 << 24
    for start in range(0, arrays[0].numel(), step):
        terms = arrays[0][start : start + step].double()
        for other in arrays[1:]:
            terms = terms * other[start : start + step].double()
        total += float(terms.sum())
        magnitude += float(terms.abs().sum())
    return total, magnitude
