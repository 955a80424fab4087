"""The streaming kernels as data: which arrays they touch, how, and how many bytes that is.

Four groups, by what the addresses do:

* ``stream`` goes over whole arrays in order: what memory delivers when nothing is in its way.
* ``gather`` reads whole pages in a random order through an index, every page once, as attention
  reads a paged KV cache: a page of T tokens x 128 values x 2 bytes is 4, 16 or 32 KiB. Pages lie
  within one DRAM row or a few, so what this costs against ``read`` is translation of addresses
  (each page may be another TLB entry), opening rows, and waiting for the index. It is not the rate
  of attention: nothing is computed with the data. Counted are the pages, not the index.
* ``strided`` reads one sector of every k-th: 32 bytes on a GPU (what its caches fetch at least), a
  line of 64 bytes on a CPU. Counted are the bytes of the sectors asked for. Memory moves more:
  DRAM bursts and cache lines span several sectors, prefetchers bring the neighbours, and the share
  of useful bytes is what this figure shows. Where the rate at stride k is 1/k of ``read``, all
  bytes were moved; where it stays at that of ``read``, only those asked for. It is no pin rate.
* ``cache`` reads an array that fits into a GPU's L2 many times in one launch (``triton_cache``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Group = Literal["stream", "gather", "strided", "cache"]

DTYPES = {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
ITEM_BYTES = {"fp64": 8, "fp32": 4, "bf16": 2, "fp16": 2}

HEAD_DIM = 128
"""Values per token and head of a KV cache: that of Llama, Qwen, Mistral and most others."""
_KV_ITEM_BYTES = 2
SECTOR_BYTES_GPU = 32
SECTOR_BYTES_CPU = 64
CACHE_GRANULE_BYTES = 64 << 10
"""What every block of the cache's configurations divides."""


@dataclass(frozen=True, slots=True)
class StreamKernel:
    """A kernel as data: how many arrays it reads and writes, and its operations per element."""

    name: str
    formula: str
    reads: int
    writes: int
    flops_per_element: int
    group: Group = "stream"
    in_place: int = 0
    """How many of the arrays are both read and written."""
    page_bytes: int | None = None
    """What one entry of a gather's index stands for."""
    one_of: int = 1
    """Of so many neighbouring sectors one is read."""

    @property
    def arrays(self) -> int:
        """Return how many arrays one set of buffers holds."""
        return self.reads + self.writes - self.in_place

    @property
    def granule_bytes(self) -> int:
        """Return the unit in which an array is used; a rest at its end is left alone."""
        if self.group == "cache":
            return CACHE_GRANULE_BYTES
        return self.page_bytes or (1 if self.one_of == 1 else self.one_of * SECTOR_BYTES_CPU)

    def used_elements(self, precision: str, elements: int) -> int:
        """Return how many of an array's elements lie in whole granules."""
        item = ITEM_BYTES[precision]
        granule = max(1, self.granule_bytes // item)
        return elements // granule * granule

    def read_elements(self, precision: str, elements: int) -> int:
        """Return how many elements of each array a launch reads or writes."""
        return self.used_elements(precision, elements) // self.one_of


def _gather(tokens: int) -> StreamKernel:
    return StreamKernel(
        f"gather-{tokens}",
        "s += a[page[i]]",
        reads=1,
        writes=0,
        flops_per_element=1,
        group="gather",
        page_bytes=tokens * HEAD_DIM * _KV_ITEM_BYTES,
    )


def _strided(one_of: int) -> StreamKernel:
    return StreamKernel(
        f"strided-{one_of}",
        f"s += sector[{one_of}·i]",
        reads=1,
        writes=0,
        flops_per_element=1,
        group="strided",
        one_of=one_of,
    )


KERNELS: tuple[StreamKernel, ...] = (
    StreamKernel("read", "s += a[i]", reads=1, writes=0, flops_per_element=1),
    StreamKernel("write", "a[i] = q", reads=0, writes=1, flops_per_element=0),
    StreamKernel("copy", "c[i] = a[i]", reads=1, writes=1, flops_per_element=0),
    StreamKernel("scale", "c[i] = q·a[i]", reads=1, writes=1, flops_per_element=1),
    StreamKernel("add", "c[i] = a[i] + b[i]", reads=2, writes=1, flops_per_element=1),
    StreamKernel("triad", "c[i] = a[i] + q·b[i]", reads=2, writes=1, flops_per_element=2),
    StreamKernel("dot", "s += a[i]·b[i]", reads=2, writes=0, flops_per_element=2),
    StreamKernel(
        "nstream", "c[i] += a[i] + q·b[i]", reads=3, writes=1, flops_per_element=3, in_place=1
    ),
    StreamKernel(
        "l2-read", "s += a[i], again", reads=1, writes=0, flops_per_element=1, group="cache"
    ),
    *(_gather(tokens) for tokens in (16, 64, 128)),
    *(_strided(one_of) for one_of in (2, 4, 8, 16)),
)
BY_NAME = {kernel.name: kernel for kernel in KERNELS}


def bytes_per_launch(kernel: str, precision: str, elements: int) -> tuple[int, int]:
    """Return (bytes read, bytes written) of one launch over arrays of ``elements``.

    Data only: the index of a gather and the sums of a reduction are not in it.
    """
    row = BY_NAME[kernel]
    touched_bytes = row.read_elements(precision, elements) * ITEM_BYTES[precision]
    return row.reads * touched_bytes, row.writes * touched_bytes
