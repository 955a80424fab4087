"""BLIS (inference-sim): one row of ``hardware_config.json``, for its roofline model only.

Its roofline has a share of the peak for each phase (``mfuPrefill``, ``mfuDecode``) and none for
memory, so the bandwidth that decode reaches is folded into ``BwPeakTBs``. Its default model
(``trained-physics``) multiplies peaks by betas that were fitted against peaks: with this row it
would correct twice. ``TFlopsFP8`` 0 says that there are no 8-bit products; memory is in GiB.
"""

from __future__ import annotations

from roofprobe.costmodel.exporters.files import Export, figures, json_bytes
from roofprobe.costmodel.exporters.phases import DECODE_BATCH, PREFILL_TOKENS, choose, phases
from roofprobe.costmodel.exporters.subject import Subject


def export(subject: Subject) -> Export:
    """Return the row of ``subject``."""
    hardware = subject.calibration.hardware
    assert hardware.bandwidth is not None, "it could not be timed without"
    found = phases(subject)
    common = {"model": found[0].model, "precision": subject.base, "tp": 1}
    prefill = choose(found, phase="prefill", tokens=PREFILL_TOKENS, **common) or found[0]
    decode = choose(found, phase="decode", batch=DECODE_BATCH, **common) or found[-1]
    row = {
        "_comment": "roofline only (--latency-model roofline): BwPeakTBs is what decode reaches, "
        f"not the datasheet's {hardware.bandwidth / 1e12:g}; {subject.made_by}, {subject.source}",
        "TFlopsPeak": figures(hardware.peak_flops[subject.base] / 1e12),
        "TFlopsFP8": figures(hardware.peak_flops.get("fp8", 0.0) / 1e12),
        "BwPeakTBs": figures(hardware.bandwidth * decode.memory_efficiency / 1e12),
        "mfuPrefill": figures(prefill.flops_efficiency, 4),
        "mfuDecode": figures(decode.flops_efficiency, 4),
        "MemoryGiB": figures((hardware.memory_bytes or 0) / 2**30),
    }
    return Export({"hardware_config.json": json_bytes({subject.label: row})}, modelled=2)
