"""Machine code for x86-64: multiply-accumulate loops, a pointer chase, and what calls them.

No compiler is needed on the measured host: the few instructions that the loops are made of are
encoded here, from the formats of the Intel SDM, volume 2 (chapter 2: VEX and EVEX prefixes;
chapters 3 to 5: the opcodes). Everything here returns bytes and runs nothing.

Conventions (System V AMD64 ABI, which Linux uses): the first two arguments are in rdi and rsi;
every vector and tile register may be overwritten, rbx and r12 may not.

The state that a loop works on lies at rdi: the operands, the accumulators at the start, then the
accumulators at the end, each one register wide, in that order. Only loads before the loop and
stores after it touch memory. The chase is the exception: its loop is nothing but loads.
"""

from __future__ import annotations

from dataclasses import dataclass

_NO_PREFIX, _66, _F3, _F2 = 0, 1, 2, 3
_0F, _0F38, _MAP6 = 1, 2, 6
_RAX, _RDI, _SIB = 0, 7, 4

ADDS_PER_ITERATION = 64
LOADS_PER_ITERATION = 64
TILE_BYTES = 1024
TILE_ROWS = 16


@dataclass(frozen=True, slots=True)
class Form:
    """How an instruction is encoded: mandatory prefix, opcode map, W bit, opcode."""

    prefix: int
    opcode_map: int
    wide: int
    opcode: int


# acc += first * second on each lane; vpdpbusd takes its unsigned operand first, its signed second.
FORMS: dict[str, Form] = {
    "vfmadd231pd": Form(_66, _0F38, 1, 0xB8),
    "vfmadd231ps": Form(_66, _0F38, 0, 0xB8),
    "vfmadd231ph": Form(_66, _MAP6, 0, 0xB8),
    "vdpbf16ps": Form(_F3, _0F38, 0, 0x52),
    "vpdpbusd": Form(_66, _0F38, 0, 0x50),
    "tdpbf16ps": Form(_F3, _0F38, 0, 0x5C),
    "tdpbssd": Form(_F2, _0F38, 0, 0x5E),
}
_LOAD = Form(_NO_PREFIX, _0F, 0, 0x10)  # vmovups register, memory
_STORE = Form(_NO_PREFIX, _0F, 0, 0x11)  # vmovups memory, register
_TILE_LOAD = Form(_F2, _0F38, 0, 0x4B)  # tileloadd tile, [base + stride]
_TILE_STORE = Form(_F3, _0F38, 0, 0x4B)  # tilestored [base + stride], tile


def vector_loop(
    instruction: str, register_bytes: int, chains: int, block: int | None = None
) -> bytes:
    """Return ``f(state, iterations)`` for ymm (32 bytes: VEX) or zmm registers (64: EVEX).

    One iteration does ``acc += A * B`` and then ``acc += C * D`` on each of ``chains`` independent
    accumulators. With ``block``, ``iterations`` counts blocks of that many iterations, each
    followed by one ``acc += E * F``, which takes a narrow accumulator back into its exact range.
    """
    form = FORMS[instruction]
    operand_count = 4 if block is None else 6
    assert chains + operand_count <= (16 if register_bytes == 32 else 32)
    operands = list(range(chains, chains + operand_count))

    def step(first: int, second: int) -> bytes:
        return b"".join(
            _registers(form, acc, operands[first], operands[second], register_bytes)
            for acc in range(chains)
        )

    start = operand_count * register_bytes
    head = b"".join(
        _memory(_LOAD, register, index * register_bytes, register_bytes)
        for index, register in enumerate(operands + list(range(chains)))
    )
    body = step(0, 1) + step(2, 3)
    if block is not None:
        inner = body + b"\x48\xff\xc9"  # dec rcx
        inner += _jump_back(len(inner))
        # mov ecx, block
        body = b"\xb9" + block.to_bytes(4, "little") + inner + step(4, 5)
    tail = b"".join(
        _memory(_STORE, acc, start + (chains + acc) * register_bytes, register_bytes)
        for acc in range(chains)
    )
    return _loop(head, body, tail + b"\xc5\xf8\x77\xc3")  # vzeroupper; ret


def tile_loop(instruction: str, chains: int) -> bytes:
    """Return ``f(state, iterations)`` on AMX tiles; the 64-byte tile configuration leads the state.

    Tiles are 16 rows of 64 bytes. Four accumulators and the four operands fill the eight tiles.
    """
    form = FORMS[instruction]
    assert chains + 4 <= 8
    operands = list(range(chains, chains + 4))
    config_bytes = 64
    head = b"\xc4\xe2\x78\x49\x07" + b"\xb8\x40\x00\x00\x00"  # ldtilecfg [rdi]; mov eax, 64
    for index, tile in enumerate(operands + list(range(chains))):
        head += _tile_memory(_TILE_LOAD, tile, config_bytes + index * TILE_BYTES)
    body = b"".join(
        # The tile forms name their second factor in the vvvv field, the first in r/m.
        _registers(form, acc, operands[second], operands[first], 16)
        for first, second in ((0, 1), (2, 3))
        for acc in range(chains)
    )
    results = config_bytes + (4 + chains) * TILE_BYTES
    tail = b"".join(
        _tile_memory(_TILE_STORE, acc, results + acc * TILE_BYTES) for acc in range(chains)
    )
    return _loop(head, body, tail + b"\xc4\xe2\x78\x49\xc0\xc3")  # tilerelease; ret


def clock_loop() -> bytes:
    """Return ``f(state, iterations)``: 64 dependent additions an iteration between two clock reads.

    The state holds the address of ``clock_gettime``, then room for two ``timespec``. The addition
    is of two registers: processors since Golden Cove fold additions of an immediate at register
    renaming, so that a chain of those runs at several per cycle; ``add r64, r64`` has a latency
    of one cycle on every x86-64 processor that uops.info lists.
    """
    read_clock = b"\xbf\x01\x00\x00\x00"  # mov edi, 1 (CLOCK_MONOTONIC)
    head = b"\x53\x41\x54\x50" + b"\x48\x89\xfb\x49\x89\xf4"  # push rbx, r12, rax; save arguments
    head += read_clock + b"\x48\x8d\x73\x08" + b"\xff\x13"  # lea rsi, [rbx+8]; call [rbx]
    head += b"\xb8\x01\x00\x00\x00" + b"\xba\x01\x00\x00\x00"  # mov eax, 1; mov edx, 1
    body = b"\x48\x01\xd0" * ADDS_PER_ITERATION  # add rax, rdx
    tail = read_clock + b"\x48\x8d\x73\x18" + b"\xff\x13"  # lea rsi, [rbx+24]; call [rbx]
    tail += b"\x58\x41\x5c\x5b\xc3"  # pop rax, r12, rbx; ret
    return _loop(head, body, tail, decrement=b"\x49\xff\xcc")  # dec r12


def chase_loop() -> bytes:
    """Return ``f(state, iterations)``: 64 loads an iteration, each from where the last one points.

    The state's first word is the address to load from next; where the walk ends is written back.
    """
    body = b"\x48\x8b\x00" * LOADS_PER_ITERATION  # mov rax, [rax]
    # mov rax, [rdi]; …; mov [rdi], rax; ret
    return _loop(b"\x48\x8b\x07", body, b"\x48\x89\x07\xc3")


def member_loop() -> bytes:
    """Return ``f(member)``: rounds of wait, kernel, epilogue, wait, until told to stop.

    ``member`` holds nine machine words: the barrier, ``pthread_barrier_wait``, stop, kernel, its
    state, its iterations, the epilogue, its state, its iterations; and then the rounds left.
    """
    wait = b"\x48\x8b\x3b" + b"\xff\x53\x08"  # mov rdi, [rbx]; call [rbx+8]
    kernel = b"\x48\x8b\x7b\x20" + b"\x48\x8b\x73\x28" + b"\xff\x53\x18"
    epilogue = b"\x48\x8b\x7b\x38" + b"\x48\x8b\x73\x40" + b"\xff\x53\x30"
    rest = kernel + epilogue + wait + b"\x48\xff\x4b\x48"  # dec qword [rbx+72]
    stop_test = b"\x48\x83\x7b\x10\x00" + b"\x75" + (len(rest) + 2).to_bytes(1, "little")
    turn = wait + stop_test + rest
    turn += b"\x75" + (-(len(turn) + 2)).to_bytes(1, "little", signed=True)
    return b"\x53\x48\x89\xfb" + turn + b"\x5b\xc3"  # push rbx; mov rbx, rdi; …; pop rbx; ret


def with_memory(
    form: Form, register: int, second: int, base: int, offset: int, register_bytes: int
) -> bytes:
    """Return ``form register, second, [base + offset]``; loads and stores have no second register.

    ``base`` is one of the first eight registers but rsp (4), which needs another form.
    """
    # A 32-bit displacement always: EVEX scales 8-bit ones by the register's width.
    modrm = 0x80 | (register & 7) << 3 | base
    prefix = _prefix(form, register, second, 0, register_bytes)
    return prefix + bytes((form.opcode, modrm)) + offset.to_bytes(4, "little")


def repeated_loop(head: bytes, before: bytes, body: bytes, passes_at: int, tail: bytes) -> bytes:
    """Return ``head``, then passes of ``before`` and rsi times ``body``, then ``tail``.

    How many passes is read from the state, ``passes_at`` bytes from rdi, and counted down there;
    ``before`` begins each. rsi and the passes are at least one; r8 is overwritten.
    """
    before += b"\x4c\x89\xc6"  # mov rsi, r8
    head += b"\x49\x89\xf0"  # mov r8, rsi
    head += b"\x90" * (-(len(head) + len(before)) % 64)  # the inner loop starts a cache line
    inner = body + b"\x48\xff\xce"  # dec rsi
    inner += _jump_back(len(inner))
    turn = before + inner + b"\x48\xff\x4f" + passes_at.to_bytes(1, "little")  # dec [rdi + …]
    return head + turn + _jump_back(len(turn)) + tail


def nothing() -> bytes:
    """Return a function that returns."""
    return b"\xc3"


def _loop(head: bytes, body: bytes, tail: bytes, decrement: bytes = b"\x48\xff\xce") -> bytes:
    """Run ``body`` until the counter (rsi unless ``decrement`` names another) is zero."""
    head += b"\x90" * (-len(head) % 64)  # the loop starts a cache line: the decoders' best case
    turn = body + decrement
    return head + turn + _jump_back(len(turn)) + tail


def _jump_back(distance: int) -> bytes:
    return b"\x0f\x85" + (-(distance + 6)).to_bytes(4, "little", signed=True)  # jnz


def _registers(form: Form, acc: int, first: int, second: int, register_bytes: int) -> bytes:
    modrm = 0xC0 | (acc & 7) << 3 | (second & 7)
    prefix = _prefix(form, acc, first, second, register_bytes)
    return prefix + bytes((form.opcode, modrm))


def _memory(form: Form, register: int, offset: int, register_bytes: int) -> bytes:
    return with_memory(form, register, 0, _RDI, offset, register_bytes)


def _tile_memory(form: Form, tile: int, offset: int) -> bytes:
    """Address [rdi + rax + offset]: tile forms need an index register, which holds the stride."""
    prefix = _prefix(form, tile, 0, 0, 16)
    encoded = bytes((form.opcode, 0x80 | tile << 3 | _SIB, _RAX << 3 | _RDI))
    return prefix + encoded + offset.to_bytes(4, "little")


def _prefix(form: Form, reg: int, vvvv: int, rm: int, register_bytes: int) -> bytes:
    """Return the VEX prefix, or the EVEX prefix for zmm; register bits are stored inverted."""

    def inverted(number: int, bit: int) -> int:
        return (number >> bit & 1) ^ 1

    low_vvvv = (~vvvv & 15) << 3
    if register_bytes <= 32:
        assert form.opcode_map < 4
        length = 1 if register_bytes == 32 else 0
        first = inverted(reg, 3) << 7 | 1 << 6 | inverted(rm, 3) << 5 | form.opcode_map
        return bytes((0xC4, first, form.wide << 7 | low_vvvv | length << 2 | form.prefix))
    first = inverted(reg, 3) << 7 | inverted(rm, 4) << 6 | inverted(rm, 3) << 5
    first |= inverted(reg, 4) << 4 | form.opcode_map
    second = form.wide << 7 | low_vvvv | 1 << 2 | form.prefix
    return bytes((0x62, first, second, 2 << 5 | inverted(vvvv, 4) << 3))
