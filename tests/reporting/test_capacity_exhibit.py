"""What fits is arithmetic that can be done by hand."""

from __future__ import annotations

import pytest

from roofprobe.costmodel.memory import RUNTIME_RESERVE_BYTES, UTILISATION, memory_of
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.weight_memory import weight_bytes
from roofprobe.records.schema import Run
from roofprobe.reporting.beside import NOTHING
from roofprobe.reporting.capacity_exhibit import CONTEXT, MODELS, PRECISIONS, capacity
from roofprobe.reporting.exhibit import Exhibit
from roofprobe.reporting.numbers import UNKNOWN, digits


def made(run: Run, gib: int | None, **device: object) -> Exhibit | None:
    memory = None if gib is None else gib << 30
    first = run.devices[0].model_copy(update={"memory_bytes": memory, **device})
    changed = run.model_copy(update={"devices": (first, *run.devices[1:])})
    return capacity(changed, first.device_id, NOTHING)


def rows(found: Exhibit | None) -> dict[str, tuple[str, ...]]:
    assert found is not None
    (table,) = found.tables
    assert len(table.heads) == 1 + 3 * len(PRECISIONS)
    return {row[0]: row[1:] for row in table.rows}


def test_models_go_from_small_to_big() -> None:
    sizes = [weight_bytes(load_model(name), "bf16") for name in MODELS]
    assert sizes == sorted(sizes)


def test_the_requests_on_one_gpu_fill_its_memory_and_one_more_does_not_fit(
    example_run: Run,
) -> None:
    weights, gpus, requests = rows(made(example_run, 80))["llama-3.1-8b"][:3]
    shape = load_model("llama-3.1-8b")
    assert weights == digits(weight_bytes(shape, "bf16") / 1e9) == "16.1"
    assert gpus == "1"
    full, more = (
        float(memory_of(shape, context_len=CONTEXT, batch=n, step_tokens=8192).per_gpu_bytes)
        for n in (int(requests), int(requests) + 1)
    )
    assert full <= UTILISATION * (80 << 30) < more
    assert full > RUNTIME_RESERVE_BYTES


def test_large_models_take_several_gpus_and_narrow_formats_fewer(example_run: Run) -> None:
    found = rows(made(example_run, 80))
    gpus = {model: [int(cells[3 * n + 1]) for n in range(3)] for model, cells in found.items()}
    assert gpus["llama-3.1-70b"] == [2, 2, 1]
    assert all(counts == sorted(counts, reverse=True) for counts in gpus.values())
    needs = [counts[0] for counts in gpus.values()]
    assert needs == sorted(needs)


def test_the_sentence_names_the_greatest_that_fits_one_and_a_server(example_run: Run) -> None:
    found = made(example_run, 80)
    assert found is not None
    assert "80.0 GiB the greatest of these models that fits in bf16 is qwen3-32b" in found.sentence
    assert "A server of 8 holds qwen3-235b-a22b on 8" in found.sentence
    assert "arithmetic, not a measurement" in found.sentence


def test_a_host_has_no_neighbours_to_share_with(example_run: Run) -> None:
    found = rows(made(example_run, 24, backend="cpu"))
    assert found["llama-3.1-8b"][1] == "1"
    assert found["llama-3.1-70b"][1:3] == (UNKNOWN, UNKNOWN)
    shown = made(example_run, 24, backend="cpu")
    assert shown is not None
    assert "server" not in shown.sentence


def test_where_nothing_fits_it_says_so(example_run: Run) -> None:
    found = made(example_run, 1, backend="cpu")
    assert found is not None
    assert "none fits 1.00 GiB" in found.sentence


@pytest.mark.parametrize("gib", [None, 0])
def test_unknown_memory_fits_nothing(example_run: Run, gib: int | None) -> None:
    assert made(example_run, gib) is None


def test_of_devices_of_a_kind_the_first_has_the_table(judged_run: Run) -> None:
    shown = [capacity(judged_run, d.device_id, NOTHING) is not None for d in judged_run.devices]
    assert shown == [True, False, True]  # two GPUs of a kind, and a processor
