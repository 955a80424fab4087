"""The YAML of aiconfigurator's systems: peaks, capacities, links, and two empirical constants.

With ``mem_bw_empirical_scaling_factor`` and ``mem_empirical_constant_latency`` (seconds) it times
all that streams: bytes / (mem_bw x factor) + constant. Both are those of the calibrated
element-wise operations. What no probe measures (links between nodes, memory that an engine keeps)
is assumed, and the file says so. JSON would be valid YAML, but takes no remarks.
"""

from __future__ import annotations

from typing import Final

from roofprobe.costmodel.exporters.files import figures
from roofprobe.costmodel.exporters.subject import Subject, catalogue_row
from roofprobe.records.errors import RoofprobeError

NCCL: Final = "2.27.3"
# What the planner's own systems say of memory; nothing that a probe measures.
_MISC: Final = """\
misc: # memory that communication and the engine keep, as aiconfigurator's own H100 has it
  nccl_mem:
    1: 0
    2: 358612992
    4: 411041792
    8: 411041792
  other_mem: 3758096384
  nccl_version: '{nccl}'
"""


def system_yaml(subject: Subject) -> str:
    """Return the YAML file.

    Raises ``RoofprobeError`` (``nothing-to-export``) where nothing element-wise was timed.
    """
    hardware = subject.calibration.hardware
    row = catalogue_row(subject)
    assert hardware.bandwidth is not None, "an operation could not be timed without"
    factor, constant_s = element_wise(subject)
    bf16 = hardware.peak_flops[subject.base]
    gpu = {
        "mem_bw": f"{hardware.bandwidth:.0f} # B/s, {hardware.sources['bandwidth']}",
        "mem_bw_empirical_scaling_factor": f"{figures(factor, 4)} # element-wise kernels reach",
        "mem_empirical_constant_latency": f"{figures(constant_s, 4):.9f} # s, their fixed time",
        "mem_capacity": f"{hardware.memory_bytes or 0} # bytes",
        "bfloat16_tc_flops": f"{bf16:.0f} # dense FLOP/s",
    }
    for name, ours in (("int8_tc_flops", "int8"), ("fp8_tc_flops", "fp8"),
                       ("fp4_tc_flops", "nvfp4")):  # fmt: skip
        known = hardware.peak_flops.get(ours)
        if known is not None:
            gpu[name] = f"{known:.0f}"
        elif name != "fp4_tc_flops":
            gpu[name] = f"{bf16:.0f} # not known here: that of bfloat16 stands in"
    if row is not None and row.tdp_w is not None:
        gpu["power"] = f"{row.tdp_w:.0f}"
    if row is not None and row.compute_capability:
        gpu["sm_version"] = row.compute_capability.replace(".", "")
    link = hardware.link or 0.0
    node = {
        "num_gpus_per_node": f"{max(subject.degrees)}",
        "inter_node_bw": "50000000000 # B/s one way, assumed (400 Gb/s per GPU); not measured",
        "intra_node_bw": f"{link or 64e9:.0f} # B/s one way"
        + ("" if link else ", assumed: no link is known"),
        "pcie_bw": "64000000000 # B/s one way, assumed (PCIe 5.0 x16); not measured",
        "p2p_latency": "0.00001 # s, assumed, as aiconfigurator's own systems have it",
    }
    lines = [
        f"# Written by {subject.made_by} from {subject.source}; see PROVENANCE.md.",
        f"data_dir: data/{subject.label}",
        "gpu:", *(f"  {name}: {value}" for name, value in gpu.items()),
        "node:", *(f"  {name}: {value}" for name, value in node.items()),
    ]  # fmt: skip
    return "\n".join(lines) + "\n" + _MISC.format(nccl=NCCL)


def element_wise(subject: Subject) -> tuple[float, float]:
    """Return what share of the bandwidth norms reach, and their fixed time in seconds.

    These are aiconfigurator's two empirical constants, with which it times all that streams.
    """
    fit = subject.calibration.fits("rmsnorm", subject.base)
    if not fit:
        raise RoofprobeError(
            "nothing-to-export",
            f"{subject.source} times no element-wise operation; measure it with `probe all`",
        )
    return fit[0].memory_efficiency, fit[0].t0_us * 1e-6
