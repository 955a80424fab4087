"""What a CPU could do, from what it says about itself.

    peak = cores x SIMD lanes x 2 (multiply and add) x FMA units per core x clock

A CPU has no datasheet peak here; this is arithmetic on reported facts and on one assumption, the
number of vector units per core, which no flag tells. It is not a bound: the clock is the nominal or
maximum one the system reports, all-core turbo under wide vectors differs from it, and a virtual
machine may show another clock than it gets. ``cores`` are physical cores: the threads of one core
share its vector units.

Widths and units follow the vendors' optimisation guides: Intel 64 and IA-32 Architectures
Optimization Reference Manual (ports 0+1 and 5 for 512-bit FMA; AMX: a tile product of 16 x 16 x 64
bytes every 16 cycles, which is 1024 BF16 or 2048 INT8 operations per clock and core); AMD Software
Optimization Guides for Zen (128-bit units), Zen 2 and 3 (256-bit), Zen 4 (document 57647: 512-bit
instructions take two passes through 256-bit units, so AVX-512 adds no FMA throughput) and Zen 5
(document 58455: 512-bit units, 256-bit ones on some mobile parts); Arm Neoverse software
optimisation guides for NEON.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from roofprobe.peaks.derive import DerivedPeak, compute_peak_tflops
from roofprobe.peaks.precisions import precision

# Operations per clock and core of AMX's tile product (see the module docstring).
_AMX_16BIT: Final = 1024
_AMX_INT8: Final = 2048

# Intel family 6 models with one 512-bit FMA unit (ports 0 and 1 fused, no port 5 unit): Cannon
# Lake, Ice Lake client, Tiger Lake, Rocket Lake. Some Xeons have one as well, but share their model
# number with those that have two.
_ONE_AVX512_UNIT: Final = frozenset({0x66, 0x7D, 0x7E, 0x8C, 0x8D, 0xA7})


@dataclass(frozen=True, slots=True)
class _Vectors:
    """Width of the vector instructions, 2 x FMA units they get per clock, and how that is known."""

    isa: str
    bits: int
    ops_per_lane: float
    why: str


def cpu_peaks(
    cores: int | None,
    flags: Collection[str],
    clock_mhz: float | None,
    vendor: str | None = None,
    *,
    family: int | None = None,
    model: int | None = None,
) -> dict[str, DerivedPeak]:
    """Peaks of a CPU by precision name, TFLOPS (TOPS for int8); empty without cores or a clock.

    ``cores`` are the physical cores in use, ``flags`` the feature flags as /proc/cpuinfo prints
    them, ``clock_mhz`` the reported clock, ``vendor`` "GenuineIntel", "AuthenticAMD" or "ARM" with
    ``family`` and ``model`` as reported. A precision without hardware support is absent. Every peak
    is ``assumed`` and no ``physical_bound``.
    """
    if not cores or cores < 0 or not clock_mhz or clock_mhz <= 0:
        return {}
    # Kernels, cpuid tools and libraries disagree only about underscores (avx512_vnni, avx512vnni).
    known = {flag.strip().casefold().replace("_", "") for flag in flags}
    vectors = _vectors(known, vendor or "", family, model)
    if vectors is None:
        return {}
    per_core = _ops_per_core(known, vectors)
    per_core |= _amx(known)
    return {
        name: DerivedPeak(
            value=compute_peak_tflops(cores, ops, clock_mhz),
            unit=precision(name).unit,
            basis=f"{cores} cores x {clock_mhz:g} MHz x {ops:g} operations per clock ({why})",
            assumed=True,
            physical_bound=False,
            ops_per_clock=cores * ops,
            clock_mhz=clock_mhz,
        )
        for name, (ops, why) in per_core.items()
    }


def _vectors(
    flags: set[str], vendor: str, family: int | None, model: int | None
) -> _Vectors | None:
    if "asimd" in flags or "neon" in flags:
        sve = ", SVE of unknown width counted as NEON" if "sve" in flags else ""
        return _Vectors("NEON", 128, 4, f"2 FMA units of 128 bit assumed{sve}")
    if "avx512f" in flags:
        return _avx512(vendor, family, model)
    if "avx2" in flags and "fma" in flags:
        if vendor == "AuthenticAMD" and family == 23 and model is not None and model < 0x30:
            return _Vectors("AVX2", 256, 2, "Zen 1: 128-bit units, one 256-bit FMA per clock")
        return _Vectors("AVX2", 256, 4, "2 FMA units of 256 bit assumed")
    if "avx" in flags:
        return _Vectors("AVX", 256, 2, "no FMA: one multiply and one add of 256 bit assumed")
    if "sse2" in flags:
        return _Vectors("SSE2", 128, 2, "no FMA: one multiply and one add of 128 bit assumed")
    return None


def _avx512(vendor: str, family: int | None, model: int | None) -> _Vectors:
    if vendor == "AuthenticAMD" and family == 25:
        return _Vectors("AVX-512", 512, 2, "Zen 4: 512-bit FMA in two passes of 2 256-bit units")
    if vendor == "AuthenticAMD" and family == 26 and model is not None and 0x20 <= model < 0x30:
        return _Vectors("AVX-512", 512, 2, "Zen 5 mobile: 512-bit FMA in two 256-bit passes")
    if vendor == "GenuineIntel" and family == 6 and model in _ONE_AVX512_UNIT:
        return _Vectors("AVX-512", 512, 2, "client core: one 512-bit FMA unit")
    return _Vectors("AVX-512", 512, 4, "2 FMA units of 512 bit assumed")


def _ops_per_core(flags: set[str], vectors: _Vectors) -> dict[str, tuple[float, str]]:
    """Operations per clock and core on the vector units.

    The dot-product instructions (BF16 pairs, INT8 quads) are counted at the same number per clock
    as an FMA of that width.
    """
    width = vectors.bits

    def ops(element_bits: int, at_bits: int = width) -> tuple[float, str]:
        return vectors.ops_per_lane * at_bits / element_bits, f"{vectors.isa}, {vectors.why}"

    found = {"fp64": ops(64), "fp32": ops(32)}
    if vectors.isa == "NEON":
        if flags & {"asimdhp", "fphp"}:
            found["fp16"] = ops(16)
        if "bf16" in flags:
            found["bf16"] = ops(16)  # BFDOT; BFMMLA may do twice that
        if "asimddp" in flags:
            found["int8"] = ops(8)  # SDOT; SMMLA (i8mm) may do twice that
        return found
    if "avx512bf16" in flags:
        found["bf16"] = ops(16)
    if "avx512fp16" in flags:
        found["fp16"] = ops(16)
    if "avx512vnni" in flags:
        found["int8"] = ops(8)
    elif "avxvnni" in flags:
        found["int8"] = ops(8, min(width, 256))
    return found


def _amx(flags: set[str]) -> dict[str, tuple[float, str]]:
    why = "AMX: one 16 x 16 x 64-byte tile product per 16 clocks"
    found: dict[str, tuple[float, str]] = {}
    for flag, name, ops in (
        ("amxbf16", "bf16", _AMX_16BIT),
        ("amxfp16", "fp16", _AMX_16BIT),
        ("amxint8", "int8", _AMX_INT8),
    ):
        if flag in flags:
            found[name] = (ops, why)
    return found
