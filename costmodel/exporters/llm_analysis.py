"""llm-analysis: a GPU as JSON of peaks, and the efficiency flags of each phase and data type.

The GPU file takes no other keys than its dataclass has, so it holds datasheet peaks only. What was
reached goes into the flags of a call: ``flops_efficiency`` is always relative to the peak of the
data type, one efficiency serves both phases of a call, and so each phase and data type has a call
of its own (``efficiencies.json``; ``prefill.flags`` and ``decode.flags`` are those of one model, to
start with). Its memory is in GiB, its bandwidths in 10^9 bytes/s.
"""

from __future__ import annotations

from typing import Final

from roofprobe.costmodel.exporters.files import Export, figures, json_bytes
from roofprobe.costmodel.exporters.phases import (
    DECODE_BATCH,
    PREFILL_TOKENS,
    Phase,
    choose,
    phases,
)
from roofprobe.costmodel.exporters.subject import Subject
from roofprobe.costmodel.forms import FORMATS

# Our precision → its data type (weights, activations, embedding); 8 bits are ``peak_i8`` there.
DTYPES: Final = {
    "bf16": "w16a16e16", "fp16": "w16a16e16", "fp32": "w16a16e16", "fp8": "w8a8e16",
    "fp8-block": "w8a8e16", "int8": "w8a8e16", "int4": "w4a16e16",
}  # fmt: skip
# It ships this model's configuration, under the name of a derivative with the same sizes.
EXAMPLE: Final = "llama-2-70b"
_LATENCY_S: Final = 8e-6  # the least message latency that llm-analysis assumes itself


def export(subject: Subject) -> Export:
    """Return the GPU file, and efficiencies per model, phase, data type and degree."""
    hardware = subject.calibration.hardware
    base = subject.base
    assert hardware.bandwidth is not None, "it could not be timed without"
    collective = subject.calibration.fits("all_reduce", base)
    gpu = {
        "name": subject.label,
        "mem_per_GPU_in_GB": figures((hardware.memory_bytes or 0) / 2**30),
        "hbm_bandwidth_in_GB_per_sec": figures(hardware.bandwidth / 1e9),
        "intra_node_bandwidth_in_GB_per_sec": figures((hardware.link or 64e9) / 1e9),
        "intra_node_min_message_latency": (
            figures(collective[0].t0_us * 1e-6) if collective else _LATENCY_S
        ),
        "peak_fp16_TFLOPS": figures(hardware.peak_flops[base] / 1e12),
        "inter_node_bandwidth_in_GB_per_sec": 50.0,
    }
    eight_bits = hardware.peak_flops.get("fp8") or hardware.peak_flops.get("int8")
    if eight_bits:
        gpu["peak_i8_TFLOPS"] = figures(eight_bits / 1e12)
    found = [one for one in phases(subject) if one.precision in DTYPES]
    rows = [_flags(subject, one) for one in found]
    model = EXAMPLE if any(one.model == EXAMPLE for one in found) else found[0].model
    common = {"model": model, "precision": base, "tp": max(subject.degrees)}
    first = choose(found, phase="prefill", tokens=PREFILL_TOKENS, **common) or found[0]
    step = choose(found, phase="decode", batch=DECODE_BATCH, **common) or found[-1]
    notes = [
        f"prefill.flags is {first.model} in {base} on {first.tp} GPUs, {first.tokens} tokens; "
        f"decode.flags is batch {step.batch} over {step.tokens} cached tokens"
    ]
    if base != "bf16":
        notes.append(f"peak_fp16_TFLOPS is the peak of {base}: bf16 was not timed throughout")
    if hardware.link is None:
        notes.append("no link between devices is known: 64 GB/s is assumed")
    return Export(
        {
            f"{subject.label}.json": json_bytes(gpu),
            "efficiencies.json": json_bytes(rows),
            "prefill.flags": f"{_flags(subject, first)['flags']}\n".encode(),
            "decode.flags": f"{_flags(subject, step)['flags']}\n".encode(),
        },
        modelled=len(rows),
        notes=tuple(notes),
    )


def _flags(subject: Subject, one: Phase) -> dict[str, object]:
    flops = figures(one.flops_efficiency, 4)
    # It has no 32 bits: 16-bit weights at half the bandwidth take as long.
    bytes_there = 2.0 if one.precision == "fp32" else FORMATS[one.precision].weight_bytes
    share = bytes_there / FORMATS[one.precision].weight_bytes
    memory = figures(one.memory_efficiency * share, 4)
    dtype = DTYPES[one.precision]
    return {
        **one.as_json(),
        "dtype_name": dtype,
        "hbm_memory_efficiency": memory,
        "flags": f"--gpu_name {subject.label} --dtype_name {dtype} --tp_size {one.tp} "
        f"--batch_size_per_gpu {one.batch} --seq_len {one.tokens} --flops_efficiency {flops} "
        f"--hbm_memory_efficiency {memory}",
    }
