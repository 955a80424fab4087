"""The pipe's own rate: multiply-accumulate on operands that never leave the chip.

A matrix product is limited by its pipe, by what feeds the pipe, and by the clock. With the operands
in registers or shared memory nothing has to be fed, so the rate is the pipe's at the clock it
holds; what a product reaches of it is its feeding. One module per kind of device does the work:
``cpu_pipe`` (machine code on vector and tile registers) and ``triton_pipe`` (GPU).
"""

from __future__ import annotations

from roofprobe.kernels.rows import ComputeRow
from roofprobe.kernels.work import Target, Unsupported, Work


def prepare(row: ComputeRow, target: Target) -> Work:
    """Return the pipe work of ``row`` on ``target``; raises ``Unsupported`` with the reason."""
    refusal = refused_by_device(row, target)
    if refusal is not None:
        raise refusal
    if target.kind == "cpu":
        return _on_cpu(row, target)
    try:
        from roofprobe.kernels import triton_pipe
    except ImportError as error:
        raise Unsupported(
            "no-triton", "the triton package is not installed", "pip install triton"
        ) from error
    return triton_pipe.prepare(row.name, target)


def refused_by_device(row: ComputeRow, target: Target) -> Unsupported | None:
    """Say why the device alone rules the row's pipe out, or return None; asks no software."""
    if row.sparsity is not None:
        return Unsupported(
            "no-route", "the sparse pipe alone is not measured: no kernel of ours feeds it"
        )
    if target.kind == "cpu":
        found = _for_cpu(row, target)
        return found if isinstance(found, Unsupported) else None
    if not target.is_gpu or target.architecture is None:
        return Unsupported(
            "no-triton-target",
            f"the pipe probe runs on CPUs and on CUDA and ROCm GPUs; this device is {target.kind}",
        )
    return None


def _for_cpu(row: ComputeRow, target: Target) -> str | Unsupported:
    """Return the name of the widest loop that this processor has for the row, or why none."""
    from roofprobe.kernels import cpu_pipe
    from roofprobe.kernels.cpu_team import machine

    offered = {
        name: state
        for name, state in cpu_pipe.available_rows(target.features, target.architecture).items()
        if cpu_pipe.row_of(name).precision == row.precision
        and cpu_pipe.row_of(name).accumulator == row.accumulator
        and cpu_pipe.row_of(name).architecture == (target.architecture or machine())
    }
    if row.precision == "fp16-acc16" or not offered:
        sentence = cpu_pipe.WITHOUT_ROW.get(
            row.precision, f"no processor that this version knows has a pipe for {row.title}"
        )
        return Unsupported("architecture", sentence, "a GPU")
    usable = [name for name, state in offered.items() if isinstance(state, str)]
    if not usable:
        refusals = [state for state in offered.values() if isinstance(state, Unsupported)]
        return refusals[-1]
    return usable[-1]  # rows of one precision stand in order of width, so the last is the widest


def _on_cpu(row: ComputeRow, target: Target) -> Work:
    from roofprobe.kernels import cpu_pipe

    name = _for_cpu(row, target)
    assert isinstance(name, str), "refused_by_device() told"
    return cpu_pipe.prepare(name, target.features, threads=max(1, target.unit_count or 1)).work
