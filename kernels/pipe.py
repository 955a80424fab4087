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
    if row.sparsity is not None:
        raise Unsupported(
            "no-route", "the sparse pipe alone is not measured: no kernel of ours feeds it"
        )
    if target.kind == "cpu":
        return _on_cpu(row, target)
    if not target.is_gpu or target.architecture is None:
        raise Unsupported(
            "no-triton-target",
            f"the pipe probe runs on CPUs and on CUDA and ROCm GPUs; this device is {target.kind}",
        )
    try:
        from roofprobe.kernels import triton_pipe
    except ImportError as error:
        raise Unsupported(
            "no-triton", "the triton package is not installed", "pip install triton"
        ) from error
    return triton_pipe.prepare(row.name, target)


def _on_cpu(row: ComputeRow, target: Target) -> Work:
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
        raise Unsupported("architecture", sentence, "a GPU")
    usable = [name for name, state in offered.items() if isinstance(state, str)]
    if not usable:
        refusals = [state for state in offered.values() if isinstance(state, Unsupported)]
        raise refusals[-1]
    # Rows of one precision stand in order of width, so the last is the widest.
    prepared = cpu_pipe.prepare(usable[-1], target.features, threads=max(1, target.unit_count or 1))
    return prepared.work
