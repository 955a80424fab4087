"""Machine code for aarch64: the loops of ``x86_code`` in NEON, and what calls them.

Encodings are those of the Arm Architecture Reference Manual (A64). Every instruction is one
little-endian word. Conventions (AAPCS64): arguments are in x0 and x1; x19 to x30 and the low
halves of v8 to v15 belong to the caller, so accumulators live in v0-v7 and v16-v27 and the four
operands in v28-v31.
"""

from __future__ import annotations

import struct

ADDS_PER_ITERATION = 64
LOADS_PER_ITERATION = 64
MAX_CHAINS = 20

_ACCUMULATORS = (*range(8), *range(16, 28))
_OPERANDS = (28, 29, 30, 31)
_FORMS: dict[str, int] = {"fmla.4s": 0x4E20CC00, "fmla.2d": 0x4E60CC00}
_RET = 0xD65F03C0


def vector_loop(instruction: str, chains: int) -> bytes:
    """Return ``f(state, iterations)`` on 128-bit registers; the state is laid out as on x86."""
    assert chains <= MAX_CHAINS
    opcode = _FORMS[instruction]
    accumulators = _ACCUMULATORS[:chains]

    def load(register: int, index: int) -> int:
        return 0x3DC00000 | index << 10 | register  # ldr q, [x0, #16 * index]

    def step(first: int, second: int) -> list[int]:
        operands = _OPERANDS[second] << 16 | _OPERANDS[first] << 5
        return [opcode | operands | acc for acc in accumulators]

    head = [load(register, index) for index, register in enumerate(_OPERANDS + accumulators)]
    body = [*step(0, 1), *step(2, 3), 0xF1000421]  # subs x1, x1, #1
    tail = [
        0x3D800000 | (4 + chains + index) << 10 | acc  # str q, [x0, #16 * index]
        for index, acc in enumerate(accumulators)
    ]
    return _words([*head, *body, _branch_if_not_zero(-len(body)), *tail, _RET])


def clock_loop() -> bytes:
    """Return ``f(state, iterations)``: 64 dependent additions an iteration between clock reads."""

    def read_clock(offset: int) -> list[int]:
        # mov w0, #1; add x1, x19, #offset; ldr x8, [x19]; blr x8
        return [0x52800020, 0x91000261 | offset << 10, 0xF9400268, 0xD63F0100]

    head = [0xA9BE7BF3, 0xF9000BF4, 0xAA0003F3, 0xAA0103F4]  # save x19, x30, x20; keep arguments
    head += [*read_clock(8), 0xD2800029, 0xD280002A]  # mov x9, #1; mov x10, #1
    body = [0x8B0A0129] * ADDS_PER_ITERATION + [0xF1000694]  # add x9, x9, x10; subs x20, x20, #1
    tail = [*read_clock(24), 0xF9400BF4, 0xA8C27BF3, _RET]
    return _words([*head, *body, _branch_if_not_zero(-len(body)), *tail])


def chase_loop() -> bytes:
    """Return ``f(state, iterations)``: 64 loads an iteration, each from where the last one points.

    The state's first word is the address to load from next; where the walk ends is written back.
    """
    body = [0xF9400129] * LOADS_PER_ITERATION + [0xF1000421]  # ldr x9, [x9]; subs x1, x1, #1
    # ldr x9, [x0]; …; str x9, [x0]
    return _words([0xF9400009, *body, _branch_if_not_zero(-len(body)), 0xF9000009, _RET])


def member_loop() -> bytes:
    """Return ``f(member)``: the words of ``member`` are those of ``x86_code.member_loop``."""
    wait = [0xF9400260, 0xF9400668, 0xD63F0100]  # ldr x0, [x19]; ldr x8, [x19, #8]; blr x8
    kernel = [0xF9401260, 0xF9401661, 0xF9400E68, 0xD63F0100]
    epilogue = [0xF9401E60, 0xF9402261, 0xF9401A68, 0xD63F0100]
    count = [0xF9402668, 0xF1000508, 0xF9002668]  # x8 = [x19, #72] - 1, stored again
    rest = [*kernel, *epilogue, *wait, *count]
    stop_test = [0xF9400A68, 0xB5000008 | (len(rest) + 2) << 5]  # ldr x8, [x19, #16]; cbnz x8
    turn = [*wait, *stop_test, *rest]
    turn.append(_branch_if_not_zero(-len(turn)))
    return _words([0xA9BF7BF3, 0xAA0003F3, *turn, 0xA8C17BF3, _RET])


def nothing() -> bytes:
    """Return a function that returns."""
    return _words([_RET])


def _branch_if_not_zero(words: int) -> int:
    return 0x54000001 | (words & 0x7FFFF) << 5  # b.ne


def _words(code: list[int]) -> bytes:
    return struct.pack(f"<{len(code)}I", *code)
