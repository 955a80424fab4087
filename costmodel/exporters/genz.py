"""GenZ: the dictionary of a system, one for prefill and one for decode.

GenZ knows one rate of arithmetic and one of memory and applies no efficiency of its own to a system
that is passed in, so what was reached is folded in: ``Flops`` = efficiency × peak in TFLOPS (of
16-bit products; GenZ doubles it for 8 bits and halves it for 32), ``Memory_BW`` and ``ICN`` in
units of 2^30 bytes/s, ``ICN_LL`` in microseconds. As prefill and decode reach different shares,
each has a dictionary; ``systems.json`` has those of every model, precision, degree and batch.
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

# Our precision → ``bits`` and by how much GenZ multiplies the time of arithmetic.
BITS: Final = {
    "bf16": ("bf16", 1.0), "fp16": ("bf16", 1.0), "fp32": ("f32", 2.0), "fp8": ("fp8", 0.5),
    "fp8-block": ("fp8", 0.5), "int8": ("int8", 0.5),
}  # fmt: skip

_SNIPPET: Final = '''\
"""GenZ on {name}: pick the system of a phase, then ask GenZ. Needs genz-llm 0.0.16."""

import json
import pathlib

SYSTEMS = json.loads((pathlib.Path(__file__).parent / "systems.json").read_text())


def system(phase, model={model!r}, precision={precision!r}, tp=1, tokens=2048, batch=1):
    """Return the row whose batch and length are nearest; its "system" goes to GenZ as it is."""
    rows = [row for row in SYSTEMS if (row["phase"], row["model"], row["precision"], row["tp"])
            == (phase, model, precision, tp)]
    return min(rows, key=lambda row: (abs(row["batch"] - batch), abs(row["tokens"] - tokens)))


if __name__ == "__main__":
    from GenZ import decode_moddeling, prefill_moddeling

    row = system("prefill")
    print(prefill_moddeling(model="meta-llama/Llama-3.1-8B", batch_size=1, input_tokens=2048,
                            system_name=row["system"], bits=row["bits"])["Latency"], "ms prefill")
    row = system("decode", batch=32)
    print(decode_moddeling(model="meta-llama/Llama-3.1-8B", batch_size=32, Bb=1, input_tokens=2048,
                           output_tokens=0, system_name=row["system"], bits=row["bits"])["Latency"],
          "ms per token")
'''


def export(subject: Subject) -> Export:
    """Return the dictionaries of both phases, those of all rows, and a snippet that uses them."""
    found = [one for one in phases(subject) if one.precision in BITS]
    rows = [
        {**one.as_json(), "bits": BITS[one.precision][0], "system": _system(subject, one)}
        for one in found
    ]
    base, model = subject.base, found[0].model
    common = {"model": model, "precision": base, "tp": 1}
    prefill = choose(found, phase="prefill", tokens=PREFILL_TOKENS, **common) or found[0]
    decode = choose(found, phase="decode", batch=DECODE_BATCH, **common) or found[-1]
    snippet = _SNIPPET.format(name=subject.calibration.hardware.name, model=model, precision=base)
    return Export(
        {
            "prefill.json": json_bytes(_system(subject, prefill)),
            "decode.json": json_bytes(_system(subject, decode)),
            "systems.json": json_bytes(rows),
            "use_genz.py": snippet.encode(),
        },
        modelled=len(rows),
        notes=(
            f"prefill.json is {model} in {base}, {PREFILL_TOKENS} tokens; decode.json is batch "
            f"{DECODE_BATCH} over 2048 cached tokens",
        ),
    )


def _system(subject: Subject, one: Phase) -> dict[str, object]:
    hardware = subject.calibration.hardware
    assert hardware.bandwidth is not None, "it could not be timed without"
    peak = hardware.peak_flops[FORMATS[one.precision].peak]
    link = subject.calibration.fits("all_reduce", subject.base)
    share = link[0].memory_efficiency if link and hardware.link else 1.0
    return {
        "Flops": figures(peak * one.flops_efficiency * BITS[one.precision][1] / 1e12),
        "Memory_size": figures((hardware.memory_bytes or 0) / 2**30),
        "Memory_BW": figures(hardware.bandwidth * one.memory_efficiency / 2**30),
        "ICN": figures((hardware.link or 64e9) * share / 2**30),
        "ICN_LL": figures(link[0].terms.get("us_per_hop", 0.0) or 1.0) if link else 2.0,
        "real_values": True,
    }
