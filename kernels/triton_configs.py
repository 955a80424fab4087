"""Tiles, warps and stages of our Triton products: one table by architecture and precision.

A configuration decides what a matrix unit can reach. The tile must be large enough that each
operand brought into shared memory is used often (a 128 x 256 tile does 85 multiply-adds per element
loaded, a 128 x 128 tile 64), the stages must cover the latency of memory, the accumulators must fit
in registers (a 128 x 256 fp32 tile over 8 warps takes 128 of the 255 that a thread may have), and
all stages together must fit in shared memory. Which candidate wins depends on the shape and on the
card, so each row lists several, the best guess first, and the probe searches among them.

A configuration is its name: ``128x256x64-w8-s4-tma-e2`` is a tile of 128 x 256 with 64 along k, 8
warps, 4 stages, the persistent kernel that loads through tensor descriptors, and an epilogue in 2
parts. The table below is written in those names, which also go into records.

What each part of a name does:

==============  ===============================================================================
``MxNxK``       tile of C, and the step along k, in elements
``-wW -sS``     warps per program, pipeline stages
``-gG``         rows of tiles per group (8 without it): neighbours share operands in L2
``-persistent`` as many programs as fit on the device, each walking over many tiles
``-tma``        the same, loading and storing tiles through tensor descriptors (the tensor memory
                accelerator of sm_90 and later): no address arithmetic in the loop
``-pP``         programs per multiprocessor of a persistent kernel (1 without it): a second
                program computes while the first waits for its matrix instructions
``-eE``         the epilogue stores C in E column parts, so that its staging buffer leaves shared
                memory for one more stage
``-full``       the sum of each step is added outside the matrix unit (FP8 on sm_89 and sm_90)
``-ws``         warp specialisation by the compiler: loads, matrix instructions and epilogue in
                warps of their own
==============  ===============================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from roofprobe.kernels.lowering import kind_of

Kernel = Literal["tiled", "persistent", "persistent-tma"]


@dataclass(frozen=True, slots=True)
class Config:
    """One way to compute a product: the kernel, its tile in elements, warps and stages.

    ``group_m`` is in rows of tiles; ``programs_per_sm`` and ``epilogue_parts`` concern the
    persistent kernels only, ``warp_specialize`` the one with tensor descriptors. ``full_sums``
    keeps the sum over k in fp32 registers outside the matrix unit.
    """

    block_m: int
    block_n: int
    block_k: int
    num_warps: int
    num_stages: int
    kernel: Kernel = "tiled"
    group_m: int = 8
    programs_per_sm: int = 1
    epilogue_parts: int = 1
    full_sums: bool = False
    warp_specialize: bool = False

    @property
    def name(self) -> str:
        """Return the name that :func:`config_named` reads back."""
        parts = [
            f"{self.block_m}x{self.block_n}x{self.block_k}",
            f"w{self.num_warps}",
            f"s{self.num_stages}",
        ]
        if self.group_m != 8:
            parts.append(f"g{self.group_m}")
        if self.kernel != "tiled":
            parts.append(self.kernel.removeprefix("persistent-"))
        if self.programs_per_sm != 1:
            parts.append(f"p{self.programs_per_sm}")
        if self.epilogue_parts != 1:
            parts.append(f"e{self.epilogue_parts}")
        if self.full_sums:
            parts.append("full")
        if self.warp_specialize:
            parts.append("ws")
        return "-".join(parts)


_NAME = re.compile(
    r"(?P<m>\d+)x(?P<n>\d+)x(?P<k>\d+)-w(?P<warps>\d+)-s(?P<stages>\d+)(?:-g(?P<group>\d+))?"
    r"(?:-(?P<kernel>persistent|tma))?(?:-p(?P<per_sm>\d+))?(?:-e(?P<parts>[24]))?"
    r"(?P<full>-full)?(?P<ws>-ws)?"
)
_KERNELS: dict[str | None, Kernel] = {
    None: "tiled",
    "persistent": "persistent",
    "tma": "persistent-tma",
}


def config_named(name: str) -> Config:
    """Return the configuration that a name spells; raise ``ValueError`` where it spells none.

    Any well-formed name works, not only those of the table, so that a search can go beyond it.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(
            f"{name!r} names no configuration; one looks like 128x256x64-w8-s4 or "
            "128x256x64-w8-s4-tma-e2"
        )
    kernel = _KERNELS[found["kernel"]]
    config = Config(
        int(found["m"]),
        int(found["n"]),
        int(found["k"]),
        int(found["warps"]),
        int(found["stages"]),
        kernel,
        int(found["group"] or 8),
        int(found["per_sm"] or 1),
        int(found["parts"] or 1),
        bool(found["full"]),
        bool(found["ws"]),
    )
    if config.name != name:
        raise ValueError(f"{name!r} is not how {config.name} is written")
    if kernel == "tiled" and config.programs_per_sm != 1:
        raise ValueError(f"{name!r}: only persistent kernels have -p")
    if kernel != "persistent-tma" and (config.epilogue_parts != 1 or config.warp_specialize):
        raise ValueError(f"{name!r}: only the kernel with tensor descriptors has -e and -ws")
    return config


# The candidates, best guess first, by row or kind of product (``lowering.kind_of``). On sm_89 and
# sm_90 the rows of FP8 with fast sums have tiles of their own: full sums, the plain "fp8", are kept
# in a second set of fp32 registers, so that on sm_90 only half the tile fits.
_TABLE: dict[str, dict[str, tuple[str, ...]]] = {
    "sm_75": {
        "fp32": ("128x128x16-w8-s2", "64x128x16-w4-s2"),
        "fp64": ("64x64x16-w4-s2", "64x64x16-w8-s2"),
    },
    "sm_80": {
        "bf16": ("128x256x64-w8-s3", "128x256x32-w8-s4", "128x128x64-w4-s4", "256x128x32-w8-s3",
                 "128x256x64-w8-s3-persistent"),
        "fp16": ("128x256x64-w8-s3", "128x256x32-w8-s4", "128x128x64-w4-s4", "256x128x32-w8-s3",
                 "128x256x64-w8-s3-persistent"),
        "fp16-acc16": ("128x256x64-w8-s3", "128x256x32-w8-s4", "128x128x64-w4-s4"),
        "tf32": ("128x128x32-w8-s4", "128x128x32-w4-s4", "128x256x32-w8-s3", "128x128x16-w4-s5"),
        "int8": ("128x128x128-w8-s3", "128x128x64-w8-s4", "128x64x128-w4-s4", "64x128x128-w4-s4"),
        "fp32": ("128x128x16-w8-s3", "128x64x16-w4-s4"),
        "fp64": ("128x64x16-w4-s4", "64x64x16-w4-s4", "128x64x16-w8-s4"),
    },
    "sm_89": {
        "bf16": ("128x128x64-w8-s3", "128x128x32-w4-s4", "128x128x32-w8-s4", "128x256x32-w8-s3"),
        "fp16": ("128x128x64-w8-s3", "128x128x32-w4-s4", "128x128x32-w8-s4", "128x256x32-w8-s3"),
        "fp16-acc16": ("128x128x64-w8-s3", "128x128x32-w4-s4", "128x256x32-w8-s3"),
        "tf32": ("128x128x32-w8-s3", "128x128x16-w4-s4", "128x64x32-w4-s3"),
        "fp8-fast": ("128x128x128-w8-s3", "128x128x64-w8-s4", "128x64x128-w4-s3",
                     "64x128x64-w4-s4"),
        "fp8": ("128x128x128-w8-s3-full", "128x64x128-w4-s3-full", "64x128x128-w4-s3-full",
                "128x64x128-w8-s4-full"),
        "int8": ("128x128x128-w8-s3", "128x128x64-w8-s4", "128x64x128-w4-s3", "64x128x64-w4-s4"),
        "fp32": ("128x128x16-w8-s3", "128x64x16-w4-s4"),
        "fp64": ("64x64x16-w4-s2", "64x64x16-w8-s3"),
    },
    "sm_90": {
        "bf16": ("128x256x64-w8-s4-tma-e2", "128x256x64-w8-s3-tma", "256x128x64-w8-s4-tma-e2",
                 "128x128x64-w4-s3-tma-p2-e2", "128x256x64-w8-s4"),
        "fp16": ("128x256x64-w8-s4-tma-e2", "128x256x64-w8-s3-tma", "256x128x64-w8-s4-tma-e2",
                 "128x128x64-w4-s3-tma-p2-e2", "128x256x64-w8-s4"),
        # Triton waits for each fp16 or integer accumulation before it issues the next, so a longer
        # step or a second program per multiprocessor is what fills the gap.
        "fp16-acc16": ("128x256x128-w8-s2-tma-e4", "128x256x64-w8-s4-tma-e2",
                       "128x256x64-w4-s2-tma-p2-e4", "128x128x64-w4-s3-tma-p2-e2",
                       "128x256x64-w8-s4"),
        "tf32": ("128x256x32-w8-s4-tma-e4", "128x256x32-w8-s3-tma-e2", "256x128x32-w8-s4-tma-e4",
                 "128x128x32-w4-s3-tma-p2-e4", "128x256x32-w8-s4"),
        "fp8-fast": ("128x256x128-w8-s4-tma-e2", "128x256x128-w8-s3-tma",
                     "256x128x128-w8-s4-tma-e2", "128x128x128-w4-s3-tma-p2-e4",
                     "128x256x128-w8-s4"),
        "fp8": ("128x128x128-w8-s4-tma-full", "64x128x128-w4-s4-tma-p2-full",
                "128x128x128-w8-s3-tma-e2-full", "128x128x128-w8-s4-full"),
        "int8": ("128x256x128-w8-s4-tma-e4", "128x256x256-w8-s2-tma-e4",
                 "128x128x128-w4-s3-tma-p2-e4", "128x256x128-w8-s4"),
        "fp32": ("128x128x16-w8-s3", "128x64x16-w4-s4"),
        "fp64": ("128x64x16-w4-s4", "64x64x16-w4-s4", "128x64x16-w8-s4"),
    },
    "sm_100": {
        "bf16": ("128x256x64-w8-s4-tma-e4", "128x256x64-w4-s3-tma-e2", "256x128x64-w8-s3-tma-e2",
                 "128x256x64-w8-s4", "128x256x64-w4-s3-tma-e4-ws"),
        "fp16": ("128x256x64-w8-s4-tma-e4", "128x256x64-w4-s3-tma-e2", "256x128x64-w8-s3-tma-e2",
                 "128x256x64-w8-s4", "128x256x64-w4-s3-tma-e4-ws"),
        "fp16-acc16": ("128x256x64-w8-s3-tma-e4", "128x128x64-w4-s4-tma-e2", "128x256x64-w8-s3"),
        "tf32": ("128x128x32-w8-s4-tma-e4", "128x256x32-w8-s2-tma-e4", "128x128x32-w4-s3",
                 "128x256x32-w8-s4"),
        "fp8": ("128x256x128-w8-s4-tma-e4", "128x128x128-w4-s4-tma-e2", "256x128x128-w8-s3-tma-e2",
                "128x256x128-w8-s4", "128x256x128-w4-s3-tma-e4-ws"),
        # Scales per row take registers in the epilogue: two of the candidates above would spill.
        "fp8-rowwise": ("128x256x128-w8-s4-tma-e4", "128x128x128-w4-s4-tma-e2",
                        "128x256x128-w8-s4"),
        "int8": ("128x256x128-w8-s3-tma-e4", "128x128x128-w8-s4-tma-e4", "128x256x128-w8-s4"),
        "fp32": ("128x128x16-w8-s3", "128x64x16-w4-s4"),
        "fp64": ("64x64x16-w4-s3", "64x64x16-w8-s3"),
    },
    "sm_103": {
        "int8": ("128x128x128-w8-s4", "128x256x128-w8-s3"),
    },
    "sm_120": {
        "bf16": ("128x128x64-w8-s2-tma-e2", "128x128x64-w8-s3", "128x128x32-w4-s4-tma-e4",
                 "128x128x64-w4-s3"),
        "fp16": ("128x128x64-w8-s2-tma-e2", "128x128x64-w8-s3", "128x128x32-w4-s4-tma-e4",
                 "128x128x64-w4-s3"),
        "fp16-acc16": ("128x128x64-w8-s2-tma-e2", "128x128x64-w8-s3", "128x128x64-w4-s3"),
        "tf32": ("128x128x32-w8-s2-tma-e4", "128x128x32-w8-s3", "128x128x16-w4-s4"),
        "fp8": ("128x128x128-w8-s2-tma-e2", "128x128x128-w8-s3", "128x128x64-w4-s4-tma-e4",
                "128x128x64-w4-s4"),
        "int8": ("128x128x128-w8-s2-tma-e4", "128x128x128-w8-s3", "128x128x64-w4-s4"),
        "fp32": ("128x128x16-w8-s3", "128x64x16-w4-s4"),
        "fp64": ("64x64x16-w8-s3", "64x64x16-w4-s2"),
    },
    "gfx942": {
        "bf16": ("128x128x64-w8-s2", "256x256x32-w8-s2", "256x128x64-w8-s2", "256x256x64-w8-s1"),
        "fp16": ("128x128x64-w8-s2", "256x256x32-w8-s2", "256x128x64-w8-s2", "256x256x64-w8-s1"),
        "tf32": ("128x128x32-w8-s2", "256x128x16-w8-s2", "128x128x32-w4-s2"),
        "fp8": ("128x128x128-w8-s2", "256x256x64-w8-s2", "256x128x128-w8-s2"),
        "int8": ("128x128x128-w8-s2", "256x256x64-w8-s2", "256x128x128-w8-s2"),
        "fp32": ("128x128x32-w8-s2", "128x128x16-w4-s2"),
        "fp64": ("64x64x16-w8-s2", "64x64x16-w4-s2"),
    },
    "gfx950": {
        "bf16": ("128x128x64-w8-s2", "256x128x64-w8-s2", "128x256x64-w8-s2"),
        "fp16": ("128x128x64-w8-s2", "256x128x64-w8-s2", "128x256x64-w8-s2"),
        "fp8": ("256x256x64-w8-s2", "128x128x128-w8-s2", "256x128x128-w8-s2"),
        "int8": ("128x128x128-w8-s2", "256x128x128-w8-s2", "128x256x64-w8-s2"),
    },
}  # fmt: skip

# The kernel of block-scaled rows has a table of its own. One scale of B must do for a tile of
# ``fp8-blockwise``, so it is at most 128 wide and one step is 128 long.
_BLOCKWISE = {
    "sm_89": ("128x128x128-w8-s3", "128x64x128-w4-s3"),
    "sm_90": ("128x128x128-w8-s4-tma", "64x128x128-w4-s4-tma-p2",
              "128x128x128-w8-s4"),
    "sm_100": ("128x128x128-w8-s4-tma", "128x128x128-w8-s4"),
    "sm_120": ("128x128x128-w8-s2-tma", "128x128x128-w8-s3", "64x128x128-w4-s3"),
    "gfx942": ("128x128x128-w8-s2", "128x64x128-w4-s2"),
    "gfx950": ("128x128x128-w8-s2", "128x64x128-w4-s2"),
}  # fmt: skip
_BLOCK_SCALED: dict[str, dict[str, tuple[str, ...]]] = {
    "fp8-blockwise": _BLOCKWISE,
    "mxfp8": {
        "sm_100": ("128x128x128-w8-s4-tma", "128x256x128-w8-s3-tma", "128x128x128-w4-s4-tma"),
        "sm_120": ("128x128x128-w8-s2-tma", "128x64x128-w4-s3-tma", "128x128x128-w8-s2"),
        "gfx950": ("128x128x128-w8-s2", "128x128x256-w8-s1"),
    },
    "nvfp4": {
        "sm_100": ("128x128x256-w8-s4-tma", "128x256x256-w8-s3-tma", "128x128x256-w4-s4-tma"),
        "sm_120": ("128x128x128-w8-s3-tma", "128x128x256-w8-s2-tma", "128x128x128-w8-s3"),
    },
}  # fmt: skip
BLOCK_SCALED_ROWS = tuple(_BLOCK_SCALED)

# An architecture takes the rows that it lacks from the first of these that has them.
_LIKE: dict[str, tuple[str, ...]] = {
    "sm_70": ("sm_75",), "sm_86": ("sm_89",), "sm_87": ("sm_89",), "sm_103": ("sm_100",),
    "sm_110": ("sm_100",), "sm_121": ("sm_120",), "gfx90a": ("gfx942",), "gfx950": ("gfx942",),
}  # fmt: skip
_ANYWHERE = ("64x64x32-w4-s2",)


def configs_for(row: str, arch: str) -> tuple[Config, ...]:
    """Return the candidates for a row on an architecture (``sm_90``), best guess first.

    ``row`` is one of ``kernels/rows.py`` that is a plain or per-tensor or per-row scaled product.
    An architecture or a row that the table does not know gets one small tile that fits anywhere.
    """
    fast = ("fp8-fast",) if row in ("fp8-fast", "fp8-rowwise-fast") else ()
    for source in (arch, *_LIKE.get(arch, ())):
        for key in (row, *fast, kind_of(row)):
            names = _TABLE.get(source, {}).get(key)
            if names is not None:
                return tuple(config_named(name) for name in names)
    return tuple(config_named(name) for name in _ANYWHERE)


def config_for(row: str, arch: str) -> Config:
    """Return the first candidate of :func:`configs_for`."""
    return configs_for(row, arch)[0]


def block_scaled_configs_for(row: str, arch: str) -> tuple[Config, ...]:
    """Return the candidates for a block-scaled row, best guess first; () where not offered."""
    for source in (arch, *_LIKE.get(arch, ())):
        names = _BLOCK_SCALED[row].get(source)
        if names is not None:
            return tuple(config_named(name) for name in names)
    return ()


def candidates(row: str, arch: str) -> tuple[Config, ...]:
    """Return the candidates of whichever of our kernels computes the row."""
    if row in BLOCK_SCALED_ROWS:
        return block_scaled_configs_for(row, arch)
    return configs_for(row, arch)
