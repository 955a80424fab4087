"""Ten thousand cases that nobody planned: whatever is asked for, the runner comes through."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path

import pytest

from roofprobe.kernels import routes, rows_work
from roofprobe.kernels.operands import LAYOUTS, PATTERNS
from roofprobe.kernels.rows import ROWS
from roofprobe.kernels.work import Target
from roofprobe.probes.backends import CpuBackend
from roofprobe.probes.measure import Policy
from roofprobe.probes.runner import Job, Runner
from roofprobe.records.journal import JournalWriter
from roofprobe.records.schema import Case, Measurement
from roofprobe.reporting.progress import Silent

pytestmark = pytest.mark.faults

CASES = 10_000
# Three samples of one launch each.
HASTY = Policy(batch_s=0, warmup_s=0, min_time_s=0, max_time_s=0, min_samples=1, timeout_s=60)


CPU = Target("cpu", "cpu", "x86_64", 2)
ON_CPU = [
    route for route in routes.ROUTES if not route.optional and not routes.unavailable(route, CPU)
]


def fuzzed(index: int, random_: random.Random) -> Case:
    """Return any case that the schema allows: rows, routes, scale modes, layouts, data, shapes.

    Half of the rows and routes are ones that a CPU has, the others belong to GPUs, to another row
    or to nobody; sizes are odd or aligned or zero, and some cases ask for kinds of work, layouts
    and configurations that do not exist.
    """
    if random_.random() < 0.5:
        fitting = random_.choice(ON_CPU)
        row, route = fitting.compute_row, fitting.name
    else:
        row = random_.choice(ROWS)
        names = [each.name for each in routes.routes_for(row.name)] or ["none"]
        route = random_.choice([*names, "none", "torch.mm", "no such route"])
    step = random_.choice([1, 1, 8, 16, 32])
    sizes = [random_.choice([1, 2, 3, 5]) * step for _ in range(3)]
    if random_.random() < 0.03:
        sizes[random_.randrange(3)] = random_.choice([0, -1, 1 << 40])
    return Case(
        case_id=f"fuzzed/{index}",
        family="compute",
        op=random_.choice(["gemm"] * 30 + ["stability", "no such work"]),
        precision=row.precision,
        route=route,
        shape=dict(zip("mnk", sizes, strict=True)),
        row=row.name,
        role=random_.choice(["pattern", "surface"]),
        layout=random_.choice([*LAYOUTS] * 5 + ["XX"]),
        scaling=row.scaling,
        config=random_.choice([None, None, "no such configuration"]),
        fast_accum=row.fast_accum,
        sparsity=row.sparsity,
        pattern=random_.choice([*PATTERNS] * 5 + ["no such pattern"]),
    )


@pytest.mark.timeout(600)
def test_ten_thousand_fuzzed_cases_never_crash_the_runner(tmp_path: Path) -> None:
    random_ = random.Random(20)
    # every sixteenth is an operation of a language model
    makers = (*(fuzzed,) * 15, fuzzed_operation)
    cases = tuple((makers[index % 16](index, random_), HASTY, 0.0) for index in range(CASES))
    writer = JournalWriter(tmp_path)
    runner = Runner(writer, Silent(), tmp_path, seed=1)
    # A small cache, so that few sets of buffers go round.
    cpu = CpuBackend().describe().model_copy(update={"last_level_cache_bytes": 1 << 14})
    outcome = runner.run([Job(cpu, cases)])
    writer.close()
    assert outcome.finished
    assert outcome.events == [], "a worker died or was given up"
    assert [m.case for m in outcome.measurements] == [case for case, *_ in cases]
    counts = Counter(m.status for m in outcome.measurements)
    assert counts["ok"] > CASES / 20, counts
    assert counts["skipped"] > CASES / 20, counts
    for found in outcome.measurements:
        assert_tells(found)


OPERATIONS = {
    "gemm": ("m", "n", "k"),
    "attention_prefill": ("batch", "query_len", "kv_len", "heads", "kv_heads", "head_dim"),
    "attention_decode": ("batch", "kv_len", "heads", "kv_heads", "head_dim"),
    "mla_prefill": ("batch", "query_len", "kv_len", "heads", "rope_dim", "nope_dim", "v_dim"),
    "mla_decode": ("batch", "kv_len", "heads", "kv_rank", "rope_dim"),
    "grouped_gemm": ("tokens", "experts", "topk", "hidden", "inter", "local_experts"),
    **dict.fromkeys(rows_work.OPERATIONS, ("rows", "width")),
}
ROUTES = {"gemm": "F.linear", "mla_decode": "bmm", "grouped_gemm": "loop", **dict.fromkeys(
    ("attention_prefill", "attention_decode", "mla_prefill"), "sdpa"), **{
    op: names[0] for op, names in rows_work.ROUTES.items()}}  # fmt: skip


def fuzzed_operation(index: int, random_: random.Random) -> Case:
    """Return any operation of a model: most as a processor can do them, others as nobody can."""
    op = random_.choice(list(OPERATIONS))
    sizes = {name: random_.choice([1, 2, 4, 8, 8, 16, 64]) for name in OPERATIONS[op]}
    if random_.random() < 0.1:
        sizes[random_.choice(list(sizes))] = random_.choice([0, -1, 3, 1 << 40])
    if random_.random() < 0.05:
        del sizes[random_.choice(list(sizes))]
    precision = random_.choice(["fp32"] * 4 + ["bf16", "fp16", "fp8", "nvfp4", "no such"])
    return Case(
        case_id=f"fuzzed/{index}",
        family="llm",
        op=op if random_.random() < 0.98 else "no such work",
        precision=precision,
        kv_precision=random_.choice([None, precision, "fp8"]),
        route=random_.choice([ROUTES[op]] * 6 + ["triton", "grouped_mm", "top-p", "no such"]),
        shape=sizes,
        role=random_.choice(["anchor", "eager"]),
        config=random_.choice([None] * 5 + ["balanced", "power-law-1.2", "quantised", "paged"]),
    )


def assert_tells(found: Measurement) -> None:
    """Hold a measurement to its promise: a checked figure, or a reason in a sentence."""
    if found.status == "ok":
        assert found.correctness is not None, found.case
        assert found.correctness.error <= found.correctness.tolerance, found.case
        return
    assert found.reason is not None, found.case
    assert found.reason.code, found.case
    assert found.reason.sentence.strip(), found.case
    assert found.samples_us == (), found.case
    told = found.reason.sentence
    assert found.status == "skipped", f"{found.case}: {told}"
