"""Planning: promised keys, order, errors as data, and numbers that follow from the parts."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import roofprobe
from roofprobe.costmodel.calibration import Calibration, default_calibration
from roofprobe.costmodel.evaluate import capacities
from roofprobe.costmodel.plan import plan_all
from roofprobe.costmodel.plan_cases import BadCase, PlanCase
from roofprobe.costmodel.plan_layout import Planner
from roofprobe.records.errors import RoofprobeError

GPU = "H100 SXM"
PROMISED = {
    "model", "precision", "kv_precision", "tp", "pp", "ep", "dp", "input_len", "output_len", "gpus",
    "ttft_ms", "tpot_ms", "e2e_ms", "tokens_per_second", "tokens_per_second_per_gpu", "memory_gb",
    "max_batch", "min_gpus", "bound", "out_of_range",
}  # fmt: skip


@pytest.fixture(scope="module")
def h100() -> Calibration:
    return default_calibration(GPU)


def plan_one(calibration: Calibration, **case: Any) -> dict[str, Any]:
    (found,) = plan_all([PlanCase(**case)], calibration)
    return found


def test_an_object_has_the_promised_keys(h100: Calibration) -> None:
    found = plan_one(h100, model="llama-3.1-8b", concurrency=8)
    assert set(found) >= PROMISED | {"concurrency"}
    for key in ("ttft_ms", "tpot_ms", "e2e_ms"):
        assert set(found[key]) == {"median", "p10", "p90"}
        assert 0 < found[key]["p10"] < found[key]["median"] < found[key]["p90"]
    assert set(found["memory_gb"]) >= {"weights", "kv_cache", "activations", "total", "per_gpu"}
    assert set(found["bound"]) == {"prefill", "decode"}
    assert set(found["bound"].values()) <= {"compute", "memory", "latency"}
    assert all(sentence.endswith(".") for sentence in found["out_of_range"])


def test_static_batches_end_to_end_is_first_token_and_the_others(h100: Calibration) -> None:
    found = plan_one(h100, model="llama-3.1-8b", batch=4, input_len=500, output_len=101)
    assert found["e2e_ms"]["median"] == pytest.approx(
        found["ttft_ms"]["median"] + 100 * found["tpot_ms"]["median"], rel=1e-6
    )
    assert found["tokens_per_second"] == pytest.approx(
        4 * 101 / found["e2e_ms"]["median"] * 1e3, rel=1e-6
    )


def test_nothing_is_faster_than_the_peaks_allow(h100: Calibration) -> None:
    found = plan_one(h100, model="llama-3.1-8b", batch=1, input_len=4096, output_len=128)
    weights_ms = 2 * 7.5e9 / 3.35e12 * 1e3  # all but the table of embeddings, read per token
    assert found["tpot_ms"]["median"] > weights_ms
    assert found["ttft_ms"]["median"] > 2 * 6.98e9 * 4096 / 989e12 * 1e3
    assert found["bound"] == {"prefill": "compute", "decode": "memory"}


def test_memory_is_that_of_all_gpus(h100: Calibration) -> None:
    one = plan_one(h100, model="llama-3.1-8b", batch=2, input_len=1000, output_len=24)
    two = plan_one(h100, model="llama-3.1-8b", batch=4, input_len=1000, output_len=24, dp=2)
    assert one["memory_gb"]["weights"] == pytest.approx(16.06, abs=0.01)
    assert one["memory_gb"]["kv_cache"] == pytest.approx(2 * 1024 * 131072 / 1e9, abs=1e-3)
    assert two["memory_gb"]["weights"] == pytest.approx(2 * one["memory_gb"]["weights"])
    assert two["memory_gb"]["per_gpu"] == one["memory_gb"]["per_gpu"]
    assert two["max_batch"] == 2 * one["max_batch"]


def test_copies_serve_an_even_share(h100: Calibration) -> None:
    one = plan_one(h100, model="llama-3.1-8b", concurrency=8)
    two = plan_one(h100, model="llama-3.1-8b", concurrency=16, dp=2)
    assert two["tpot_ms"] == one["tpot_ms"]
    assert two["tokens_per_second"] == pytest.approx(2 * one["tokens_per_second"])
    assert two["tokens_per_second_per_gpu"] == pytest.approx(one["tokens_per_second_per_gpu"])


def test_more_requests_than_the_cache_holds_wait_and_say_so(h100: Calibration) -> None:
    few, many = (
        plan_one(h100, model="llama-3.1-8b", concurrency=c, input_len=30000, output_len=1000)
        for c in (8, 400)
    )
    room = many["max_batch"]
    assert 8 < room < 30
    assert any("fit its KV cache" in sentence for sentence in many["out_of_range"])
    assert not any("fit its KV cache" in sentence for sentence in few["out_of_range"])
    assert many["ttft_ms"]["median"] > 10 * few["ttft_ms"]["median"]


def test_an_fp8_cache_holds_twice_as_many(h100: Calibration) -> None:
    planner = Planner(80 << 30)
    cases = [
        planner.plan(PlanCase("llama-3.1-8b", kv_precision=kv, input_len=30000))
        for kv in ("bf16", "fp8")
    ]
    room, most = capacities(cases, h100)
    assert most[1] in (2 * most[0], 2 * most[0] + 1)
    assert list(room) >= list(most)


def test_one_output_token_has_no_time_per_further_token(h100: Calibration) -> None:
    found = plan_one(h100, model="llama-3.1-8b", output_len=1)
    assert found["tpot_ms"] is None
    assert found["e2e_ms"]["median"] == found["ttft_ms"]["median"]
    json.dumps(found, allow_nan=False)


def test_a_load_is_carried_by_whole_systems(h100: Calibration) -> None:
    found = plan_one(
        h100, model="llama-3.1-70b", tp=4, concurrency=32, tokens_per_minute=1e6,
        requests_per_second=1.0,
    )  # fmt: skip
    per_minute = 60 * found["tokens_per_second"]
    assert found["replicas"] == math.ceil(1e6 / per_minute)
    assert found["gpus_for_load"] == 4 * found["replicas"]


def test_targets_ask_for_more_gpus(h100: Calibration) -> None:
    loose = plan_one(h100, model="llama-3.1-70b", tp=4)
    tight = plan_one(h100, model="llama-3.1-70b", tp=4, tpot_ms=20.0)
    never = plan_one(h100, model="llama-3.1-70b", tp=4, tpot_ms=0.1)
    assert loose["min_gpus"] == 2
    assert tight["min_gpus"] == 4
    assert loose["tpot_ms"]["median"] == tight["tpot_ms"]["median"] < 20
    assert never["min_gpus"] is None


def test_only_gpus_said_is_one_copy_that_fits(h100: Calibration) -> None:
    found = plan_one(h100, model="llama-3.1-70b", gpus=8)
    assert (found["tp"], found["pp"], found["dp"]) == (8, 1, 1)
    large = plan_one(h100, model="deepseek-v3", gpus=16)
    assert (large["tp"], large["pp"], large["dp"]) == (8, 2, 1)


def test_cases_come_back_in_order_with_errors_in_their_place(h100: Calibration) -> None:
    found = plan_all(
        [
            PlanCase("llama-3.1-8b", input_len=100),
            BadCase({"model": "a", "tp": "x"}, "bad-value", "tp is 'x', which is no number."),
            PlanCase("qwen3-32b", input_len=200),
            PlanCase("llama-3.1-8b", input_len=300),
        ],
        h100,
    )
    assert [one.get("input_len") for one in found] == [100, None, 200, 300]
    assert found[1] == {
        "model": "a", "tp": "x",
        "error": {"code": "bad-value", "sentence": "tp is 'x', which is no number."},
    }  # fmt: skip


@pytest.mark.parametrize(
    ("case", "code"),
    [
        ({"model": "llama-3.1-405b"}, "does-not-fit"),
        ({"model": "llama-3.1-8b", "batch": 4096, "input_len": 60000}, "does-not-fit"),
        ({"model": "llama-3.1-8b", "tp": 3}, "bad-parallelism"),
        ({"model": "llama-3.1-8b", "tp": 64}, "bad-parallelism"),
        ({"model": "llama-3.1-8b", "pp": 33}, "bad-parallelism"),
        ({"model": "llama-3.1-8b", "ep": 2}, "bad-parallelism"),
        ({"model": "mixtral-8x7b", "ep": 16}, "bad-parallelism"),
        ({"model": "mixtral-8x7b", "tp": 2, "ep": 8, "dp": 3}, "bad-parallelism"),
        ({"model": "llama-3.1-8b", "tp": 2, "gpus": 3}, "bad-parallelism"),
        ({"model": "llama-3.1-8b", "batch": 3, "dp": 2}, "bad-parallelism"),
        ({"model": "llama-3.1-8b", "input_len": 131072}, "too-long"),
        ({"model": "llama-3.1-8b", "precision": "fp7"}, "unknown-precision"),
        ({"model": "llama-3.1-8b", "kv_precision": "int3"}, "unknown-precision"),
        ({"model": "llama-3.1-8b", "precision": "nvfp4"}, "no-peak"),
        ({"model": "lama"}, "unknown-model"),
    ],
)
def test_what_cannot_be_planned_says_why_in_one_sentence(
    h100: Calibration, case: dict[str, Any], code: str
) -> None:
    found = plan_one(h100, **case)
    assert found["error"]["code"] == code
    assert found["error"]["sentence"].endswith(".")
    assert "ttft_ms" not in found
    with pytest.raises(RoofprobeError) as error:
        roofprobe.plan(calibration=h100, **case)
    assert error.value.code == code
    assert error.value.exit_code == 2


def test_what_does_not_fit_says_how_many_gpus_would() -> None:
    with pytest.raises(RoofprobeError, match="at least 4 GPUs are needed"):
        roofprobe.plan("llama-3.1-70b", gpu=GPU, batch=32, input_len=4000)


def test_the_functions_of_the_package_take_files_mappings_and_single_cases(tmp_path: Path) -> None:
    file = tmp_path / "cases.csv"
    file.write_text("model,concurrency\nllama-3.1-8b,8\n")
    single = roofprobe.plan("llama-3.1-8b", gpu=GPU, concurrency=8)
    rows = [{"model": "llama-3.1-8b", "concurrency": 8}]
    assert roofprobe.plan_cases(file, gpu=GPU) == roofprobe.plan_cases(rows, gpu=GPU) == [single]


def test_prompts_in_steps_of_their_own_are_slower() -> None:
    mixed, apart = (
        roofprobe.plan("llama-3.1-8b", gpu=GPU, concurrency=64, output_len=128, mixed=mixed)
        for mixed in (True, False)
    )
    assert mixed["tpot_ms"]["median"] < apart["tpot_ms"]["median"]


def test_a_device_must_be_named() -> None:
    with pytest.raises(RoofprobeError, match="--calibration FILE or a catalogue GPU") as error:
        roofprobe.plan("llama-3.1-8b")
    assert error.value.code == "no-calibration"


def test_an_unknown_gpu_is_an_error() -> None:
    with pytest.raises(RoofprobeError) as error:
        roofprobe.plan("llama-3.1-8b", gpu="Voodoo 2")
    assert error.value.code == "unknown-accelerator"
