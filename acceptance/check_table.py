"""Every check in one table: what is asked, what may be answered, and what to do.

A code names a question, not an answer. Codes are stable; they are what people filter and alert on.
``docs/checks.md`` is written from this table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from roofprobe.records.schema import Judgement, Layer


@dataclass(frozen=True, slots=True)
class Check:
    """One question that is asked of every run, and what may be answered.

    ``required``: an ``unknown`` answer makes the device's verdict unknown, since not run is not
    OK. ``worst`` is the worst judgement that it may give. ``bound`` says where the bound comes
    from, ``remedy`` what to do when it does not pass.
    """

    code: str
    layer: Layer
    title: str
    worst: Judgement
    required: bool
    bound: str
    remedy: str


TABLE: Final[tuple[Check, ...]] = (
    Check(
        "RP-COMPLETE",
        "integrity",
        "Was everything measured that was planned?",
        "unknown",
        True,
        "the plan of the run, and the families that it was asked for",
        "go on with `probe all --resume`, or run it again with more time",
    ),
    Check(
        "RP-RECORD",
        "integrity",
        "Does the record agree with itself?",
        "unknown",
        True,
        "headlines, rates and times follow from samples, work and plan",
        "judge the run folder as it was written; a changed or damaged copy proves nothing",
    ),
    Check(
        "RP-METHOD",
        "integrity",
        "Was it measured by the method that is judged here?",
        "warn",
        False,
        "the method version of this roofprobe",
        "measure again with this version",
    ),
    Check(
        "RP-NOT-MEASURED",
        "integrity",
        "Did a case end without a result?",
        "warn",
        True,
        "each planned case ends in a figure or in a reason that lies in the case itself",
        "see the reason, and the log beside the record",
    ),
    Check(
        "RP-WRONG-RESULT",
        "integrity",
        "Are results right?",
        "fail",
        True,
        "a reference of higher precision, with the tolerance of the format",
        "repeat; a device that computes wrongly must not be used",
    ),
    Check(
        "RP-UNSTABLE-BITS",
        "integrity",
        "Does the same work give the same bits?",
        "fail",
        True,
        "bit for bit the first result",
        "repeat; silent data corruption is a defect of the device",
    ),
    Check(
        "RP-INVALID",
        "integrity",
        "Are all figures physically possible?",
        "unknown",
        True,
        "pins x clock, and units x rate x highest clock",
        "do not use the figure; please report the run",
    ),
    Check(
        "RP-KERNEL-FALLBACK",
        "integrity",
        "Did the kernel run that the row stands for?",
        "warn",
        False,
        "the name of the kernel",
        "the figure is that kernel's; look for a route or a version of the library that has "
        "the right one",
    ),
    Check(
        "RP-SLOW-FALLBACK",
        "integrity",
        "Is each narrower format faster than the wider one?",
        "warn",
        False,
        "the wider format's figure in the same run",
        "see which kernel ran, and update torch or the library that was called",
    ),
    Check(
        "RP-NOT-ALONE",
        "integrity",
        "Was the device left alone while it was measured?",
        "warn",
        False,
        "measurements beside which others took more than 5 % of the cores: none that a best rate "
        "rests on, and at most 5 % of all",
        "repeat on an idle host",
    ),
    Check(
        "RP-IDENTITY",
        "identity",
        "Is it the card that its name says?",
        "fail",
        True,
        "PCI id, name, units and memory size of the catalogue's row; an earlier run of the "
        "same device where the catalogue has none",
        "ask the provider for the card that was ordered; for a card that the catalogue lacks, "
        "add a row (docs/adding-a-gpu.md) or name an earlier run with --against",
    ),
    Check(
        "RP-UNITS",
        "identity",
        "Has it all of its units?",
        "fail",
        True,
        "the number of SMs or CUs of the catalogue's row",
        "ask the provider for the card that was ordered",
    ),
    Check(
        "RP-MEMORY-SIZE",
        "identity",
        "Has it all of its memory?",
        "fail",
        True,
        "85 to 110 % of the size that is printed: drivers keep some, and GiB are not GB",
        "ask the provider for the card that was ordered",
    ),
    Check(
        "RP-POWER-LIMIT",
        "identity",
        "May it draw the power that it is built for?",
        "fail",
        True,
        "under 80 % of the driver's default limit (of the printed TDP for the default) fails, "
        "under 99 % warns",
        "ask the provider to restore it: `nvidia-smi -q -d POWER` shows it, only an "
        "administrator of the host can set it",
    ),
    Check(
        "RP-CLOCK-LIMIT",
        "identity",
        "May its clock rise as high as it should?",
        "fail",
        True,
        "under 80 % of the printed boost clock fails, under 97 % warns",
        "ask the provider whether clocks are locked: `nvidia-smi -q -d CLOCK`",
    ),
    Check(
        "RP-PCIE",
        "identity",
        "Has its PCIe link all lanes at full speed?",
        "fail",
        True,
        "what device and slot say that they can do, held against the link while data crossed "
        "it: less warns, less than half fails; the printed generation warns",
        "reseat the card or the riser, or ask for another host: `nvidia-smi -q -d PCIE` under load",
    ),
    Check(
        "RP-NVLINK",
        "identity",
        "Are all of its NVLinks active?",
        "fail",
        True,
        "the printed bandwidth over that of one link",
        "`nvidia-smi nvlink --status` and the fabric manager's log; ask for another host",
    ),
    Check(
        "RP-HEALTH",
        "health",
        "Could the device be asked how it is, before and after the run?",
        "fail",
        True,
        "the library or tool of the device's vendor",
        "`probe doctor` says why NVML does not answer; amdsmi and npu-smi come with the drivers of "
        "AMD and Ascend",
    ),
    Check(
        "RP-LOST",
        "health",
        "Was the device there to the end?",
        "fail",
        True,
        "it answers after the run, and no case ended because it did not",
        "see the kernel's log; restart the host, or hand the instance back",
    ),
    Check(
        "RP-ECC",
        "health",
        "Did the memory have errors?",
        "fail",
        False,
        "no uncorrected error since the driver was loaded; up to 10 corrected ones during the run",
        "reset the device; if errors come back, hand the instance back",
    ),
    Check(
        "RP-REMAP",
        "health",
        "Are bad rows of the memory replaced?",
        "fail",
        False,
        "no replacement failed, none is pending",
        "reset the device (nvidia-smi --gpu-reset, when nothing runs on it) or restart the host",
    ),
    Check(
        "RP-RETIRED",
        "health",
        "Are bad pages of the memory out of use?",
        "fail",
        False,
        "fewer than the 64 that can be, none is pending",
        "reset the device (nvidia-smi --gpu-reset, when nothing runs on it) or restart the host",
    ),
    Check(
        "RP-XID",
        "health",
        "Did the driver report errors of the device?",
        "fail",
        False,
        "NVIDIA's classes of Xid numbers: isolate, reboot, reset, monitor",
        "see `sudo dmesg | grep -i xid`",
    ),
    Check(
        "RP-THROTTLE",
        "health",
        "Was the device slowed down?",
        "fail",
        False,
        "the hardware held it back for less than 1 % of the time measured",
        "see to cooling and power supply; on a rented host, hand the instance back",
    ),
    Check(
        "RP-TEMPERATURE",
        "health",
        "How near did it come to the temperature at which it slows down?",
        "warn",
        False,
        "5 °C below the device's own threshold",
        "see to its cooling",
    ),
    Check(
        "RP-PROCESSES",
        "health",
        "Was it alone on the device?",
        "warn",
        False,
        "no process of others before or after the run",
        "end the other work and repeat",
    ),
    Check(
        "RP-MIG",
        "health",
        "Is it the whole GPU?",
        "warn",
        False,
        "MIG is off",
        "hold the figures against the slice, or ask for the whole GPU",
    ),
    Check(
        "RP-PERSISTENCE",
        "health",
        "Does the driver stay loaded between programs?",
        "pass",
        False,
        "persistence mode",
        "nvidia-smi --persistence-mode=1, as root",
    ),
    Check(
        "RP-PCIE-REPLAY",
        "health",
        "Did PCIe have to send again?",
        "warn",
        False,
        "up to 10 packets during the run",
        "reseat the board or its riser; on a rented host, hand the instance back",
    ),
    Check(
        "RP-NVLINK-ERRORS",
        "health",
        "Do all NVLinks work?",
        "fail",
        False,
        "as many up as before the run; up to 100 errors during it",
        "see `nvidia-smi nvlink --status` and `--errorcounters`",
    ),
    Check(
        "RP-SDC",
        "health",
        "Was work repeated and its bits compared?",
        "pass",
        False,
        "bit for bit the first result; a difference is RP-UNSTABLE-BITS",
        "run with the family compute, or with --tier soak",
    ),
    Check(
        "RP-COMPUTE",
        "absolute",
        "Does each precision reach what this card should?",
        "fail",
        True,
        "a share of the datasheet's peak, by card and precision: a band with its source",
        "see clocks, throttle reasons, power limit and other processes, and repeat",
    ),
    Check(
        "RP-BANDWIDTH",
        "absolute",
        "Does memory deliver what this card should?",
        "fail",
        True,
        "a share of the datasheet's bandwidth, by card and kernel: a band with its source",
        "see ECC, other processes and throttle reasons, and repeat",
    ),
    Check(
        "RP-UNSTABLE",
        "absolute",
        "Did a figure fall short once, and not when it was repeated?",
        "warn",
        True,
        "the median of at least 3 repeats on the idle, cooled device",
        "run again; what comes and goes is load of others, heat, or a defect that begins",
    ),
    Check(
        "RP-HOST-RELATIVE",
        "host-relative",
        "Is it as fast as the equal GPUs of its host?",
        "fail",
        True,
        "the median of at least three equal GPUs: more than 3.5 % below it warns, more than 7 "
        "% fails, where the intervals are apart",
        "swap it with a neighbour's slot, look at its cooling and power, and repeat",
    ),
    Check(
        "RP-REFERENCE",
        "reference-relative",
        "Is it as fast as in the reference?",
        "fail",
        True,
        "the same rows of earlier runs: more than 3.5 % slower warns, more than 7 % fails, "
        "where the intervals are apart, and beyond the noise of such figures",
        "`probe compare A B` shows row by row what changed; look at clocks, power limit and "
        "driver, and repeat",
    ),
    Check(
        "RP-REFERENCE-MISSING",
        "reference-relative",
        "Was everything measured that the reference has?",
        "unknown",
        True,
        "the planned rows of the reference that have a figure",
        "measure with the options of the reference",
    ),
)
