"""The pointer chase: one cycle over all lines, walked exactly, and loads that really wait."""

from __future__ import annotations

import mmap
import re
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roofprobe.kernels import aot, chase, cpu_chase, cpu_team, triton_chase
from roofprobe.kernels.aot import Emitted
from roofprobe.kernels.chase import prepare
from roofprobe.kernels.cpu_chase import CpuWalk, PageBuffer, anonymous_huge_bytes
from roofprobe.kernels.cycle import Integers, count_wrong_links, links, random_order
from roofprobe.kernels.triton_chase import Cache, cycles_source, source
from roofprobe.kernels.work import Target, Unsupported, Work

CPU = Target("cpu", "cpu")
KIB, MIB = 1 << 10, 1 << 20
BASE = 1 << 40

needs_code = pytest.mark.skipif(
    cpu_team.machine() not in ("x86_64", "aarch64"), reason="no machine code for this processor"
)


def round_trip(order: Integers, line_bytes: int) -> list[int]:
    """Follow the links from line 0, one by one, until the walk is back there."""
    addresses = links(order, BASE, line_bytes)
    line = 0
    visited: list[int] = []
    while line not in visited[:1]:
        visited.append(line)
        line, rest = divmod(int(addresses[line]) - BASE, line_bytes)
        assert rest == 0
        assert len(visited) <= order.size
    return visited


@given(lines=st.integers(2, 300), seed=st.integers(0, 2**32), line_bytes=st.sampled_from([64, 128]))
def test_a_walk_visits_every_line_once_and_comes_back(
    lines: int, seed: int, line_bytes: int
) -> None:
    order = random_order(lines, seed)
    assert sorted(round_trip(order, line_bytes)) == list(range(lines))
    assert count_wrong_links(order, links(order, BASE, line_bytes), BASE, line_bytes) == 0


@given(lines=st.integers(3, 300), seed=st.integers(0, 2**32), data=st.data())
def test_two_lines_that_exchange_their_links_make_two_cycles_and_are_both_counted(
    lines: int, seed: int, data: st.DataObject
) -> None:
    order = random_order(lines, seed)
    found = links(order, BASE, 64)
    one, other = data.draw(st.lists(st.integers(0, lines - 1), min_size=2, max_size=2, unique=True))
    found[[one, other]] = found[[other, one]]
    assert count_wrong_links(order, found, BASE, 64) == 2


def test_an_order_that_has_a_line_twice_is_no_cycle_over_all_lines() -> None:
    order = np.array([0, 1, 2, 1], dtype=np.int32)
    found = links(order, BASE, 64)
    # Line 3 is never visited and line 1 twice; line 1 cannot lead to both 2 and 0.
    assert count_wrong_links(order, found, BASE, 64) >= 2


def test_every_cycle_over_four_lines_has_the_same_chance() -> None:
    counts: dict[tuple[int, ...], int] = {}
    for seed in range(3000):
        cycle = tuple(round_trip(random_order(4, seed), 64))
        counts[cycle] = counts.get(cycle, 0) + 1
    assert len(counts) == 6  # (4 − 1)!
    assert all(400 < count < 600 for count in counts.values())


def test_the_seed_decides_the_cycle() -> None:
    assert (random_order(1000, 7) == random_order(1000, 7)).all()
    assert (random_order(1000, 7) != random_order(1000, 8)).any()


def walk_of(work: Work) -> CpuWalk:
    walk = work.launches[0]
    assert isinstance(walk, CpuWalk)
    return walk


def line_of(walk: CpuWalk) -> int:
    line, rest = divmod(walk.position - walk.base, walk.line_bytes)
    assert rest == 0
    return line


@needs_code
@settings(deadline=None, max_examples=50)
@given(lines=st.integers(2, 500), seed=st.integers(0, 2**32), accesses=st.integers(1, 400))
def test_launches_walk_on_along_the_cycle_by_exactly_their_accesses(
    lines: int, seed: int, accesses: int
) -> None:
    work = prepare(CPU, footprint_bytes=64 * lines, seed=seed, accesses=accesses)
    order = random_order(lines, seed)
    assert accesses <= work.accesses < accesses + 64
    for launch in range(3):
        assert line_of(walk_of(work)) == order[launch * work.accesses % lines]
        work.launches[0]()


@needs_code
@pytest.mark.parametrize("pages", ["default", "huge"])
@pytest.mark.parametrize("footprint_bytes", [128, 4 * KIB, 96 * KIB, 5 * MIB + 64])
def test_the_check_passes_and_reads_every_link(
    footprint_bytes: int, pages: cpu_chase.Pages
) -> None:
    work = prepare(CPU, footprint_bytes=footprint_bytes, seed=3, accesses=1000, pages=pages)
    for _ in range(2):
        check = work.check()
        assert check.problem is None
        assert check.error == 0
        assert check.checked_elements == footprint_bytes // 64 + 1
        work.launches[0]()


@needs_code
def test_the_work_counts_one_line_per_access() -> None:
    work = prepare(CPU, footprint_bytes=MIB, seed=1, accesses=6400)
    assert (work.flops, work.accesses, work.bytes_read, work.bytes_written) == (0, 6400, 409600, 0)
    assert work.array_bytes == MIB
    assert work.config["lines"] == MIB // 64
    assert work.config["line_bytes"] == 64
    assert work.config["pages"] == "default"
    assert work.kernel == f"chase ({cpu_team.machine()})"


@needs_code
def test_a_link_that_leaves_the_cycle_is_found_and_not_followed() -> None:
    work = prepare(CPU, footprint_bytes=MIB, seed=1, accesses=640)
    walk = walk_of(work)
    words = walk._buffer.bytes.view(np.int64).reshape(-1, 8)
    words[1234, 0] = 8  # following it would end the process
    check = work.check()
    assert check.error == 1
    assert check.problem == "1 of 16384 links are not those of one cycle over all lines"


@needs_code
def test_a_second_cycle_is_found() -> None:
    work = prepare(CPU, footprint_bytes=MIB, seed=1, accesses=640)
    words = walk_of(work)._buffer.bytes.view(np.int64).reshape(-1, 8)
    words[[5, 99], 0] = words[[99, 5], 0]
    assert work.check().error == 2


WRONG_WALKS: dict[str, Callable[[CpuWalk], None]] = {
    "does nothing": lambda walk: setattr(walk, "_loop", cpu_team._code_of("nothing")),
    "stops too early": lambda walk: setattr(walk, "_iterations", walk._iterations - 1),
    "goes on too far": lambda walk: setattr(walk, "_iterations", walk._iterations + 1),
    "does half": lambda walk: setattr(walk, "_iterations", walk._iterations // 2),
}


@needs_code
@pytest.mark.parametrize("fault", WRONG_WALKS)
@pytest.mark.parametrize("footprint_bytes", [16 * KIB, 8 * MIB])
def test_a_walk_that_ends_elsewhere_is_found(fault: str, footprint_bytes: int) -> None:
    work = prepare(CPU, footprint_bytes=footprint_bytes, seed=1)
    WRONG_WALKS[fault](walk_of(work))
    check = work.check()
    assert check.error == 1
    assert check.problem is not None
    assert f"after {work.accesses} loads the walk stands" in check.problem


@pytest.mark.parametrize(
    ("footprint_bytes", "kind", "fastest_ns", "slowest_ns"),
    [
        # Fastest and slowest plausible: first caches of 0.7 ns to 5 ns, memory of 60 to 400 ns.
        (16 * KIB, "cpu", 0.7, 5),
        (32 * KIB, "cpu", 0.7, 5),
        (512 * KIB, "cpu", 2.5, 20),
        (4 * MIB, "cpu", 6, 60),
        (32 * MIB, "cpu", 13, 250),
        (1024 * MIB, "cpu", 60, 400),
        (16 * KIB, "gpu-l1", 12, 200),
        (128 * KIB, "gpu-l1", 12, 200),
        (16 * KIB, "gpu-l2", 100, 400),
        (8 * MIB, "gpu-l1", 100, 900),
        (1024 * MIB, "gpu-l2", 300, 2000),
    ],
)
def test_the_usual_launch_lasts_two_to_fifty_milliseconds(
    footprint_bytes: int, kind: str, fastest_ns: float, slowest_ns: float
) -> None:
    accesses = chase.whole_iterations(None, 32, kind, footprint_bytes)
    assert accesses % 64 == 32  # an odd number of iterations
    assert accesses * fastest_ns > 1.9e6
    assert accesses * slowest_ns < 51e6


def test_accesses_are_rounded_up_to_whole_iterations_and_none_is_refused() -> None:
    rounded = [chase.whole_iterations(wanted, 64, "cpu", MIB) for wanted in (1, 64, 65, 640)]
    assert rounded == [64, 64, 128, 640]
    with pytest.raises(ValueError, match="one access or more, not 0"):
        chase.whole_iterations(0, 64, "cpu", MIB)


@pytest.mark.parametrize("footprint_bytes", [0, 64, 100, -64])
def test_a_footprint_without_a_cycle_of_whole_lines_is_refused(footprint_bytes: int) -> None:
    with pytest.raises(ValueError, match=f"lines of 64 bytes, not {footprint_bytes}"):
        prepare(CPU, footprint_bytes=footprint_bytes, seed=1)


@pytest.mark.parametrize(
    ("target", "options", "code", "words"),
    [
        (CPU, {"cache": "l2"}, "no-cache-choice", "L1"),
        (Target("mps", "mps"), {}, "no-triton-target", "this device is a mps"),
        (Target("cuda", "cuda", None), {}, "no-triton-target", "CUDA"),
        (Target("cuda", "cuda", "sm_90"), {"pages": "huge"}, "no-page-choice", "driver"),
        (Target("rocm", "cuda", "gfx1100"), {}, "architecture", "not for gfx1100"),
    ],
)
def test_a_device_without_such_a_walk_says_why(
    target: Target, options: dict[str, str], code: str, words: str
) -> None:
    with pytest.raises(Unsupported) as refused:
        prepare(target, footprint_bytes=MIB, seed=1, **options)  # type: ignore[arg-type]
    assert refused.value.code == code
    assert words in refused.value.sentence


@pytest.mark.parametrize("arch", ["sm_75", "sm_90", "sm_999", "gfx90a", "gfx942", "gfx950"])
def test_gpus_whose_loads_are_known_are_offered(arch: str) -> None:
    target = Target("rocm" if arch.startswith("gfx") else "cuda", "cuda", arch)
    assert chase.unavailable(target) is None
    assert chase.unavailable(target, cache="l2") is None


@needs_code
def test_single_accesses_are_not_timed_on_a_cpu() -> None:
    work = prepare(CPU, footprint_bytes=KIB, seed=1, accesses=1)
    with pytest.raises(Unsupported) as refused:
        chase.access_cycles(work)
    assert refused.value.code == "no-cycle-counter"


SMAPS = """\
7f0000000000-7f0000400000 rw-p 00000000 00:00 0
Size:               4096 kB
Rss:                4096 kB
AnonHugePages:      2048 kB
VmFlags: rd wr mr mw me ac dd hg
7f0000400000-7f0000800000 rw-p 00000000 00:00 0                          [anon: a name]
Size:               4096 kB
AnonHugePages:      4096 kB
7f0000800000-7f0000900000 rw-p 00000000 00:00 0
Size:               1024 kB
"""


@pytest.mark.parametrize(
    ("address", "huge_bytes"),
    [
        (0x7F0000000000, 2 * MIB),
        (0x7F0000400000, 4 * MIB),
        (0x7F0000800000, None),  # a kernel without transparent huge pages does not print the line
        (0x7F0000001000, None),
    ],
)
def test_huge_pages_are_read_of_the_mapping_that_was_meant(
    address: int, huge_bytes: int | None
) -> None:
    assert anonymous_huge_bytes(SMAPS, address) == huge_bytes


def test_neighbouring_buffers_are_mappings_of_their_own_on_huge_page_boundaries() -> None:
    buffers = [PageBuffer(3 * MIB, "huge") for _ in range(3)] + [PageBuffer(100, "default")]
    maps = Path("/proc/self/maps").read_text()
    for buffer, mapped_bytes in zip(buffers, [4 * MIB] * 3 + [4 * KIB], strict=True):
        assert buffer.address % (2 * MIB) == 0
        if mapped_bytes > 4 * KIB:
            assert buffer.mapped_bytes == mapped_bytes
        end = buffer.address + buffer.mapped_bytes
        assert re.search(rf"^{buffer.address:x}-{end:x} rw-p", maps, re.MULTILINE)
    assert [buffer.bytes.size for buffer in buffers] == [3 * MIB] * 3 + [100]


@needs_code
def test_what_pages_were_granted_is_part_of_the_conditions(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for granted, wanted in ((2 * MIB, False), (4 * MIB, True), (None, None)):
        monkeypatch.setattr(PageBuffer, "huge_bytes", lambda _, granted=granted: granted)
        config = prepare(CPU, footprint_bytes=3 * MIB, seed=1, accesses=64, pages="huge").config
        assert config["pages"] == "huge"
        assert config["huge_page_bytes"] == granted
        assert config["huge_pages_granted"] is wanted


@needs_code
def test_a_kernel_that_gives_no_advice_gives_a_buffer_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(22, "Invalid argument")

    monkeypatch.setattr(Path, "read_text", refuse)
    monkeypatch.setattr(mmap, "MADV_HUGEPAGE", 12345)  # no advice that a kernel knows
    work = prepare(CPU, footprint_bytes=MIB, seed=1, accesses=64, pages="huge")
    assert work.check().problem is None
    assert work.config["huge_page_bytes"] is None
    assert work.config["huge_pages_granted"] is None


@needs_code
@pytest.mark.alone
def test_a_load_from_memory_takes_more_than_three_times_as_long_as_one_from_the_first_cache() -> (
    None
):
    def best_ns(footprint_bytes: int) -> float:
        work = prepare(CPU, footprint_bytes=footprint_bytes, seed=1)
        durations = []
        for _ in range(7):
            start_ns = time.perf_counter_ns()
            work.launches[0]()
            durations.append(time.perf_counter_ns() - start_ns)
        return min(durations) / work.accesses

    first, memory = best_ns(16 * KIB), best_ns(256 * MIB)
    assert 0.3 < first < 20
    assert memory > 3 * first


ARCHITECTURES = (
    "sm_75",
    "sm_80",
    "sm_89",
    "sm_90",
    "sm_100",
    "sm_120",
    "gfx90a",
    "gfx942",
    "gfx950",
)
CACHES: tuple[Cache, ...] = ("l1", "l2")
CASES = [(arch, cache) for arch in ARCHITECTURES for cache in CACHES]
FIRST = [(arch, cache) for arch, cache in CASES if arch in ("sm_90", "gfx942")]


@pytest.mark.parametrize(("arch", "cache"), FIRST)
def test_each_load_of_the_loop_needs_the_one_before(arch: str, cache: Cache) -> None:
    assert_dependent(arch, cache)


@pytest.mark.aot_all
@pytest.mark.parametrize(("arch", "cache"), CASES)
def test_each_load_of_the_loop_needs_the_one_before_everywhere(arch: str, cache: Cache) -> None:
    assert_dependent(arch, cache)


@pytest.mark.parametrize(("arch", "cache"), FIRST)
def test_the_counter_is_read_before_and_after_each_load(arch: str, cache: Cache) -> None:
    assert_counted(arch, cache)


@pytest.mark.aot_all
@pytest.mark.parametrize(("arch", "cache"), CASES)
def test_the_counter_is_read_before_and_after_each_load_everywhere(arch: str, cache: Cache) -> None:
    assert_counted(arch, cache)


def amd_suffix(arch: str, cache: Cache) -> str:
    if cache == "l1":
        return ""
    return " glc" if arch == "gfx90a" else " sc1"


def instructions_of_loops(emitted: Emitted) -> list[str]:
    """Return the instructions of the loops, without labels, directives and comments."""
    lines = (line.split("//")[0].strip() for line in aot.loop_text(emitted.assembly).splitlines())
    return [line for line in lines if line and not line.startswith((".", ";", "$", "}"))]


def assert_dependent(arch: str, cache: Cache) -> None:
    emitted = source(arch, cache).compile(arch)
    assert emitted.spills == 0
    assert emitted.shared_bytes == 0
    lines = instructions_of_loops(emitted)
    loads = [line for line in lines if re.search(r"\bld\.|load", line)]
    assert len(loads) >= triton_chase.LOADS_PER_ROUND
    assert len(loads) % triton_chase.LOADS_PER_ROUND == 0  # the compiler may unroll further
    if arch.startswith("gfx"):
        wanted = (
            rf"global_load_dwordx2 v(\[\d+:\d+\]), v(\[\d+:\d+\]), off{amd_suffix(arch, cache)}"
        )
        for load, after in ((a, b) for a, b in pairwise(lines) if a in loads):
            found = re.fullmatch(wanted, load)
            assert found is not None, load
            assert found[1] == found[2]  # from where it points to, into the same registers
            assert after == "s_waitcnt vmcnt(0)"
        assert not [line for line in lines if line.startswith(("s_load", "buffer_load"))]
        return
    operator = "" if cache == "l1" else r"\.cg"
    chain = [
        re.fullmatch(rf"ld\.global{operator}\.b64 {{ (%rd\d+) }}, \[ (%rd\d+) \+ 0 \];", load)
        for load in loads
    ]
    pairs = [(found[1], found[2]) for found in chain if found is not None]
    assert len(pairs) == len(loads)
    for (result, _), (_, address) in pairwise([pairs[-1], *pairs]):
        assert result == address
    assert_dependent_sass(emitted, cache)


def assert_dependent_sass(emitted: Emitted, cache: Cache) -> None:
    """Hold the same for what the assembler made of it, where its disassembler is at hand."""
    code = aot.machine_code(emitted)
    if code is None:
        return
    form = r"\.STRONG\.GPU" if cache == "l2" else r"(?:\.SYS)?"
    # The first one loads the position; then the loops follow one another, whose first loads take
    # the address from whichever came before, so only neighbours within a block are held together.
    _, *blocks = re.split(r"(?m)^\.L_x_\d+:|\bBRA\b", code)
    kinds = re.findall(r"LDG\.\S+", "".join(blocks))
    assert kinds
    assert all(re.fullmatch(rf"LDG\.E\.64{form}", kind) for kind in kinds)
    for block in blocks:
        loads = re.findall(r"LDG\.\S+ (R\d+), (?:desc\[UR\d+\])?\[(R\d+)(?:\.64)?\] ;", block)
        assert len(loads) == block.count("LDG")
        for (result, _), (_, address) in pairwise(loads):
            assert result == address


def assert_counted(arch: str, cache: Cache) -> None:
    emitted = cycles_source(arch, cache).compile(arch)
    assert emitted.spills == 0
    if arch.startswith("gfx"):
        text = aot.loop_text(emitted.assembly)
        steps = re.findall(
            r"s_memtime|global_load_dwordx2 [^\n]*|global_store|s_waitcnt [^\n]*|s_load", text
        )
        wait, wait_all = "s_waitcnt vmcnt(0)", "s_waitcnt vmcnt(0) lgkmcnt(0)"
        arrived = "s_waitcnt lgkmcnt(0)"
        load = next(step for step in steps if "load" in step)
        assert re.fullmatch(
            rf"global_load_dwordx2 v\[\d+:\d+\], v\[\d+:\d+\], off{amd_suffix(arch, cache)}", load
        )
        one = [
            wait_all, "s_memtime", arrived, load, wait, "s_memtime", arrived, "global_store",
        ]  # fmt: skip
        assert steps == one * (len(steps) // len(one))
        return
    text = aot.loop_text(emitted.assembly)
    operator = "" if cache == "l1" else r"\.cg"
    one_access = (
        r"mov\.u64 (?P<before>%rd\d+), %clock64;\s+shr\.u64 top, (?P=before), 63;\s+"
        r"add\.u64 (?P<address>%rd\d+), %rd\d+, top;.*?"
        rf"ld\.global{operator}\.b64 {{ (?P<loaded>%rd\d+) }}, \[ (?P=address) \+ 0 \];.*?"
        r"setp\.eq\.u64 absent, (?P=loaded), 0;\s+@absent exit;\s+mov\.u64 %rd\d+, %clock64;"
    )
    assert re.search(one_access, re.sub(r"[ \t]*//[^\n]*|[ \t]*\.loc[^\n]*", "", text), re.DOTALL)
    assert text.count("%clock64") == 2
    code = aot.machine_code(emitted)
    if code is None:
        return
    loop = re.search(r"(?m)^\.L_x_\d+:\n(?:(?!^\.L_x_)[\s\S])*?CLOCKLO[\s\S]*?\bBRA", code)
    assert loop is not None
    form = ".STRONG.GPU" if cache == "l2" else ""
    steps = re.findall(r"CLOCKLO|LDG\.E\.64(?:\.STRONG\.GPU)?|@!?P\d EXIT|STG", loop[0])
    assert [re.sub(r"@!?P\d ", "", step) for step in steps] == [
        "CLOCKLO", f"LDG.E.64{form}", "EXIT", "CLOCKLO", "STG",
    ]  # fmt: skip
