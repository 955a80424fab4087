"""The founding notes: their figures against each other, and against what the model gives."""

from __future__ import annotations

from dataclasses import replace

import pytest

from roofprobe.costmodel import founding_notes as notes
from roofprobe.costmodel.calibration import default_calibration
from roofprobe.costmodel.founding_model import (
    MIXED_PRECISION_ADAM,
    decode_step,
    deployment,
    experts_of,
    fit_of,
    fit_with,
    layout_over,
    least_decode_s,
    least_prefill_s,
    planned,
    prompts,
    visited_experts,
)
from roofprobe.costmodel.memory import RULE_BYTES, rule_of_thumb_bytes, weight_bytes
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.plan_layout import Degrees
from roofprobe.costmodel.sizing import cold_start_s
from roofprobe.costmodel.steps import Layout
from roofprobe.costmodel.throughput import throughput
from roofprobe.peaks.find import find
from roofprobe.peaks.founding_notes import founding_columns
from roofprobe.records.errors import RoofprobeError

ROWS = [(row, cards) for row in notes.RECOMMENDATIONS for cards in row.options]
WORKING = [(row, cards) for row, cards in ROWS if row.model != "gpt-3-175b"]
A100 = "A100 SXM 80GB"


def named(pair: object) -> str:
    return str(getattr(pair, "title", None) or getattr(pair, "gpu", pair))


@pytest.mark.parametrize(("row", "cards"), ROWS, ids=named)
def test_weights_are_those_of_the_notes_to_5_percent(
    row: notes.Recommendation, cards: notes.Cards
) -> None:
    assert fit_of(row, cards).weights_bytes / 1e9 == pytest.approx(row.weights_gb, rel=0.05)


@pytest.mark.parametrize("row", notes.RECOMMENDATIONS[-4:], ids=named)
def test_the_file_sizes_of_the_notes_are_exact(row: notes.Recommendation) -> None:
    counted = fit_of(row, row.options[0]).weights_bytes / 1e9
    assert counted == pytest.approx(row.weights_gb, abs=0.005)


@pytest.mark.parametrize(("row", "cards"), WORKING, ids=named)
def test_recommendations_fit_and_no_fewer_cards_would(
    row: notes.Recommendation, cards: notes.Cards
) -> None:
    found = fit_of(row, cards)
    assert found.fits
    assert found.per_card_bytes <= found.used_bytes
    assert found.room_tokens >= found.requests * 2048
    assert found.min_gpus == cards.count == found.degrees.gpus


def test_gpt_3_on_five_cards_has_no_room_though_it_is_within_their_memory() -> None:
    row = next(row for row in notes.RECOMMENDATIONS if row.model == "gpt-3-175b")
    (cards,) = row.options
    model = load_model(row.model)
    assert model.heads % cards.count != 0
    found = fit_of(row, cards)
    assert (found.degrees.tp, found.degrees.pp) == (1, 5)
    assert not found.fits
    assert found.room_tokens == 0
    assert found.used_bytes < found.per_card_bytes < found.card_bytes
    assert found.min_gpus == 8
    six = fit_with(model, "bf16", replace(cards, count=6), Degrees(6, 1, 1, 1))
    assert six.fits
    four = fit_with(model, "bf16", replace(cards, count=4), Degrees(4, 1, 1, 1))
    assert four.per_card_bytes > four.card_bytes
    refused = planned(A100, model=row.model, precision="bf16", tp=5)
    assert refused["error"]["code"] == "bad-parallelism"


def test_a_layout_takes_the_widest_tensor_parallelism_that_divides() -> None:
    model = load_model("llama-2-70b")
    found = [layout_over(model, gpus) for gpus in (1, 5, 6, 8, 16)]
    assert [(d.tp, d.pp) for d in found] == [(1, 1), (1, 5), (2, 3), (8, 1), (8, 2)]


def test_the_memory_rules_are_the_notes() -> None:
    for (purpose, precision), gb in notes.MEMORY_GB_PER_BILLION.items():
        assert rule_of_thumb_bytes(1e9, precision, purpose) == gb * 1e9
    assert set(notes.MEMORY_GB_PER_BILLION) | {("inference", "bf16"), ("training", "bf16")} == set(
        RULE_BYTES
    )
    assert sum(MIXED_PRECISION_ADAM.values()) == 16 < RULE_BYTES["training", "fp16"]


def test_the_h20_hosts_figures_agree_if_tokens_are_counted_both_ways() -> None:
    host = notes.H20_HOST
    tokens = host.input_len + host.output_len
    assert host.requests_per_second * tokens == pytest.approx(host.tokens_per_second, rel=0.01)
    assert host.tokens_per_second_per_card * host.cards == pytest.approx(349.1, abs=0.1)
    assert host.tokens_per_second * 60 == host.tokens_per_minute
    assert host.wanted_tokens_per_minute / host.tokens_per_minute == pytest.approx(952.4, abs=0.1)


def test_the_a800_tests_figures_are_one_measurement() -> None:
    test = notes.A800_TEST
    assert test.requests / test.latency_s == pytest.approx(test.tokens_per_second, rel=0.005)
    assert test.tokens_per_second / test.cards == pytest.approx(
        test.tokens_per_second_per_card, rel=0.001
    )


def test_the_pipelines_light_load_is_one_request_and_its_heavy_load_contradicts_itself() -> None:
    box = notes.PIPELINE
    tokens = box.input_len + box.output_len
    e2e = [(t + p * box.output_len) / 1e3 for t, p in zip(box.ttft_ms, box.tpot_ms, strict=True)]
    assert e2e == pytest.approx(box.e2e_s, rel=0.01)
    light, heavy = (total / tokens for total in box.total_tokens_per_second)
    assert light * e2e[0] == pytest.approx(1.0, abs=0.01)
    assert round(light, 2) == box.requests_per_second[0]
    assert heavy * e2e[1] == pytest.approx(160, abs=0.5)
    assert heavy / box.requests_per_second[1] == pytest.approx(1.11, abs=0.01)
    assert box.tokens_per_second_per_card[1] * box.cards < box.total_tokens_per_second[1]


def test_measured_decode_lies_between_the_peaks_and_what_operations_need() -> None:
    host, layout = notes.H20_HOST, Layout(tp=8)
    calibration, model = default_calibration(host.gpu), load_model(host.model)
    precision = model.checkpoint.precision
    least = least_decode_s(
        calibration, model, batch=8, context=1536, precision=precision, layout=layout
    )
    step = decode_step(
        calibration, model, batch=8, context=1536, precision=precision, layout=layout
    )
    assert 2 * least < step.median_s < host.tpot_ms / 1e3
    prompt = least_prefill_s(
        calibration, model, prompts=1, input_len=1024, precision=precision, layout=layout
    )
    assert prompt < host.ttft_ms / 1e3


def test_serving_deepseek_reached_a_like_share_of_its_operations_on_one_and_two_hosts() -> None:
    box, host = notes.PIPELINE, notes.H20_HOST
    one = planned(host.gpu, model=host.model, tp=host.cards, concurrency=8)
    light, heavy = (
        planned(host.gpu, model=host.model, tp=host.cards, pp=2, concurrency=concurrency)
        for concurrency in (1, 160)
    )
    share = host.requests_per_second / one["requests_per_second"]
    total = heavy["requests_per_second"] * (box.input_len + box.output_len)
    heavy_share = box.total_tokens_per_second[1] / total
    light_share = light["tpot_ms"]["median"] / box.tpot_ms[0]
    assert 0.3 < share < 0.6
    assert 0.3 < heavy_share < 0.6
    assert heavy_share == pytest.approx(share, rel=0.25)
    assert light_share < 0.7 * heavy_share
    assert one["ttft_ms"]["p90"] < host.ttft_ms


def test_the_heavy_loads_ttft_is_waiting() -> None:
    box, host = notes.PIPELINE, notes.H20_HOST
    found = planned(host.gpu, model=host.model, tp=host.cards, pp=2, concurrency=160)["ttft_ms"]
    assert found["median"] < box.ttft_ms[1] / 10
    assert found["p90"] == pytest.approx(box.ttft_ms[1], rel=0.25)


@pytest.mark.parametrize(("row", "cards"), WORKING, ids=named)
def test_prefill_is_bound_by_compute_and_decode_by_memory_unless_products_are_short(
    row: notes.Recommendation, cards: notes.Cards
) -> None:
    bound = planned(cards.gpu, model=row.model, tp=cards.count, concurrency=1)["bound"]
    short = load_model(row.model).experts > 0 or (row.weights_gb < 10 and cards.gpu == "H20 96G")
    assert bound == {"prefill": "compute", "decode": "latency" if short else "memory"}


def test_the_a800_engine_was_slower_than_its_operations() -> None:
    test = notes.A800_TEST
    found = planned(test.gpu, model=test.model, precision=test.precision, tp=test.cards,
                    batch=test.requests, input_len=test.input_len,
                    output_len=test.output_len)  # fmt: skip
    assert 0.4 < test.tokens_per_second / found["tokens_per_second"] < 1.0
    per_token = found["e2e_ms"]["median"] / 1e3 / test.output_len
    assert test.requests / per_token == pytest.approx(found["tokens_per_second"], rel=0.01)


@pytest.mark.parametrize("gpu", ["L20", "A100 SXM 80GB", "H20 96G"])
def test_ttft_is_a_line_between_a_floor_and_attention(gpu: str) -> None:
    one, short, middle, long, longest = prompts(
        gpu, "deepseek-r1-distill-qwen-7b", (1, 100, 2048, 5000, 131_072), "bf16"
    )
    assert one.floor_share == 1.0
    assert one.bound == "memory"
    assert middle.bound == "compute"
    assert short.normalised_s > 1.1 * middle.normalised_s
    assert long.normalised_s == pytest.approx(middle.normalised_s, rel=0.1)
    assert longest.normalised_s > 2 * middle.normalised_s
    assert long.attention_share < 0.25 < 0.5 < longest.attention_share


def test_short_prompts_cost_more_the_more_compute_there_is_per_byte() -> None:
    over = {}
    for gpu in ("L20", "A100 SXM 80GB", "H20 96G", "H200"):
        hardware = default_calibration(gpu).hardware
        assert hardware.bandwidth is not None
        short, middle = prompts(gpu, "deepseek-r1-distill-qwen-7b", (100, 2048), "bf16")
        over[hardware.peak_flops["bf16"] / hardware.bandwidth] = (
            short.normalised_s / middle.normalised_s
        )
    assert [over[balance] for balance in sorted(over)] == sorted(over.values())


def test_the_cards_named_for_their_bandwidth_have_little() -> None:
    own = {title: find(title).per_device().mem_bw_gbps or 0 for title in founding_columns()}
    others = [gbps for title, gbps in own.items() if title not in ("T4", "L20")]
    assert max(own["L20"], find("A30").mem_bw_gbps or 0) < min(others)


def test_48_arrivals_per_second_are_more_than_the_cards_could_serve() -> None:
    test = notes.A800_TEST
    found = throughput(
        test.model, test.input_len, test.output_len, calibration=default_calibration(test.gpu),
        precision=test.precision, gpus=test.cards,
    )  # fmt: skip
    assert test.requests > found.capacity_requests_per_second
    assert test.requests * test.output_len > 5 * test.tokens_per_second


def test_units_of_the_split_deployment_close_and_hold_what_the_notes_say() -> None:
    prefill, decode = (deployment(unit, (1, 8), 1024) for unit in notes.DEPLOYMENT)
    for found in (prefill, decode):
        assert found.unit.tp * found.unit.dp == found.unit.gpus == found.unit.nodes * 8
        assert found.room_tokens > 100_000
    assert (prefill.experts_per_gpu, decode.experts_per_gpu) == (8, 1)
    assert (prefill.experts_per_token, decode.experts_per_token) == (8, 9)
    experts = load_model(notes.DEPLOYMENT_MODEL).experts
    assert decode.unit.gpus - experts == notes.SPARE_EXPERT_GPUS
    assert decode.weights_bytes < prefill.weights_bytes / 3
    first, second = decode.steps
    assert first.median_s is not None
    assert second.median_s is not None
    assert first.least_s < first.median_s < second.median_s
    assert second.network_s == pytest.approx(8 * first.network_s)
    with pytest.raises(RoofprobeError):
        weight_bytes(load_model(notes.DEPLOYMENT_MODEL), tp=4, ep=320)


def test_few_tokens_visit_few_experts() -> None:
    model = load_model("deepseek-r1")
    assert experts_of(model) == (256, 8)
    assert experts_of(load_model("llama-2-7b")) == (0, 0)
    assert visited_experts(model, 1) == pytest.approx(8)
    assert visited_experts(model, 2) == pytest.approx(16 - 8 * 8 / 256)
    assert visited_experts(model, 1000) == pytest.approx(256)


def test_the_cold_start_is_a_slow_source() -> None:
    rate = notes.COLD_START_GB / (notes.COLD_START_MINUTES * 60)
    assert rate == pytest.approx(0.389, abs=0.001)
    model = load_model(notes.H20_HOST.model)
    seconds = cold_start_s(model, model.checkpoint.precision, source_gbps=rate, tp=8)
    assert seconds == pytest.approx(notes.COLD_START_MINUTES * 60, rel=0.05)


def test_the_example_day_peaks_once_at_the_wanted_load() -> None:
    assert len(notes.EXAMPLE_DAY) == 24
    assert max(notes.EXAMPLE_DAY) == 1.0
    assert min(notes.EXAMPLE_DAY) > 0
