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
class Emitted:
    """What the compiler made: assembly text, shared memory, registers per thread, spilled bytes.

    ``spills`` counts spilled registers on AMD and bytes of stack and local memory on NVIDIA;
    None where the tools to read them are not there.
    """

    arch: str
    assembly: str
    shared_bytes: int
    registers: int | None
    spills: int | None


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
    aligned = {(position,): [["tt.divisibility", 16]] for position in range(len(signature))}
    compiled = triton.compile(
        ASTSource(kernel, types, dict(constexprs), aligned),
        target=target,
        options={"num_warps": num_warps, "num_stages": num_stages, "enable_fp_fusion": True},
    )
    nvidia = "ptx" in compiled.asm
    assembly = compiled.asm["ptx" if nvidia else "amdgcn"]
    read = _nvidia_resources(compiled.asm["cubin"]) if nvidia else _amd_resources(assembly)
    return Emitted(arch, assembly, int(compiled.metadata.shared), *read)


def _nvidia_resources(cubin: bytes) -> tuple[int | None, int | None]:
    """Read registers and stack + local bytes with the cuobjdump that Triton brings."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    if not tool.exists():
        return None, None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run(
            [tool, "--dump-resource-usage", file.name], capture_output=True, text=True, check=True
        ).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+).*?LOCAL:(\d+)", text)
    return (int(found[1]), int(found[2]) + int(found[3])) if found else (None, None)


def _amd_resources(assembly: str) -> tuple[int | None, int | None]:
    counts = dict(
        re.findall(r"\.(vgpr_count|vgpr_spill_count|sgpr_spill_count):\s*(\d+)", assembly)
    )
    if "vgpr_count" not in counts:
        return None, None
    spills = int(counts.get("vgpr_spill_count", 0)) + int(counts.get("sgpr_spill_count", 0))
    return int(counts["vgpr_count"]), spills
