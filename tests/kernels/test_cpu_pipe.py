"""The processor's pipe loops: exact results here, and the encodings of what cannot run here."""

from __future__ import annotations

import gc
import os
import platform
import re
import shutil
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from roofprobe.kernels import arm_code, cpu_pipe, cpu_rows, cpu_team, x86_code
from roofprobe.kernels.cpu_rows import PipeRow
from roofprobe.kernels.work import Unsupported


def _features() -> frozenset[str]:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    found = re.search(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)
    return frozenset(found[1].split()) if found else frozenset()


FEATURES = _features()
AVAILABLE = cpu_pipe.available_rows(FEATURES)
MACHINE_HAS_CODE = cpu_team.machine() in ("x86_64", "aarch64")
needs_code = pytest.mark.skipif(
    not MACHINE_HAS_CODE, reason=f"no machine code for {platform.machine()}"
)
runnable = pytest.mark.parametrize(
    "name",
    [
        pytest.param(
            row.name,
            marks=[pytest.mark.skip(reason=outcome.sentence)]
            if isinstance(outcome := AVAILABLE[row.name], Unsupported)
            else [],
        )
        for row in cpu_rows.ROWS
    ],
)
every_row = pytest.mark.parametrize("row", cpu_rows.ROWS, ids=lambda row: row.name)


def first_runnable() -> str:
    for name, outcome in AVAILABLE.items():
        if isinstance(outcome, str):
            return name
    pytest.skip("this processor has none of the instructions")


def steps(row: PipeRow) -> int:
    return row.block or 1


@runnable
@pytest.mark.parametrize("blocks", [1, 2, 37])
def test_every_accumulator_of_every_thread_holds_the_exact_sum(name: str, blocks: int) -> None:
    row = cpu_rows.row_of(name)
    pipe = cpu_pipe.prepare(name, FEATURES, threads=2, iterations=blocks * steps(row))
    check = pipe.work.check()
    pipe.close()
    assert check.problem is None
    assert check.error == 0
    assert check.checked_elements == 2 * row.chains * row.accumulator_elements


@runnable
def test_the_sum_is_exact_at_the_greatest_number_of_iterations_that_is_accepted(name: str) -> None:
    row = cpu_rows.row_of(name)
    limit = row.max_iterations
    if limit > 30_000_000:
        pytest.skip("too many iterations for a quick test; the bound is tested by calculation")
    pipe = cpu_pipe.prepare(name, FEATURES, threads=1, iterations=limit)
    assert pipe.work.check().problem is None


@runnable
def test_a_wrong_operand_is_found_by_the_check(name: str) -> None:
    row = cpu_rows.row_of(name)
    pipe = cpu_pipe.prepare(name, FEATURES, threads=2, iterations=2 * steps(row))
    # The lowest bit of the highest byte of the last operand's last element, in the second thread.
    last = len(cpu_pipe.operand_bytes(row)) - 1
    pipe._states[1, last] ^= 1
    check = pipe.work.check()
    assert check.problem is not None
    assert "differ from the exact sum" in check.problem
    assert check.error > 0


@runnable
def test_an_iteration_too_few_is_found_by_the_check(name: str) -> None:
    row = cpu_rows.row_of(name)
    pipe = cpu_pipe.prepare(name, FEATURES, threads=1, iterations=3 * steps(row))
    job = pipe._jobs[0]
    pipe._team.assign([cpu_team.Job(job.address, job.state, job.iterations - 1)])
    check = pipe.work.check()
    assert check.error == row.products


@runnable
def test_launching_twice_gives_the_same_result_since_each_launch_starts_anew(name: str) -> None:
    row = cpu_rows.row_of(name)
    pipe = cpu_pipe.prepare(name, FEATURES, threads=1, iterations=steps(row))
    pipe.work.launches[0]()
    assert pipe.work.check().problem is None


@every_row
def test_operations_are_two_per_multiply_add(row: PipeRow) -> None:
    lanes = {"fp64": 8, "fp32": 4, "fp16": 2, "int32": 4}[row.accumulator]
    multiply_adds = 2 * row.chains * (row.register_bytes // lanes) * row.products
    assert row.flops_per_iteration == 2 * multiply_adds


def test_the_rows_do_the_operations_per_instruction_that_their_manuals_state() -> None:
    per_instruction = {
        row.name: row.flops_per_iteration // (2 * row.chains) for row in cpu_rows.ROWS
    }
    assert per_instruction == {
        "fp64-avx2": 8, "fp32-avx2": 16, "int8-avx-vnni": 64,
        "fp64-avx512": 16, "fp32-avx512": 32, "fp16-avx512": 64, "bf16-avx512": 64,
        "int8-avx512": 128, "bf16-amx": 16384, "int8-amx": 32768,
        "fp64-neon": 4, "fp32-neon": 8,
    }  # fmt: skip


@needs_code
def test_work_counts_all_threads_and_what_is_loaded_and_stored() -> None:
    name = first_runnable()
    row = cpu_rows.row_of(name)
    one = cpu_pipe.prepare(name, FEATURES, threads=1, iterations=10 * steps(row)).work
    three = cpu_pipe.prepare(name, FEATURES, threads=3, iterations=10 * steps(row)).work
    assert one.flops == 10 * steps(row) * row.flops_per_iteration
    assert three.flops == 3 * one.flops
    assert one.bytes_written == row.chains * row.register_bytes
    assert one.bytes_read == (row.chains + 4) * row.register_bytes
    assert three.bytes_read == 3 * one.bytes_read
    assert three.config["threads"] == 3
    assert three.kernel == name


@every_row
def test_the_loop_modelled_in_float64_ends_where_the_check_expects_it(row: PipeRow) -> None:
    """Multiply the operands as they lie in memory, in the instruction's own order."""
    raw = cpu_pipe.operand_bytes(row)
    if row.unit == "tile":
        raw = raw[64:]
    factors = [_numbers(row, raw, index) for index in range(len(raw) // row.register_bytes)]
    start = cpu_pipe.start_values(row)
    gained = _products(row, factors[0], factors[1])
    lost = _products(row, factors[2], factors[3])
    assert (gained > 0).all()
    assert (gained + lost == row.products).all()
    assert start.size == len(np.unique(start))
    rounds = row.max_iterations // steps(row)
    highest = start.max() + rounds * row.products + gained.max() + (row.block or 0)
    assert highest <= 2**row.exact_bits
    # One round more would be allowed only if the greatest k were in use: the bound is not lax.
    slack = row.largest**2 * row.products - gained.max() + 2 * row.products + steps(row)
    assert highest + slack >= 2**row.exact_bits
    assert start.min() >= -(2**row.exact_bits)
    if row.block is not None:
        taken = factors[4] * factors[5]
        assert (taken == -(row.block - 1)).all()


def _numbers(row: PipeRow, raw: cpu_pipe.Array, index: int) -> cpu_pipe.Array:
    register = raw[index * row.register_bytes :][: row.register_bytes]
    if row.operand == "bf16":
        return (register.view(np.uint16).astype(np.uint32) << 16).view(np.float32).astype(float)
    unsigned_first = row.instruction == "vpdpbusd" and index % 2 == 0
    formats = {"fp64": np.float64, "fp32": np.float32, "fp16": np.float16}
    kind = formats.get(row.operand, np.uint8 if unsigned_first else np.int8)
    return register.view(kind).astype(float)


def _products(row: PipeRow, first: cpu_pipe.Array, second: cpu_pipe.Array) -> cpu_pipe.Array:
    if row.unit == "vector":
        sums: cpu_pipe.Array = (first * second).reshape(-1, row.products).sum(axis=1)
        return sums
    # AMX: C[m][n] += sum over r, i of A[m][r*p + i] * B[r][n*p + i].
    left = first.reshape(16, 16, -1)
    right = second.reshape(16, 16, -1)
    tile: cpu_pipe.Array = np.einsum("mri,rni->mn", left, right).ravel()
    return tile


@every_row
def test_the_suggested_iterations_take_no_longer_than_asked_and_stay_exact(row: PipeRow) -> None:
    for duration_us in (1, 100, 2000, 10**9):
        iterations = cpu_pipe.iterations_for(row, duration_us, clock_mhz=3000)
        assert 0 < iterations <= row.max_iterations
        assert iterations % steps(row) == 0
    wanted = cpu_pipe.iterations_for(row, 2000, clock_mhz=3000)
    slowest_us = wanted * 2 * row.chains * row.issue_cycles / 3000
    assert 1000 < slowest_us < 2100


@needs_code
@pytest.mark.parametrize("iterations", [0, -1, 10**18])
def test_iterations_that_would_not_be_exact_are_refused(iterations: int) -> None:
    with pytest.raises(ValueError, match="is exact for 1 to"):
        cpu_pipe.prepare(first_runnable(), FEATURES, threads=1, iterations=iterations)


def test_an_unknown_row_is_refused_with_the_names_that_are_known() -> None:
    with pytest.raises(KeyError, match="fp32-avx512"):
        cpu_rows.row_of("fp128")


def test_a_row_whose_feature_is_missing_is_refused_with_its_name() -> None:
    with pytest.raises(Unsupported) as refused:
        cpu_pipe.prepare("bf16-amx", (), threads=1)
    assert refused.value.code == "architecture"


def test_each_feature_that_a_row_names_is_needed() -> None:
    for row in cpu_rows.ROWS:
        whole = cpu_pipe.available_rows(row.features, row.architecture)
        assert whole[row.name] == row.instruction
        for feature in row.features:
            rest = [other for other in row.features if other != feature]
            reason = cpu_pipe.available_rows(rest, row.architecture)[row.name]
            assert isinstance(reason, Unsupported)
            assert feature in reason.sentence


def test_no_row_of_another_architecture_is_available() -> None:
    everything = {feature for row in cpu_rows.ROWS for feature in row.features}
    for architecture in ("x86_64", "aarch64", "riscv64"):
        outcomes = cpu_pipe.available_rows(everything, architecture)
        for row in cpu_rows.ROWS:
            assert isinstance(outcomes[row.name], str) == (row.architecture == architecture)


@pytest.mark.parametrize(
    ("number_format", "value"),
    [("bf16", 257), ("fp16", 2049), ("fp32", 2**24 + 1), ("int8", 128), ("uint8", -1)],
)
def test_a_number_that_a_format_does_not_hold_is_refused(number_format: str, value: int) -> None:
    with pytest.raises(ValueError, match=number_format):
        cpu_pipe.encode(np.array([float(value)]), number_format)


@needs_code
def test_each_member_of_a_team_has_a_cpu_of_its_own_and_the_caller_keeps_its_affinity() -> None:
    before = os.sched_getaffinity(0)
    size = min(2, len(before))
    team = cpu_team.Team(size)
    team.launch()
    members = [t for t in threading.enumerate() if t.name.startswith("roofprobe-team-")]
    placed = [os.sched_getaffinity(t.native_id) for t in members[-size:] if t.native_id]
    team.close()
    assert os.sched_getaffinity(0) == before
    assert [len(cpus) for cpus in placed] == [1] * size
    assert len(set().union(*placed)) == size


@pytest.mark.parametrize(
    ("siblings", "order"),
    [
        ({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}, [0, 2, 1, 3]),
        ({0: "0,2", 1: "1,3", 2: "0,2", 3: "1,3"}, [0, 1, 2, 3]),
        ({0: "0", 1: "1", 2: "2", 3: "3"}, [0, 1, 2, 3]),
        ({}, [0, 1, 2, 3]),
    ],
)
def test_members_get_one_cpu_of_each_core_before_any_second_hardware_thread(
    siblings: dict[int, str], order: list[int]
) -> None:
    assert cpu_team.one_per_core_first(range(4), siblings.get) == order


@needs_code
def test_a_team_larger_than_the_machine_runs_every_member_unpinned() -> None:
    size = len(os.sched_getaffinity(0)) + 3
    name = first_runnable()
    row = cpu_rows.row_of(name)
    pipe = cpu_pipe.prepare(name, FEATURES, threads=size, iterations=steps(row))
    check = pipe.work.check()
    assert check.problem is None
    assert check.checked_elements == size * row.chains * row.accumulator_elements


@needs_code
def test_the_threads_end_with_the_last_reference_and_a_closed_team_refuses_to_launch() -> None:
    gc.collect()  # teams of earlier tests end here and not below
    before = threading.active_count()
    kept = cpu_team.Team(2)
    dropped = cpu_team.Team(2)
    assert threading.active_count() == before + 4
    kept.close()
    kept.close()
    del dropped
    gc.collect()
    assert threading.active_count() == before
    with pytest.raises(RuntimeError, match="dismissed"):
        kept.launch()


@needs_code
def test_other_python_threads_run_while_a_team_works() -> None:
    """A launch in another thread must not hold the interpreter lock."""
    name = first_runnable()
    iterations = cpu_pipe.iterations_for(cpu_rows.row_of(name), 200_000)
    pipe = cpu_pipe.prepare(name, FEATURES, threads=1, iterations=iterations)
    launched = threading.Thread(target=pipe.launch)
    launched.start()
    turns = 0
    while launched.is_alive():
        turns += 1
    launched.join()
    assert turns > 100


@pytest.mark.parametrize("cpus", [(0,), ()])
def test_a_team_that_cannot_be_placed_is_refused(cpus: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="cannot be placed"):
        cpu_team.Team(2, cpus)
    with pytest.raises(ValueError, match="cannot be placed"):
        cpu_team.Team(0)


def test_a_system_that_forbids_executable_memory_is_a_reason_and_not_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "memfd_create", refuse, raising=False)
    with pytest.raises(Unsupported, match="Permission denied") as refused:
        cpu_team.Executable(b"\xc3")
    assert refused.value.code == "no-exec-memory"


def test_a_processor_without_code_is_a_reason_and_not_a_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: "riscv64")
    cpu_team._code_of.cache_clear()
    with pytest.raises(Unsupported, match="riscv64"):
        cpu_team.clock_mhz()


def test_code_is_never_writable_where_it_is_executable() -> None:
    code = cpu_team.Executable(b"\xc3")
    page = re.compile(rf"^{code.address:x}-[0-9a-f]+ (\S+)", re.MULTILINE)
    found = page.search(Path("/proc/self/maps").read_text())
    assert found is not None
    assert found[1] == "r-xp"


@needs_code
def test_the_clock_is_that_of_a_processor_and_agrees_between_one_thread_and_a_team() -> None:
    alone = cpu_team.clock_mhz(2000)
    team = cpu_team.clocks_mhz(cpu_team.Team(1), 2000)
    assert 300 < alone < 8000
    assert len(team) == 1
    assert 0.4 < team[0] / alone < 2.5  # turbo and neighbours move it, units do not


@needs_code
def test_the_clock_under_load_leaves_the_work_as_it_was() -> None:
    name = first_runnable()
    row = cpu_rows.row_of(name)
    pipe = cpu_pipe.prepare(name, FEATURES, threads=2, iterations=5 * steps(row))
    clocks = pipe.clocks_mhz()
    assert len(clocks) == 2
    assert all(300 < clock < 8000 for clock in clocks)
    assert pipe.work.check().problem is None


def test_additions_over_elapsed_time_are_the_clock() -> None:
    state = np.array([0, 7, 999_999_000, 8, 1_000], dtype=np.int64)  # 2000 ns later
    adds = {"x86_64": x86_code, "aarch64": arm_code}.get(cpu_team.machine())
    if adds is None:
        pytest.skip("no machine code for this processor")
    assert cpu_team._mhz(state, 100) == adds.ADDS_PER_ITERATION * 100 / 2000 * 1000


def disassemble(code: bytes, tmp_path: Path, *options: str) -> list[str]:
    """Return the instructions, one by one; objdump of binutils reads raw bytes."""
    objdump = shutil.which("objdump")
    if objdump is None:
        pytest.skip("objdump is not installed")
    path = tmp_path / "code.bin"
    path.write_bytes(code)
    command = [objdump, "-D", "-b", "binary", "--no-show-raw-insn", *options, str(path)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30)
    if run.returncode:
        pytest.skip(f"this objdump does not know the architecture: {run.stderr.strip()}")
    lines = re.findall(r"^\s*[0-9a-f]+:\s+(.*\S)", run.stdout, re.MULTILINE)
    return [re.sub(r"\s+", " ", line).removeprefix("{vex} ") for line in lines]


X86 = ("-m", "i386:x86-64", "-M", "intel")


@pytest.mark.parametrize(
    "row", [r for r in cpu_rows.ROWS if r.architecture == "x86_64"], ids=lambda r: r.name
)
def test_objdump_reads_the_loop_as_the_instructions_that_were_meant(
    row: PipeRow, tmp_path: Path
) -> None:
    lines = disassemble(cpu_pipe.loop_code(row), tmp_path, *X86)
    letter = {32: "ymm", 64: "zmm"}.get(row.register_bytes, "tmm")
    first = row.chains
    wanted = [
        f"{row.instruction} {letter}{acc},{letter}{first + pair},{letter}{first + pair + 1}"
        for pair in ((0, 2) if row.block is None else (0, 2, 4))
        for acc in range(row.chains)
    ]
    arithmetic = [line for line in lines if line.startswith(row.instruction)]
    if arithmetic == [] and row.instruction.endswith("ph"):
        pytest.skip("this objdump is older than AVX512_FP16")
    assert arithmetic == wanted
    start = lines.index(wanted[0])
    loop = lines[start:]
    inside = loop[: next(i for i, line in enumerate(loop) if "[rdi" in line)]
    assert not any("[" in line for line in inside)  # no memory access in the loop
    assert not any("(bad)" in line for line in lines)
    assert lines[-1].startswith("ret")


def test_the_clock_chain_adds_registers_and_each_addition_needs_the_last(tmp_path: Path) -> None:
    lines = disassemble(x86_code.clock_loop(), tmp_path, *X86)
    assert lines.count("add rax,rdx") == x86_code.ADDS_PER_ITERATION
    assert not [line for line in lines if re.match(r"(add|inc|lea) rax,?0x", line)]


def test_the_chase_loads_from_where_each_load_points_and_keeps_the_last_address(
    tmp_path: Path,
) -> None:
    lines = [line for line in disassemble(x86_code.chase_loop(), tmp_path, *X86) if line != "nop"]
    follow = ["mov rax,QWORD PTR [rax]"] * x86_code.LOADS_PER_ITERATION
    assert lines[:-4] == ["mov rax,QWORD PTR [rdi]", *follow]
    assert lines[-4] == "dec rsi"
    assert lines[-3].startswith("jne 0x40")
    assert lines[-2:] == ["mov QWORD PTR [rdi],rax", "ret"]


AARCH64_LOOP = (
    arm_code.vector_loop("fmla.4s", 20),
    arm_code.vector_loop("fmla.2d", 20),
    arm_code.clock_loop(),
    arm_code.member_loop(),
    arm_code.chase_loop(),
)


def test_an_arm_disassembler_reads_the_neon_loops_as_they_were_meant() -> None:
    llvm = shutil.which("llvm-mc")
    if llvm is None:
        pytest.skip("llvm-mc is not installed")
    texts = []
    for code in AARCH64_LOOP:
        source = " ".join(f"0x{byte:02x}" for byte in code)
        command = [llvm, "-arch=aarch64", "-disassemble"]
        run = subprocess.run(command, input=source, capture_output=True, text=True, timeout=30)
        if run.returncode:
            pytest.skip(f"this llvm-mc does not know aarch64: {run.stderr.strip()[:80]}")
        assert "invalid" not in run.stderr
        texts.append(re.sub(r"[ \t]+", " ", run.stdout))
    for text, lanes in zip(texts, ("4s", "2d"), strict=False):
        accumulators = re.findall(rf"fmla v(\d+)\.{lanes}, v28\.{lanes}, v29\.{lanes}", text)
        again = re.findall(rf"fmla v(\d+)\.{lanes}, v30\.{lanes}, v31\.{lanes}", text)
        assert accumulators == again
        assert len(set(accumulators)) == 20
        assert not {int(name) for name in accumulators} & set(range(8, 16))  # callee-saved
        assert "subs x1, x1, #1\n b.ne #-164" in text
    assert texts[2].count("add x9, x9, x10") == arm_code.ADDS_PER_ITERATION
    assert "cbnz x8, #64" in texts[3]
    assert "b.ne #-76" in texts[3]
    follow = "ldr x9, [x9]\n" * arm_code.LOADS_PER_ITERATION
    chase = re.sub(r"(?m)^\s+", "", texts[4])
    jump = f"subs x1, x1, #1\nb.ne #-{4 * (arm_code.LOADS_PER_ITERATION + 1)}\n"
    assert f"ldr x9, [x0]\n{follow}{jump}str x9, [x0]\nret\n" in chase
