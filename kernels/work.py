"""What a kernel room hands to whoever measures it: launches, their accounting, their check.

``Work`` is prepared once (memory allocated and filled, nothing timed); then each launch only
enqueues. Bytes and operations stand next to the launch that they describe and come from the real
tensors and the shape, so that a rate is one division away and cannot drift from the code.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field


class Unsupported(Exception):
    """This work cannot be done on this device; ``code`` is stable and the text one sentence."""

    def __init__(self, code: str, sentence: str, remedy: str | None = None) -> None:
        """Keep the code, the sentence and what would make it possible."""
        super().__init__(sentence)
        self.code = code
        self.sentence = sentence
        self.remedy = remedy


def without_triton() -> Unsupported | None:
    """Say that Triton cannot be imported here, or return None."""
    try:
        import triton  # noqa: F401 - only its presence matters here
    except ImportError:
        return Unsupported("no-triton", "the triton package is not installed", "pip install triton")
    return None


@dataclass(frozen=True, slots=True)
class Target:
    """Where work runs, as far as kernels need to know.

    ``kind`` is ``cpu``, ``cuda``, ``rocm`` or the type that torch gives another accelerator;
    ``architecture`` is ``sm_90``, ``gfx942``, ``x86_64`` and the like; ``unit_count`` counts
    SMs, CUs or cores.
    """

    kind: str
    torch_device: str
    architecture: str | None = None
    unit_count: int | None = None
    features: tuple[str, ...] = ()

    @property
    def is_gpu(self) -> bool:
        """Return whether torch's CUDA interface (CUDA or ROCm) drives this device."""
        return self.kind in ("cuda", "rocm")


@dataclass(frozen=True, slots=True)
class Check:
    """The outcome of comparing a kernel's result with a float64 reference.

    ``problem`` is None when the result is right; otherwise one sentence says what is wrong.
    ``declined`` is a sentence where the result is right but too good: the library computed it in
    another format than the one asked for, so its time would be that format's.
    """

    error: float
    tolerance: float
    measure: str
    checked_elements: int
    problem: str | None = None
    declined: str | None = None


@dataclass(frozen=True, slots=True)
class Work:
    """One measurable piece of work: a launch per set of buffers, and what each launch does.

    ``launches`` use disjoint buffers, so that going round them keeps the caches cold.
    ``check`` poisons the outputs, launches once and compares; it must run inside ``settings``,
    as must every launch: they hold library switches such as the float32 precision.
    ``assembly`` launches once and returns what a kernel of our own was compiled to on this device
    (None in the interpreter); a library's kernel has none. ``accesses`` counts the dependent loads
    of a launch whose latency per load is wanted (0: none).
    """

    launches: tuple[Callable[[], object], ...]
    flops: int
    bytes_read: int
    bytes_written: int
    array_bytes: int
    check: Callable[[], Check]
    kernel: str
    config: dict[str, int | str | bool | None] = field(default_factory=dict)
    settings: Callable[[], AbstractContextManager[None]] = nullcontext
    assembly: Callable[[], str | None] | None = None
    accesses: int = 0
