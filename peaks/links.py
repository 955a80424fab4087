"""What a link between devices could carry: PCI Express from its generation and width, NVLink.

    PCIe GB/s per direction = transfers per lane (GT/s) x lanes x encoding / 8

A lane moves one bit per transfer and direction. The encoding is what the line code leaves: 8 of 10
bits up to generation 2, 128 of 130 from generation 3 to 5; generation 6 sends frames of 256 bytes,
236 of which hold packets. So x16 carries 15.75 (Gen3), 31.5 (Gen4) or 63.0 GB/s (Gen5) each way,
and both ways at once twice that: a link is full duplex. (Sources: PCI-SIG, "PCI Express Base
Specification" 3.0 to 6.0, physical layer.)

That is the wire. Packets also carry headers and acknowledgements (20 to 28 bytes with payloads of
128 to 512 bytes), so pinned copies reach 76 to 87% of it (12 to 13, 26, 51 to 55 GB/s). What the
headers leave depends on the payload size that host and device agreed on, which nobody tells:
it explains a gap and is no bound.

Nor is the generation that a driver reports the one that a copy ran at, unless it was asked while
the copy ran: links fall back to generation 1 when idle.

NVLink figures are printed for both directions together; half of it goes each way.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Final

# Generation → (GT/s per lane, share of the transferred bits that packets have).
_PCIE: Final[dict[int, tuple[Fraction, Fraction]]] = {
    1: (Fraction(5, 2), Fraction(8, 10)),
    2: (Fraction(5), Fraction(8, 10)),
    3: (Fraction(8), Fraction(128, 130)),
    4: (Fraction(16), Fraction(128, 130)),
    5: (Fraction(32), Fraction(128, 130)),
    6: (Fraction(64), Fraction(236, 256)),
}
PCIE_GENERATIONS: Final = tuple(_PCIE)
PCIE_FULL_WIDTH: Final = 16
"""The most lanes that a slot or a module of an accelerator has."""

# What a link figure is called: one way, or both ways at once.
PCIE, PCIE_BOTH = "pcie_gbps", "pcie_both_gbps"
NVLINK, NVLINK_BOTH = "nvlink_gbps", "nvlink_both_gbps"


def pcie_peak_gbps(generation: int, lanes: int) -> float | None:
    """Return what a PCIe link carries in one direction, GB/s; None for an unknown generation."""
    known = _PCIE.get(generation)
    if known is None or lanes <= 0:
        return None
    transfers, encoding = known
    return float(transfers * lanes * encoding / 8)


def pcie_encoding(generation: int) -> str:
    """Return the words for the line code of a known generation."""
    transfers, _ = _PCIE[generation]
    code = {1: "8b/10b", 2: "8b/10b", 6: "236 of 256 bytes of a frame"}.get(generation, "128b/130b")
    return f"{float(transfers):g} GT/s, {code}"


def nvlink_one_way_gbps(both_ways_gbps: float) -> float:
    """Return one direction's part of a printed NVLink figure."""
    return both_ways_gbps / 2
