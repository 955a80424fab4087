"""Compile Triton kernels ahead of time, for any architecture, on a machine without a GPU.

What the compiler emits can be read before anyone rents the hardware: the instructions, the shared
memory, the registers, and whether they spill (a spilled inner loop runs at a fraction of its rate).
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Shared memory (LDS) that one block can have, bytes. NVIDIA: CUDA C++ programming guide, table of
# technical specifications per compute capability; AMD: CDNA 3 and CDNA 4 ISA documents.
SHARED_LIMIT_BYTES: dict[str, int] = {
    "sm_75": 64 << 10, "sm_80": 163 << 10, "sm_86": 99 << 10, "sm_89": 99 << 10,
    "sm_90": 227 << 10, "sm_100": 227 << 10, "sm_103": 227 << 10, "sm_120": 99 << 10,
    "gfx942": 64 << 10, "gfx950": 160 << 10,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Source:
    """What to compile: a kernel, the types of its run-time arguments, and its constants.

    ``signature`` types the run-time arguments (``*bf16``, ``i32``,
    ``tensordesc<bf16[128, 64]>``) in order.
    """

    kernel: Any
    signature: Mapping[str, str]
    constexprs: Mapping[str, Any]
    num_warps: int
    num_stages: int = 1

    def compile(self, arch: str) -> Emitted:
        """Compile for ``arch`` (``sm_90``, ``gfx942``); raise what Triton raises."""
        return compile_for(
            self.kernel,
            arch,
            signature=self.signature,
            constexprs=self.constexprs,
            num_warps=self.num_warps,
            num_stages=self.num_stages,
        )


@dataclass(frozen=True, slots=True)
class Emitted:
    """What the compiler made: assembly text, shared memory, registers per thread, spilled bytes.

    ``spills`` counts spilled registers on AMD and bytes of stack and local memory on NVIDIA;
    None where the tools to read them are not there. ``binary`` is the cubin or code object.
    """

    arch: str
    assembly: str
    shared_bytes: int
    registers: int | None
    spills: int | None
    binary: bytes = b""


def compile_for(
    kernel: Any,
    arch: str,
    *,
    signature: Mapping[str, str],
    constexprs: Mapping[str, Any],
    num_warps: int,
    num_stages: int = 1,
) -> Emitted:
    """Compile ``kernel`` for ``arch`` (``sm_90``, ``gfx942``) with 16-byte aligned arguments.

    ``signature`` types the run-time arguments (``*bf16``, ``i32``). Raises what Triton raises when
    it cannot compile.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    target = (
        GPUTarget("cuda", int(arch.removeprefix("sm_")), 32)
        if arch.startswith("sm_")
        else GPUTarget("hip", arch, 64)
    )
    types = {**signature, **dict.fromkeys(constexprs, "constexpr")}
    aligned = {
        (position,): [["tt.divisibility", 16]]
        for position, kind in enumerate(signature.values())
        if not kind.startswith("tensordesc")  # a descriptor is aligned by its own rules
    }
    compiled = triton.compile(
        ASTSource(kernel, types, dict(constexprs), aligned),
        target=target,
        options={"num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": True},
    )
    nvidia = "ptx" in compiled.asm
    assembly = compiled.asm["ptx" if nvidia else "amdgcn"]
    read = _nvidia_resources(compiled.asm["cubin"]) if nvidia else _amd_resources(assembly)
    binary = compiled.asm["cubin" if nvidia else "hsaco"]
    return Emitted(arch, assembly, int(compiled.metadata.shared), *read, binary)


def assembly_of(compiled: object) -> str | None:
    """Return the PTX or AMDGCN of what a Triton launch returned; None where it tells nothing."""
    texts = getattr(compiled, "asm", None)
    if not isinstance(texts, Mapping):
        return None
    found = texts.get("ptx") or texts.get("amdgcn")
    return found if isinstance(found, str) else None


def machine_code(emitted: Emitted) -> str | None:
    """Return the SASS of an NVIDIA kernel by the nvdisasm that Triton brings, None without it.

    Some things are decided after PTX: the assembler may serialise matrix instructions, or unroll.
    """
    tool = _nvidia_tool("nvdisasm")
    if tool is None or not emitted.arch.startswith("sm_"):
        return None
    return _run_on(tool, "-c", binary=emitted.binary)


def serialised_matrix_instructions(emitted: Emitted) -> bool | None:
    """Return whether the assembler made Hopper wait after each of its matrix instructions.

    It does so where registers of the sums are touched while instructions are in flight; then each
    one is followed by a barrier, and the tensor units idle between them. None where it cannot be
    read.
    """
    code = machine_code(emitted)
    if code is None or emitted.arch != "sm_90":
        return None
    instructions = re.findall(r"\b[HQI]GMMA\.[^\n]*", code)
    awaited = [line for line in instructions if "gsb0" in line]
    return len(instructions) > 1 and len(awaited) == len(instructions)


def loop_text(assembly: str) -> str:
    """Return the blocks of PTX or AMDGCN assembly that run inside a loop, in order.

    LLVM says in a comment at each block whether it belongs to one.
    """
    kept: list[str] = []
    for block in re.split(r"(?m)^(?=\$L__BB|\.LBB|// %bb|; %bb)", assembly):
        heading = "\n".join(block.splitlines()[:4])
        if re.search(r"Loop Header|in Loop:", heading):
            kept.append(block)
    return "".join(kept)


def _nvidia_resources(cubin: bytes) -> tuple[int | None, int | None]:
    """Read registers and stack + local bytes with the cuobjdump that Triton brings."""
    tool = _nvidia_tool("cuobjdump")
    if tool is None:
        return None, None
    found = re.search(
        r"REG:(\d+) STACK:(\d+).*?LOCAL:(\d+)",
        _run_on(tool, "--dump-resource-usage", binary=cubin),
    )
    return (int(found[1]), int(found[2]) + int(found[3])) if found else (None, None)


def _nvidia_tool(name: str) -> Path | None:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    return tool if tool.exists() else None


def _run_on(tool: Path, option: str, *, binary: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary)
        file.flush()
        done = subprocess.run([tool, option, file.name], capture_output=True, text=True, check=True)
        return done.stdout


def _amd_resources(assembly: str) -> tuple[int | None, int | None]:
    counts = dict(
        re.findall(r"\.(vgpr_count|vgpr_spill_count|sgpr_spill_count):\s*(\d+)", assembly)
    )
    if "vgpr_count" not in counts:
        return None, None
    spills = int(counts.get("vgpr_spill_count", 0)) + int(counts.get("sgpr_spill_count", 0))
    return int(counts["vgpr_count"]), spills
