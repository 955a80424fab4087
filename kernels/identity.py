"""Which kernel really ran: its name, its library, its instruction, and whether it is a fallback.

A library may decline what was asked and do something else without a word: convert bf16 operands
and multiply in fp32, run an Ampere kernel on a Blackwell GPU, or walk through a plain loop. The
rate is then right and its label wrong. So one launch is watched and the name kept with the number.

On a GPU, torch's profiler gives the kernels' names. On a CPU it gives only torch's own operations
(``aten::mm``), so MKL and oneDNN are made to speak as well: their verbose modes print one line per
call on the process's standard output, which is caught for that one launch. MKL names the routine
but not the instruction; oneDNN names its implementation, which contains the instruction set. When
neither speaks, torch multiplied by itself.

Watching takes file descriptors 1 and 2 of the whole process for the length of one launch: do it
while no other thread prints. A watched launch is never timed.
"""

from __future__ import annotations

import ctypes
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from roofprobe.kernels import lowering
from roofprobe.kernels.kernel_names import KernelName, native_instruction, read_name

if TYPE_CHECKING:
    from roofprobe.kernels.work import Target


@dataclass(frozen=True, slots=True)
class Identity:
    """What ran in one launch.

    ``names`` are device kernels (GPU), library calls (CPU) or, failing those, torch's operations;
    ``library`` and ``instruction`` are those of the product; ``converts`` names what rewrote
    operands in another format or layout. ``reason`` says why ``names`` is empty.
    """

    names: tuple[str, ...]
    library: str | None = None
    instruction: str | None = None
    converts: tuple[str, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class LibraryCall:
    """One call that MKL or oneDNN reported; ``implementation`` is empty when it is not named."""

    library: str
    routine: str
    implementation: str

    @property
    def name(self) -> str:
        """Return the most telling name of the call."""
        return self.implementation or self.routine


# torch operations that write a tensor anew; aten::to alone may return its argument.
_CONVERTING_OPERATIONS = ("aten::_to_copy", "aten::copy_", "aten::clone")
_PRODUCT_OPERATIONS = re.compile(
    r"aten::(mm|addmm|bmm|baddbmm|_scaled_mm|_int_mm|linear|matmul|mv|dot|\w*attention\w*)$"
)
_TRACE = re.compile(r"USDT:")  # the profiler's own trace points: no message
_MKL_CALL = re.compile(r"MKL_VERBOSE ([A-Za-z]\w*)\(.*\) [\d.]+[a-z]*s\b")

# Instruction sets in the names of oneDNN implementations, most specific first.
_ONEDNN_INSTRUCTIONS: tuple[tuple[str, str], ...] = (
    (r"amx_fp16", "amx_fp16"),
    (r"amx", "amx"),
    (r"avx512_core_fp16|avx10_1_512", "avx512_fp16"),
    (r"avx512_core_bf16", "avx512_bf16"),
    (r"avx512_core_vnni", "avx512_vnni"),
    (r"avx512", "avx512"),
    (r"avx2_vnni_2", "avx_ne_convert"),
    (r"avx2_vnni", "avx_vnni"),
    (r"avx2", "avx2"),
    (r"sve", "sve"),
    (r"^ref|:ref|ref:any|simple", "ref"),
)
# What multiplies the format by itself; other instruction sets widen it to fp32 (or int32) first.
_CPU_NATIVE: dict[str, tuple[str, ...]] = {
    "bf16": ("amx_fp16", "amx", "avx512_fp16", "avx512_bf16", "sve"),
    "fp16": ("amx_fp16", "avx512_fp16", "sve"),
    "int8": ("amx_fp16", "amx", "avx512_fp16", "avx512_bf16", "avx512_vnni", "avx_vnni",
             "avx_ne_convert", "sve"),
}  # fmt: skip
_MKL_FORMATS: tuple[tuple[str, str], ...] = (
    (r"(?i)bf16", "bf16"), (r"(?i)f16", "fp16"), (r"(?i)s8", "int8"), (r"^[SC]", "fp32"),
    (r"^[DZ]", "fp64"),
)  # fmt: skip
_NARROW = ("bf16", "fp16", "fp16-acc16", "fp8", "int8", "tf32", "mxfp8", "nvfp4", "int4")


def identify(launch: Callable[[], object], target: Target) -> Identity:
    """Launch once to warm up, then watched (on a CPU twice), and say what ran.

    Never raises for want of a profiler: ``names`` is then empty and ``reason`` says why. What the
    launch itself raises goes through.
    """
    launch()
    return _identify_on_gpu(launch, target) if target.is_gpu else _identify_on_cpu(launch)


def describe_device_kernels(names: tuple[str, ...], architecture: str | None) -> Identity:
    """Make an identity of the device kernels of one launch, in the order in which they ran."""
    kernels = [read_name(name, architecture) for name in names]
    products = [k for k in kernels if k.role == "product"]
    product = next((k for k in products if k.library), products[0] if products else None)
    return Identity(
        names=names,
        library=product.library if product else None,
        instruction=product.instruction if product else None,
        converts=tuple(k.name for k in kernels if k.role == "conversion"),
    )


def describe_cpu(operations: tuple[str, ...], calls: tuple[LibraryCall, ...]) -> Identity:
    """Make an identity of torch's operations and the library calls below them."""
    products = tuple(dict.fromkeys(op for op in operations if _PRODUCT_OPERATIONS.match(op)))
    # Without a product, a copy is what was asked for and no conversion.
    converts = tuple(op for op in _CONVERTING_OPERATIONS if products and op in operations)
    if calls:
        last = calls[-1]
        instruction = _cpu_instruction(last.implementation)
        return Identity(tuple(call.name for call in calls), last.library, instruction, converts)
    names = products or tuple(dict.fromkeys(operations))
    reason = None if names else "the profiler reported no operation"
    return Identity(names, "ATen" if names else None, None, converts, reason)


def describe_ours(
    seen: Identity, row: str, assembly: str, target: Target
) -> tuple[Identity, str | None]:
    """Complete the identity of a Triton kernel of ours by the assembly that it was compiled to.

    Its name says nothing of its instruction, and another Triton may choose another one. The
    second value is the sentence of a fallback, None where the instruction is the one expected.
    """
    told = replace(seen, library="Triton", instruction=lowering.instruction_in(assembly))
    return told, lowering.contradiction(row, target.architecture or "", assembly)


def read_calls(text: str) -> tuple[LibraryCall, ...]:
    """Return the library calls in the verbose output of oneDNN and MKL, in their order.

    An oneDNN line holds ``onednn_verbose``, then (by version) a format mark, a time and a
    component, then ``exec``, engine, primitive, implementation and more. An MKL line holds
    ``MKL_VERBOSE``, the routine with its arguments and the time. All other lines, banners among
    them, are passed over.
    """
    found = (_read_onednn(line) or _read_mkl(line) for line in text.splitlines())
    return tuple(call for call in found if call is not None)


def fallback(identity: Identity, precision: str, target: Target) -> str | None:
    """Say in one sentence that something else ran than the precision should run on, or None.

    None also stands for a name that nothing is known of. Helpers (split-K sums, memsets, scaling)
    are no fallback.
    """
    if target.is_gpu:
        return _gpu_fallback(identity, precision, target)
    return _cpu_fallback(identity, precision)


def _gpu_fallback(identity: Identity, precision: str, target: Target) -> str | None:
    architecture = target.architecture
    kernels = [read_name(name, architecture) for name in identity.names]
    known = [k for k in kernels if k.role == "product" and k.library is not None]
    if identity.converts:
        on = f" before {known[0].name} multiplies them" if known else ""
        return f"the operands are converted by {identity.converts[0]}{on}"
    for kernel in known:
        problem = _kernel_problem(kernel, precision, architecture)
        if problem is not None:
            return problem
    return None


def _kernel_problem(kernel: KernelName, precision: str, architecture: str | None) -> str | None:
    where = architecture or "this device"
    wanted = precision.removesuffix("-acc16")
    if kernel.instruction == "emulation":
        return f"{kernel.name} emulates {precision} by products of a narrower format"
    if kernel.operand is not None and wanted in _SAID_BY_NAMES and kernel.operand != wanted:
        return f"{kernel.name} multiplies {kernel.operand} operands, not {precision}"
    if precision == "fp16-acc16" and re.search(r"_s\d+gemm", kernel.name):
        return f"{kernel.name} accumulates in fp32, not in fp16"
    native = native_instruction(architecture)
    if kernel.instruction == "fma" and native is not None:
        if precision in _NARROW:
            return f"{kernel.name} multiplies on the vector lanes, not on {where}'s tensor units"
        if precision == "fp64" and re.fullmatch(_FP64_TENSOR, architecture or ""):
            return f"{kernel.name} multiplies on the vector lanes; {where} has fp64 tensor units"
    if kernel.instruction == "mma.sync" and native in ("wgmma", "tcgen05") and precision in _NARROW:
        return (
            f"{kernel.name} is a kernel of an older generation (mma.sync): slower than {where}'s "
            f"own {native} kernels where the library has one"
        )
    return None


_SAID_BY_NAMES = ("fp64", "fp32", "tf32", "bf16", "fp16", "fp8", "int8")
_FP64_TENSOR = r"sm_(80|90|100)[a-z]?|gfx90a|gfx94\d|gfx950"


def _cpu_fallback(identity: Identity, precision: str) -> str | None:
    if not identity.names:
        return None
    last = identity.names[-1]
    if identity.converts:
        return f"the operands are converted by {identity.converts[0]} before {last} multiplies them"
    if identity.instruction == "ref":
        return f"{last} is oneDNN's reference implementation, a plain loop"
    if identity.library == "ATen" and _PRODUCT_OPERATIONS.match(last):
        return f"neither MKL nor oneDNN was called: torch's own loop computed {last}"
    if identity.library == "MKL":
        computed = next((f for pattern, f in _MKL_FORMATS if re.search(pattern, last)), None)
        if computed is not None and computed != precision:
            return f"MKL's {last} multiplies {computed}, not {precision}"
    native = _CPU_NATIVE.get(precision)
    if (
        identity.library == "oneDNN"
        and native is not None
        and identity.instruction is not None
        and identity.instruction not in native
    ):
        return f"{last} has no {precision} multiply: it widens the operands first"
    return None


def _cpu_instruction(implementation: str) -> str | None:
    return next(
        (name for pattern, name in _ONEDNN_INSTRUCTIONS if re.search(pattern, implementation)), None
    )


def _read_onednn(line: str) -> LibraryCall | None:
    fields = line.strip().split(",")
    if fields[0] not in ("onednn_verbose", "dnnl_verbose") or "exec" not in fields[1:5]:
        return None
    after = fields[fields.index("exec", 1) + 1 :]
    if len(after) < 3 or after[0] != "cpu":
        return None
    return LibraryCall("oneDNN", after[1], after[2])


def _read_mkl(line: str) -> LibraryCall | None:
    found = _MKL_CALL.match(line.strip())
    return LibraryCall("MKL", found[1], "") if found else None


def _identify_on_gpu(launch: Callable[[], object], target: Target) -> Identity:
    import torch

    def once() -> None:
        launch()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    events, said = _profiled(once, "cuda")
    names = tuple(name for name, on_cpu in events if not on_cpu)
    if not names:
        return Identity((), reason=f"the profiler saw no device kernel: {said or 'it gave none'}")
    return describe_device_kernels(names, target.architecture)


def _identify_on_cpu(launch: Callable[[], object]) -> Identity:
    events, said = _profiled(launch, None)
    operations = tuple(name for name, _ in events if name.startswith("aten::"))
    with _captured() as captured, _libraries_verbose():
        launch()
    identity = describe_cpu(operations, read_calls(captured.output))
    if identity.names:
        return identity
    return replace(identity, reason=f"the profiler saw no operation: {said or 'it gave none'}")


def _profiled(
    launch: Callable[[], object], device: str | None
) -> tuple[tuple[tuple[str, bool], ...], str]:
    """Return (name, whether on the CPU) of what one launch did, and why there is nothing if so.

    ``device`` is torch's type of the accelerator that is watched besides the processor.
    """
    # What torch.profiler is made of; entering that one imports torch's compiler, 1.5 s of work.
    from torch.autograd.profiler import profile

    # The profiler's library writes its log to standard error, and torch warns without a device.
    with _captured() as captured, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            watcher = profile(use_device=device, use_kineto=True)
            watcher.__enter__()
        except (RuntimeError, AssertionError) as error:
            return (), str(error).splitlines()[0]
        try:
            launch()
        finally:
            watcher.__exit__(None, None, None)
        events = [
            (event.name, event.device_type.name == "CPU") for event in watcher.function_events or ()
        ]
    logged = [line for line in captured.errors.splitlines() if line and not _TRACE.match(line)]
    said = [str(warning.message) for warning in warned] + logged
    return tuple(events), said[0] if said else ""


@dataclass(slots=True)
class _Captured:
    """What the process wrote, C libraries included; filled when the block ends."""

    output: str = ""
    errors: str = ""


@contextmanager
def _captured() -> Iterator[_Captured]:
    """Catch file descriptors 1 and 2 of this process; a closed one is left closed."""
    captured = _Captured()
    flush = ctypes.CDLL(None).fflush
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
        _flush_python()
        flush(None)
        saved: list[tuple[int, int]] = []
        try:
            for descriptor, file in zip((1, 2), files, strict=True):
                with suppress(OSError):
                    saved.append((descriptor, os.dup(descriptor)))
                    os.dup2(file.fileno(), descriptor)
            yield captured
        finally:
            _flush_python()
            flush(None)
            for descriptor, copy in saved:
                os.dup2(copy, descriptor)
                os.close(copy)
            for file in files:
                file.seek(0)
            captured.output, captured.errors = (
                file.read().decode(errors="replace") for file in files
            )


def _flush_python() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError, AttributeError):
            stream.flush()


@contextmanager
def _libraries_verbose() -> Iterator[None]:
    """Let MKL and oneDNN report their calls, as far as this torch was built with them."""
    import torch

    with ExitStack() as stack:
        for backend in (torch.backends.mkl, torch.backends.mkldnn):
            # Built without the library, torch asserts or lacks the switch.
            with suppress(AssertionError, AttributeError, RuntimeError):
                if backend.is_available():
                    stack.enter_context(backend.verbose(backend.VERBOSE_ON))
        yield
