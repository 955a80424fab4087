"""Twenty thousand files that nobody should have written: each is read, or refused in a sentence.

Every reader of ours meets mutations of a valid document and arbitrary bytes. Only a
``RoofprobeError`` may come out, with one printable line. The inputs are counted as they are read.
"""

from __future__ import annotations

import csv
import io
import json
import random
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from roofprobe.acceptance.bundle.archive import write_bundle
from roofprobe.acceptance.bundle.redaction import Redactor
from roofprobe.costmodel.calibration_file import CalibrationFile, read_calibration
from roofprobe.costmodel.exporters.parquet import parquet_bytes
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.plan_cases import COLUMNS, BadCase, read_cases
from roofprobe.costmodel.table_sets import read_tables
from roofprobe.records.errors import RoofprobeError
from roofprobe.records.fleet.batches import Job, read_batch
from roofprobe.records.fleet.find import Found
from roofprobe.records.journal import Header, read_journal
from roofprobe.records.runfolder import read_run
from roofprobe.records.schema import Event, Measurement, Run
from roofprobe.records.tables import measurements_csv
from roofprobe.reporting.markdown import to_markdown
from roofprobe.reporting.terminal import render_run

# Idle it takes a minute in all; the limit is for a host that others keep busy.
pytestmark = [pytest.mark.faults, pytest.mark.timeout(400)]

INPUTS = 20_000
_seeds = st.integers(0, (1 << 48) - 1)
_read: Counter[str] = Counter()
_outcomes: Counter[tuple[str, str]] = Counter()


def fuzz(count: int) -> Callable[[Any], Any]:
    """Run a test on ``count`` seeds, the same ones each time."""
    quick = settings(
        max_examples=count, deadline=None, derandomize=True, database=None,
        phases=(Phase.explicit, Phase.generate), suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    return lambda test: quick(given(_seeds)(test))


def survives(reader: str, read: Callable[[], Any]) -> Any:
    """Return what ``read`` returns, None where it refused with a sentence; count it."""
    _read[reader] += 1
    try:
        found = read()
    except RoofprobeError as error:
        _outcomes[(reader, "refused")] += 1
        expect_one_line(error)
        return None
    _outcomes[(reader, "read")] += 1
    return found


def expect_one_line(error: RoofprobeError) -> None:
    assert error.code
    assert error.sentence.strip()
    assert "\n" not in error.sentence
    assert "\x1b" not in error.sentence
    assert error.sentence.encode()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzzed")


@pytest.fixture(scope="module")
def run(documents: ModuleType) -> dict[str, Any]:
    made = documents.fill(Run, lambda: "text")
    return {**made, "schema_version": 1, "measurements": made["measurements"] * 2}


@pytest.fixture(scope="module")
def journal(documents: ModuleType) -> list[dict[str, Any]]:
    def line(kind: str, record: Any) -> dict[str, Any]:
        return {"kind": kind, **documents.fill(record, lambda: "text")}

    return [line("header", Header), line("measurement", Measurement), line("event", Event)]


def put(path: Path, data: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@fuzz(4_000)
def test_run_json(documents: ModuleType, folder: Path, run: dict[str, Any], seed: int) -> None:
    file = put(folder / "run.json", documents.mutated(run, seed))
    survives("run.json", lambda: read_run(file))


@fuzz(400)
def test_runs_that_are_read_are_shown(
    documents: ModuleType, folder: Path, run: dict[str, Any], seed: int
) -> None:
    """A mutation that the schema allows is a run: its views must come through too."""
    from rich.console import Console

    file = put(folder / "shown.json", documents.mutated(run, seed))
    found = survives("shown run", lambda: read_run(file))
    if found is not None:
        render_run(found, Console(file=io.StringIO(), width=100), full=True)
        to_markdown(found)
        measurements_csv(found)


@fuzz(150)
def test_runs_that_are_merged(
    documents: ModuleType, folder: Path, run: dict[str, Any], seed: int
) -> None:
    """Twenty hosts' records at a time: each is in the part or refused, whatever the others are."""
    chance = random.Random(seed)
    found = []
    for number in range(20):
        data = documents.mutated(run, chance.getrandbits(48))
        found.append(Found(put(folder / f"merged-{number}.json", data), str(number)))
    made = survives("merged runs", lambda: read_batch(Job(tuple(found), str(folder), None)))
    assert len(made.standings) + len(made.refused) == len(found)
    for refused in made.refused:
        expect_one_line(RoofprobeError(refused.code, refused.sentence))
    for part in folder.glob("*.parquet"):
        part.unlink()


@fuzz(4_000)
def test_journal(
    documents: ModuleType, folder: Path, journal: list[dict[str, Any]], seed: int
) -> None:
    chance = random.Random(seed)
    lines = [json.dumps(line).encode() for line in journal]
    for _ in range(chance.choice((1, 1, 2))):
        at = chance.randrange(len(lines))
        lines[at] = documents.mutated(journal[at % len(journal)], chance.getrandbits(32))
    if chance.random() < 0.2:
        chance.shuffle(lines)
    data = b"\n".join(lines) + chance.choice((b"\n", b"\n", b"", b"\n\n", b"\r\n"))
    data = documents.broken(data, chance) if chance.random() < 0.2 else data
    put(folder / "journal" / "journal.jsonl", data)
    survives("journal.jsonl", lambda: read_journal(folder / "journal"))


@fuzz(3_000)
def test_calibration(documents: ModuleType, folder: Path, seed: int) -> None:
    valid = documents.fill(CalibrationFile, lambda: "text")
    file = put(folder / "calibration.json", documents.mutated(valid, seed))
    survives("calibration.json", lambda: read_calibration(file))


GROUPS = {"group_0": {"weights": {"type": "float", "num_bits": 8}}}
QUANTISED = {
    "quant_method": "compressed-tensors", "ignore": ["lm_head", "re:.*mlp\\.gate$"],
    "config_groups": GROUPS,
}  # fmt: skip
CONFIGS: tuple[dict[str, Any], ...] = (
    {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 4096,
     "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8,
     "num_hidden_layers": 4, "vocab_size": 128256, "torch_dtype": "bfloat16",
     "max_position_embeddings": 8192, "tie_word_embeddings": False,
     "quantization_config": QUANTISED},
    {"architectures": ["MixtralForCausalLM"], "model_type": "mixtral", "hidden_size": 4096,
     "intermediate_size": 14336, "num_attention_heads": 32, "num_key_value_heads": 8,
     "num_hidden_layers": 4, "vocab_size": 32000, "num_local_experts": 8, "num_experts_per_tok": 2,
     "sliding_window": None, "dtype": "float16",
     "quantization_config": {"quant_method": "awq", "bits": 4, "group_size": 128}},
    {"architectures": ["DeepseekV3ForCausalLM"], "model_type": "deepseek_v3", "hidden_size": 7168,
     "intermediate_size": 18432, "moe_intermediate_size": 2048, "num_attention_heads": 128,
     "num_key_value_heads": 128, "num_hidden_layers": 5, "vocab_size": 129280,
     "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
     "first_k_dense_replace": 3, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_rope_head_dim": 64,
     "qk_nope_head_dim": 128, "v_head_dim": 128, "moe_layer_freq": 1, "torch_dtype": "bfloat16",
     "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}},
    {"architectures": ["Qwen2VLForConditionalGeneration"], "model_type": "qwen2_vl",
     "hidden_size": 1536, "intermediate_size": 8960, "num_attention_heads": 12,
     "num_key_value_heads": 2, "num_hidden_layers": 2, "vocab_size": 151936,
     "vision_config": {"depth": 2, "embed_dim": 1280, "num_heads": 16, "mlp_ratio": 4,
                       "patch_size": 14, "spatial_merge_size": 2, "in_chans": 3,
                       "hidden_size": 1536, "temporal_patch_size": 2}},
)  # fmt: skip


@fuzz(5_000)
def test_model_config(documents: ModuleType, folder: Path, seed: int) -> None:
    valid = CONFIGS[seed % len(CONFIGS)]
    file = put(folder / "model" / "config.json", documents.mutated(valid, seed))
    survives("config.json", lambda: load_model(file.parent, allow_approximate=seed % 3 == 0))


CELLS = (
    "", "nan", "-1", "1e309", "x", "١٢", "9" * 400, "=1+1", "\x00", '"', "True", "0x10", "inf",
    "\u202e", "1,2", "None", "0", "1e-320", "2020-01-01", " 1 ", "gemm", "latency_ms",
)  # fmt: skip


def table(chance: random.Random, names: tuple[str, ...], rows: list[tuple[Any, ...]]) -> bytes:
    """Return a CSV of ``rows`` with a few cells, columns or lines changed."""
    lines = [list(map(str, names)), *(list(map(str, row)) for row in rows)]
    for _ in range(chance.randrange(3)):
        row = chance.choice(lines)
        if row:
            at = chance.randrange(len(row))
            way = chance.randrange(4)
            if way == 0:
                del row[at]
            elif way == 1:
                row.insert(at, chance.choice(CELLS))
            else:
                row[at] = chance.choice(CELLS)
    text = io.StringIO()
    csv.writer(text, lineterminator=chance.choice(("\n", "\r\n"))).writerows(lines)
    return text.getvalue().encode("utf-8", "surrogatepass")


@fuzz(3_200)
def test_cases(documents: ModuleType, folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    row = ("llama-3.1-8b", "bf16", "fp8", 2, 1, 1, 1, "", 8, 512, 128, 4, 200, 30, "", 2)
    data = table(chance, COLUMNS, [row] * 3)
    data = documents.broken(data, chance) if chance.random() < 0.4 else data
    file = put(folder / "cases.csv", data)
    found = survives("--cases", lambda: read_cases(file, {}))
    for case in found or ():
        assert not isinstance(case, BadCase) or case.sentence


GEMM = ("device", "framework", "op_name", "gemm_dtype", "m", "n", "k", "latency_ms")
GEMM_ROWS: list[tuple[Any, ...]] = [
    ("NVIDIA H200", "vllm", "gemm", "bfloat16", m, 4096, 4096, 0.1 + m / 1e4) for m in (1, 16, 256)
]
ATTENTION = ("system", "op_name", "batch_size", "isl", "num_heads", "num_key_value_heads",
             "head_dim", "attn_dtype", "kv_cache_dtype", "step", "latency_us")  # fmt: skip
ATTENTION_ROWS: list[tuple[Any, ...]] = [
    ("h100_sxm", name, b, 128, 32, 8, 128, "bfloat16", "fp8", 1, 55.5)
    for name in ("context_attention", "generation_attention") for b in (1, 8)
]  # fmt: skip
TABLES = ((GEMM, GEMM_ROWS), (ATTENTION, ATTENTION_ROWS))


@fuzz(500)
def test_op_tables_in_csv(documents: ModuleType, folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    data = table(chance, *chance.choice(TABLES))
    data = documents.broken(data, chance) if chance.random() < 0.4 else data
    file = put(folder / "table.csv", data)
    survives("op table, CSV", lambda: read_tables(file))


@fuzz(150)
def test_op_tables_in_parquet(documents: ModuleType, folder: Path, seed: int) -> None:
    chance = random.Random(seed)
    names, rows = chance.choice(TABLES)
    columns: dict[str, tuple[str, list[Any]]] = {}
    for name, *values in zip(names, *rows, strict=True):
        kind = "text" if isinstance(values[0], str) else "float"
        if kind == "text":
            columns[name] = (kind, [chance.choice([*values, "", "x"]) for _ in values])
        else:
            columns[name] = (kind, [chance.choice([float(v), -1.0, 1e300]) for v in values])
    data = parquet_bytes(columns)
    data = documents.broken(data, chance) if chance.random() < 0.8 else data
    file = put(folder / "table.parquet", data)
    survives("op table, Parquet", lambda: read_tables(file))


@fuzz(100)
def test_folders_of_planners(documents: ModuleType, folder: Path, seed: int) -> None:
    """An InferSim folder with a GEMM table and one of heads; and paths that say something else."""
    chance = random.Random(seed)
    root = folder / f"tree{seed}" / chance.choice(("bench_data", "gemm", "x y", "mha"))
    heads = chance.choice(("32-8-128", "x", "1-1", "-", "9" * 100, "32-8-128-64"))
    gpu = chance.choice(("h20", "h20", "no such", "H100 SXM", "..x"))
    gemm = table(chance, ("m", "k", "n", "latency_us", "mfu"), [(4096, 2048, 6144, 700, 0.5)] * 2)
    decode = table(chance, ("dtype", "kv_dtype", "batch_size", "kv_len", "latency_us", "mfu"),
                   [("bf16", "bf16", 1, 1024, 10, 0.01)] * 2)  # fmt: skip
    put(root / "gemm" / gpu / "data.csv", gemm)
    put(root / "mha" / "decode" / gpu / f"{heads}.csv", decode)
    survives("folder of tables", lambda: read_tables(root.parent, gpu="nvidia_h20_96gb"))


@fuzz(150)
def test_bundles(
    documents: ModuleType,
    folder: Path,
    run: dict[str, Any],
    journal: list[dict[str, Any]],
    seed: int,
) -> None:
    chance = random.Random(seed)
    made = folder / "bundled"
    put(made / "run.json", documents.mutated(run, seed))
    lines = [documents.mutated(line, chance.getrandbits(32)) for line in journal]
    put(made / "journal.jsonl", b"\n".join(lines))
    put(made / "worker-cpu.log", documents.broken(b"some log\n" * 9, chance))
    redactor = Redactor(known={"text7": "host"})
    out = folder / "b.zip"
    survives(
        "bundle",
        lambda: write_bundle(made, out, redactor=redactor, render=lambda run, documents: {}),
    )


values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
anything = (
    st.binary(max_size=300)
    | st.text(max_size=100).map(lambda text: text.encode("utf-8", "replace"))
    | values.map(lambda value: json.dumps(value).encode())
)


@settings(
    max_examples=150, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
@given(anything)
def test_arbitrary_bytes_and_json(folder: Path, data: bytes) -> None:
    readers: dict[str, Callable[[Path], Any]] = {
        "run.json": read_run, "calibration.json": read_calibration, "config.json": load_model,
        "cases.csv": lambda file: read_cases(file, {}), "table.csv": read_tables,
        "table.csv.gz": read_tables,
    }  # fmt: skip
    for name, read in readers.items():
        survives(f"any {name}", partial(read, put(folder / "any" / name, data)))
    put(folder / "any" / "journal.jsonl", data + b"\n")
    survives("any journal.jsonl", lambda: read_journal(folder / "any"))


def test_twenty_thousand_inputs_were_read(request: pytest.FixtureRequest) -> None:
    """Tests of one file run in one process, this one last; alone it has nothing to count."""
    chosen = [item for item in request.session.items if item.path == request.path]
    if len(chosen) < 10:
        pytest.skip("a part of the file was chosen")
    assert sum(_read.values()) >= INPUTS, _read
    for reader in ("run.json", "journal.jsonl", "calibration.json", "config.json", "--cases",
                   "op table, CSV", "op table, Parquet", "folder of tables", "bundle"):  # fmt: skip
        refused, read = _outcomes[(reader, "refused")], _outcomes[(reader, "read")]
        assert read > 0, f"{reader}: mutations that leave a document valid are read"
        assert refused > 0 or reader == "bundle", f"{reader}: most mutations are refused"
