"""How our Triton streams keep memory busy: candidates per architecture and kind, as names.

By Little's law a memory of bandwidth B and latency L needs B·L bytes under way: 16 KiB per
multiprocessor on an A100, 32 on an H100, 48 on an H200, 64 on a B200 (the figures that NVIDIA's CUB
tunes its transforms with), 12 or less where memory is GDDR. How to get there depends on the card:
wide blocks, many programs, loads that go to shared memory without passing registers. Which wins is
for hardware to find, so each row lists several, the best guess first, and a probe tries them once.

A configuration is its name:

=============  ====================================================================================
``bBYTES``     bytes of each array that a program has under way at a time (of all arrays together
               it is that times the arrays read)
``-wW``        warps per program: with 32 threads each, BYTES / (512·W) loads of 16 bytes per thread
``-gG``        a persistent grid: G programs per multiprocessor, each walking over many blocks;
               without it there is one program per block
``-sS``        stages: S - 1 blocks are on their way to shared memory while one is used
               (``cp.async`` on sm_80 and later)
``-tma``       blocks are fetched and stored through tensor descriptors (``cp.async.bulk.tensor``
               of sm_90 and later): one thread asks, none computes addresses
=============  ====================================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass

ITEM_BYTES = {"float64": 8, "float32": 4, "bfloat16": 2, "float16": 2}
LOAD_BYTES = 16
"""The widest access of one thread."""


@dataclass(frozen=True, slots=True)
class StreamConfig:
    """Bytes per array and block, warps, and how programs share the blocks.

    ``programs_per_sm`` 0 stands for one program per block; ``num_stages`` and ``tma`` concern
    persistent programs only.
    """

    block_bytes: int
    num_warps: int
    programs_per_sm: int = 0
    num_stages: int = 1
    tma: bool = False

    @property
    def name(self) -> str:
        """Return the name that :func:`config_named` reads back."""
        parts = [f"b{self.block_bytes}", f"w{self.num_warps}"]
        if self.programs_per_sm:
            parts.append(f"g{self.programs_per_sm}")
        if self.num_stages != 1:
            parts.append(f"s{self.num_stages}")
        if self.tma:
            parts.append("tma")
        return "-".join(parts)

    @property
    def persistent(self) -> bool:
        """Return whether each program walks over many blocks."""
        return self.programs_per_sm > 0

    def block(self, dtype: str) -> int:
        """Return the elements per array and block of ``dtype`` (torch's name)."""
        return self.block_bytes // ITEM_BYTES[dtype]

    def loads_per_thread(self, warp_threads: int = 32) -> float:
        """Return how many 16-byte loads per array each thread has in flight at a time."""
        return self.block_bytes / (self.num_warps * warp_threads * LOAD_BYTES)

    def programs(self, blocks: int, multiprocessors: int) -> int:
        """Return the grid for so many blocks."""
        return min(blocks, multiprocessors * self.programs_per_sm) if self.persistent else blocks


_NAME = re.compile(
    r"b(?P<block>\d+)-w(?P<warps>\d+)(?:-g(?P<per_sm>\d+))?(?:-s(?P<stages>\d+))?(?P<tma>-tma)?"
)


def config_named(name: str) -> StreamConfig:
    """Return the configuration that a name spells; raise ``ValueError`` where it spells none.

    Any well-formed name works, not only those of the table, so that a search can go beyond it.
    """
    found = _NAME.fullmatch(name)
    if found is None:
        raise ValueError(
            f"{name!r} names no configuration; one looks like b16384-w8 or b16384-w4-g4-s3-tma"
        )
    config = StreamConfig(
        int(found["block"]),
        int(found["warps"]),
        int(found["per_sm"] or 0),
        int(found["stages"] or 1),
        bool(found["tma"]),
    )
    if config.name != name:
        raise ValueError(f"{name!r} is not how {config.name} is written")
    for word, size in (("bytes", config.block_bytes), ("warps", config.num_warps)):
        if size < 1 or size & (size - 1):
            raise ValueError(f"{name!r}: {size} {word} are no power of two, which Triton needs")
    if not config.persistent and (config.num_stages != 1 or config.tma):
        raise ValueError(f"{name!r}: -s and -tma are for persistent grids, which need -g")
    return config


# Kernels whose traffic is alike share a row.
_KINDS = {
    "read": "read", "dot": "dot", "write": "write", "copy": "copy", "scale": "copy",
    "add": "add", "triad": "add", "nstream": "add",
}  # fmt: skip


def kind_of(kernel: str) -> str:
    """Return the row of the table that a kernel belongs to."""
    return _KINDS.get(kernel) or kernel.partition("-")[0]


# The candidates, best guess first. HBM parts want 64 to 128 bytes per thread in flight, GDDR parts
# are full with 16 to 32; kernels of several streams take smaller blocks, so that the bytes in
# flight stay the same. Starting points from published tuning tables; nothing here was ranked by
# measurement.
_GDDR: dict[str, tuple[str, ...]] = {
    "read": ("b8192-w8", "b4096-w4", "b16384-w8", "b8192-w4", "b8192-w8-g4"),
    "dot": ("b4096-w8", "b4096-w4", "b8192-w8", "b8192-w8-g4"),
    "write": ("b8192-w8", "b4096-w4", "b16384-w8", "b8192-w8-g4"),
    "copy": ("b8192-w8", "b4096-w4", "b4096-w8", "b16384-w8"),
    "add": ("b4096-w8", "b4096-w4", "b2048-w4", "b8192-w8"),
    "gather": ("b8192-w8", "b4096-w4", "b16384-w8", "b8192-w8-g4"),
    "strided": ("b4096-w8", "b4096-w4", "b8192-w8", "b8192-w8-g4"),
}
_TABLE: dict[str, dict[str, tuple[str, ...]]] = {
    "sm_75": _GDDR,
    "sm_80": {
        "read": ("b16384-w8", "b8192-w4", "b16384-w4", "b16384-w8-g4", "b8192-w8-g4-s3"),
        "dot": ("b8192-w8", "b8192-w4", "b16384-w8", "b8192-w8-g4", "b8192-w8-g3-s3"),
        "write": ("b16384-w8", "b8192-w4", "b8192-w8", "b16384-w8-g8"),
        "copy": ("b16384-w8", "b8192-w8", "b8192-w4", "b8192-w8-g8", "b8192-w8-g4-s3"),
        "add": ("b8192-w8", "b8192-w4", "b4096-w4", "b8192-w8-g8"),
        "gather": ("b16384-w8", "b8192-w4", "b16384-w4", "b16384-w8-g4", "b8192-w8-g4-s3"),
        "strided": ("b8192-w8", "b8192-w4", "b16384-w8", "b8192-w8-g4"),
    },
    "sm_89": _GDDR,
    "sm_90": {
        "read": ("b32768-w8", "b16384-w8", "b16384-w4", "b32768-w8-g2", "b16384-w8-g4",
                 "b16384-w8-g4-s3", "b16384-w4-g4-s3-tma", "b32768-w8-g2-s3-tma"),
        "dot": ("b16384-w8", "b16384-w4", "b8192-w4", "b8192-w8-g4", "b8192-w8-g4-s3",
                "b16384-w4-g2-s3-tma"),
        "write": ("b32768-w8", "b16384-w8", "b8192-w8", "b16384-w8-g8", "b16384-w4-g4-tma"),
        "copy": ("b32768-w8", "b16384-w8", "b16384-w4", "b16384-w8-g8", "b16384-w8-g4-s3",
                 "b16384-w4-g3-s3-tma"),
        "add": ("b16384-w8", "b8192-w8", "b16384-w4", "b8192-w8-g8", "b8192-w8-g4-s3",
                "b8192-w4-g3-s3-tma"),
        "gather": ("b32768-w8", "b16384-w8", "b16384-w4", "b16384-w8-g4", "b16384-w8-g4-s3",
                   "b16384-w4-g4-s3-tma"),
        "strided": ("b16384-w8", "b8192-w4", "b32768-w8", "b16384-w8-g4"),
    },
    "sm_100": {
        "read": ("b32768-w8", "b32768-w4", "b16384-w4", "b32768-w8-g2", "b16384-w4-g4-s3-tma",
                 "b32768-w8-g2-s3-tma"),
        "dot": ("b16384-w8", "b32768-w8", "b16384-w4", "b8192-w8-g4", "b16384-w4-g2-s3-tma"),
        "write": ("b32768-w8", "b16384-w4", "b16384-w8", "b16384-w8-g8", "b16384-w4-g4-tma"),
        "copy": ("b32768-w8", "b16384-w4", "b16384-w8", "b16384-w4-g8", "b16384-w4-g3-s3-tma"),
        "add": ("b16384-w8", "b16384-w4", "b8192-w4", "b8192-w8-g6", "b8192-w4-g3-s3-tma"),
        "gather": ("b32768-w8", "b16384-w4", "b32768-w4", "b32768-w8-g2", "b16384-w4-g4-s3-tma"),
        "strided": ("b16384-w8", "b16384-w4", "b32768-w8", "b16384-w8-g4"),
    },
    "sm_120": {
        **_GDDR,
        "read": (*_GDDR["read"], "b8192-w4-g3-s3-tma"),
        "copy": (*_GDDR["copy"], "b8192-w4-g2-s3-tma"),
        "gather": (*_GDDR["gather"], "b8192-w4-g3-s3-tma"),
    },
    # Wavefronts of CDNA have 64 threads: a block of 16 KiB over 4 of them is 4 loads per thread.
    "gfx942": {
        "read": ("b16384-w4", "b32768-w8", "b16384-w8", "b32768-w4", "b16384-w4-g4"),
        "dot": ("b8192-w4", "b16384-w8", "b16384-w4", "b16384-w4-g4"),
        "write": ("b16384-w4", "b8192-w4", "b16384-w8", "b16384-w4-g8"),
        "copy": ("b16384-w4", "b8192-w4", "b16384-w8", "b16384-w4-g8"),
        "add": ("b8192-w4", "b8192-w8", "b16384-w8", "b8192-w4-g8"),
        "gather": ("b16384-w4", "b32768-w8", "b16384-w8", "b16384-w4-g4"),
        "strided": ("b8192-w4", "b16384-w8", "b16384-w4", "b16384-w4-g4"),
    },
}  # fmt: skip

# An architecture that has no rows of its own takes those of one that is like it.
_LIKE: dict[str, str] = {
    "sm_70": "sm_75", "sm_86": "sm_89", "sm_87": "sm_89", "sm_103": "sm_100", "sm_110": "sm_100",
    "sm_121": "sm_120", "gfx90a": "gfx942", "gfx950": "gfx942",
}  # fmt: skip
# Within L2 latency is short and every multiprocessor is to be busy: persistent programs everywhere.
_CACHE = ("b8192-w8-g4", "b16384-w8-g4", "b8192-w4-g8", "b16384-w8-g2")
_ANYWHERE = ("b8192-w4", "b4096-w4", "b16384-w8")


def configs_for(kernel: str, dtype: str, arch: str) -> tuple[StreamConfig, ...]:
    """Return the candidates for a kernel on arrays of ``dtype`` on ``arch``, best guess first.

    ``dtype`` is torch's name. A block is so many bytes whatever they hold, and each candidate fits
    in every type (persistent sums of 2-byte values take two registers for one of data, which sets
    the programs per multiprocessor), so today the type changes nothing.
    """
    if kind_of(kernel) == "l2":
        return tuple(config_named(name) for name in _CACHE)
    rows = _TABLE.get(arch) or _TABLE.get(_LIKE.get(arch, ""), {})
    names = rows.get(kind_of(kernel), _ANYWHERE)
    return tuple(config_named(name) for name in names)


def config_for(kernel: str, dtype: str, arch: str) -> StreamConfig:
    """Return the first candidate of :func:`configs_for`."""
    return configs_for(kernel, dtype, arch)[0]
