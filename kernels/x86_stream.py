"""Machine code for x86-64: loops that stream through arrays, with stores that bypass the caches.

An ordinary store first reads the line that it is about to overwrite, so a copy moves three bytes
for every two that STREAM counts. A non-temporal store writes whole lines past the caches and leaves
that traffic out; compilers rarely choose it, and so a plain loop shows up to a third less than
the memory can deliver. Loops here use it for every array that is only written.

Conventions as in ``x86_code``: ``f(state, iterations)`` with the state at rdi. The state holds the
addresses of a, b and c and the number of passes over them, then (from byte 64) the scalar in every
lane, then (from byte 128) room for the partial sums. One iteration is ``UNROLL`` registers of each
array, one after the other. Several passes make a launch over small arrays long against the waking
of the threads: then the arrays stay in a cache, and its rate is what is seen.
"""

from __future__ import annotations

from dataclasses import dataclass

from roofprobe.kernels.x86_code import Form, repeated_loop, with_memory

UNROLL = 8
PASSES_OFFSET = 24
SCALAR_OFFSET = 64
SUMS_OFFSET = 128
_RAX, _RCX, _RDX, _RDI = 0, 1, 2, 7
_A, _B, _C = _RAX, _RCX, _RDX
_0F, _0F38 = 1, 2
_ZERO, _SCALAR = 14, 15  # registers above those of the loop
_ADVANCE = {_A: b"\x48\x05", _B: b"\x48\x81\xc1", _C: b"\x48\x81\xc2"}  # add base, imm32
_LOAD_BASE = {_A: b"\x48\x8b\x07", _B: b"\x48\x8b\x4f\x08", _C: b"\x48\x8b\x57\x10"}


@dataclass(frozen=True, slots=True)
class _Forms:
    """The instructions of one element type (Intel SDM volume 2, chapters 3 to 5)."""

    load: Form
    store: Form
    stream: Form
    add: Form
    multiply: Form
    fma: Form


def _forms(prefix: int, wide: int) -> _Forms:
    return _Forms(
        load=Form(prefix, _0F, wide, 0x10),
        store=Form(prefix, _0F, wide, 0x11),
        stream=Form(prefix, _0F, wide, 0x2B),
        add=Form(prefix, _0F, wide, 0x58),
        multiply=Form(prefix, _0F, wide, 0x59),
        fma=Form(1, _0F38, wide, 0xB8),  # 231: acc += second * memory
    )


_FORMS = {"fp64": _forms(1, 1), "fp32": _forms(0, 0)}

# Which arrays a kernel walks over, in the order in which its launcher hands them over.
ARRAYS: dict[str, tuple[int, ...]] = {
    "read": (_A,), "dot": (_A, _B), "write": (_C,), "copy": (_A, _C), "scale": (_A, _C),
    "add": (_A, _B, _C), "triad": (_A, _B, _C),
}  # fmt: skip


def bytes_per_iteration(register_bytes: int) -> int:
    """Return how far one iteration goes in each array."""
    return UNROLL * register_bytes


def stream_loop(kernel: str, precision: str, register_bytes: int) -> bytes:
    """Return the loop of a kernel for ymm (32 bytes, AVX2 and FMA) or zmm registers (AVX-512F).

    Arrays are aligned to ``register_bytes``, which the non-temporal stores require.
    """
    forms = _FORMS[precision]
    arrays = ARRAYS[kernel]

    def on(form: Form, register: int, base: int, offset: int, second: int = 0) -> bytes:
        return with_memory(form, register, second, base, offset, register_bytes)

    bases = b"".join(_LOAD_BASE[base] for base in arrays)
    head = on(forms.load, _SCALAR, _RDI, SCALAR_OFFSET)
    sums = kernel in ("read", "dot")
    if sums:
        head += b"".join(
            on(forms.load, index, _RDI, SUMS_OFFSET + index * register_bytes)
            for index in range(UNROLL)
        )
    body = b""
    for index in range(UNROLL):
        offset = index * register_bytes
        if kernel == "read":
            body += on(forms.add, index, _A, offset, index)
        elif kernel == "dot":
            body += on(forms.load, _ZERO, _A, offset) + on(forms.fma, index, _B, offset, _ZERO)
        elif kernel == "write":
            body += on(forms.stream, _SCALAR, _C, offset)
        elif kernel == "scale":
            body += on(forms.multiply, index, _A, offset, _SCALAR)
        else:
            body += on(forms.load, index, _A, offset)
        if kernel == "add":
            body += on(forms.add, index, _B, offset, index)
        if kernel == "triad":
            body += on(forms.fma, index, _B, offset, _SCALAR)
    if not sums and kernel != "write":
        body += b"".join(
            on(forms.stream, index, _C, index * register_bytes) for index in range(UNROLL)
        )
    step = bytes_per_iteration(register_bytes).to_bytes(4, "little")
    body += b"".join(_ADVANCE[base] + step for base in arrays)
    tail = b"\x0f\xae\xf8"  # sfence: what was streamed is in memory before the launch ends
    if sums:
        tail += b"".join(
            on(forms.store, index, _RDI, SUMS_OFFSET + index * register_bytes)
            for index in range(UNROLL)
        )
    tail += b"\xc5\xf8\x77\xc3"  # vzeroupper; ret
    return repeated_loop(head, bases, body, PASSES_OFFSET, tail)
