"""Serving: closed forms by hand on a calibration whose times are simple."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from roofprobe.costmodel.model_shape import DenseMlp, GroupedQueryAttention, Layer, ModelShape
from roofprobe.costmodel.serving import Group, Requests, Served, serve
from roofprobe.costmodel.steps import Layout

MODEL = ModelShape(
    "one", "One", 64, 100, (Layer(GroupedQueryAttention(4, 4, 16), DenseMlp(64)),),
    tied_embeddings=True,
)  # fmt: skip
ONE_GPU = Layout()
DECODE_S, TOKEN_S = 0.010, 0.001


def per_step(batch: Any, **_: Any) -> Any:
    """A step with decoding sequences costs 10 ms."""
    return DECODE_S


def per_prompt_token(batch: Any, query_len: Any, **_: Any) -> Any:
    """Each new prompt token costs 1 ms more."""
    return TOKEN_S * batch * query_len


@pytest.fixture
def calibration(plain_calibration: Any) -> Any:
    return plain_calibration({"attention_decode": per_step, "attention_prefill": per_prompt_token})


def served(
    calibration: Any, sequences: float, s: float, output: float, *, static: bool = False,
    waiting: float = 0.0, layout: Layout = ONE_GPU, **options: Any,
) -> Served:  # fmt: skip
    requests = Requests(
        np.array([sequences]), np.array([s]), np.array([output]), np.array([static]),
        np.array([waiting]),
    )  # fmt: skip
    (one,) = serve(calibration, [Group(MODEL, "bf16", "bf16", layout, requests)], **options)
    return one


def test_a_static_batch_prefills_together_and_decodes_undisturbed(calibration: Any) -> None:
    one = served(calibration, 4, 100, 11, static=True)
    assert one.ttft_s.median[0] == pytest.approx(4 * 100 * TOKEN_S)
    assert one.tpot_s.median[0] == pytest.approx(DECODE_S)
    assert one.e2e_s.median[0] == pytest.approx(0.4 + 10 * DECODE_S)
    assert one.tokens_per_second[0] == pytest.approx(4 * 11 / 0.5)


def test_one_request_at_a_time_is_the_static_batch_of_one(calibration: Any) -> None:
    alone, batch = served(calibration, 1, 100, 11), served(calibration, 1, 100, 11, static=True)
    assert alone.tpot_s.median == batch.tpot_s.median
    assert alone.ttft_s.median == batch.ttft_s.median
    assert alone.tokens_per_second == batch.tokens_per_second


def test_prompts_of_others_ride_in_decode_steps(calibration: Any) -> None:
    b, s, output = 9, 100, 50
    one = served(calibration, b, s, output)
    # Any step decodes (10 ms); (b - 1)/output prompts per step add their tokens.
    assert one.tpot_s.median[0] == pytest.approx(DECODE_S + (b - 1) / output * s * TOKEN_S)


def test_prompts_in_steps_of_their_own_make_decoding_wait(calibration: Any) -> None:
    one = served(calibration, 9, 100, 50, mixed=False)
    assert one.tpot_s.median[0] == pytest.approx(DECODE_S + 8 / 50 * 100 * TOKEN_S)


def test_sharing_a_step_saves_reading_the_weights_again(plain_calibration: Any) -> None:
    calibration = plain_calibration({"gemm": lambda m, **_: 1e-3 + 1e-6 * m})
    together, apart = (
        served(calibration, 9, 100, 50, mixed=mixed).tpot_s.median[0] for mixed in (True, False)
    )
    assert together < apart


def test_a_budget_splits_long_prompts_without_changing_their_work(calibration: Any) -> None:
    whole, chunked = (served(calibration, 9, 4096, 512, budget=b) for b in (8192, 1024))
    assert chunked.prefill.total_s[0] == pytest.approx(whole.prefill.total_s[0])
    assert chunked.tpot_s.median[0] == pytest.approx(whole.tpot_s.median[0])


def test_more_prompt_tokens_than_the_budget_leave_fewer_decoding(calibration: Any) -> None:
    one = served(calibration, 100, 1000, 10, budget=2000)
    assert one.active[0] == 1 + 2000 * 10 / 1000
    assert one.tpot_s.median[0] <= DECODE_S + 2000 * TOKEN_S + 1e-12
    assert one.ttft_s.median[0] > one.tpot_s.median[0] * 10


def test_time_per_token_is_undefined_for_one_token(calibration: Any) -> None:
    one = served(calibration, 1, 100, 1)
    assert math.isnan(one.tpot_s.median[0])
    assert one.e2e_s.median == one.ttft_s.median


def test_first_token_of_many_waits_between_its_prefill_and_a_burst(calibration: Any) -> None:
    one = served(calibration, 9, 100, 50)
    assert one.ttft_s.p10[0] <= 0.1 <= one.ttft_s.median[0] <= one.ttft_s.p90[0]
    assert one.ttft_s.p90[0] == pytest.approx((9 + 1) / 2 * 0.1)


def test_requests_without_room_wait_by_littles_law(calibration: Any) -> None:
    free, full = (served(calibration, 10, 100, 50, waiting=w) for w in (0.0, 10.0))
    assert full.tpot_s.median == free.tpot_s.median
    assert full.tokens_per_second == free.tokens_per_second
    cycle = 10 / free.requests_per_second[0]
    assert full.ttft_s.median[0] - free.ttft_s.median[0] == pytest.approx(cycle)


def test_stages_take_turns_over_micro_batches(calibration: Any) -> None:
    # 8 prompts of 2048 tokens in 8 micro-batches through 4 stages: 8 + 3 turns of a quarter.
    layout = Layout(pp=4)
    one = served(calibration, 8, 2048, 10, static=True, layout=layout)
    assert one.ttft_s.median[0] == pytest.approx(2048 * TOKEN_S * (8 + 3) / 4)
    assert one.tpot_s.median[0] == pytest.approx(DECODE_S)


def test_a_prompt_delays_a_stage_only_by_its_share(calibration: Any) -> None:
    whole, staged = (served(calibration, 9, 100, 50, layout=Layout(pp=p)) for p in (1, 4))
    extra = whole.tpot_s.median[0] - DECODE_S
    assert staged.tpot_s.median[0] - DECODE_S == pytest.approx(extra / 4)


def test_throughput_closes_the_loop_of_a_request(calibration: Any) -> None:
    b, output = 9, 50
    one = served(calibration, b, 100, output)
    # Averaged over a cycle each step carries b/output prompts but not fewer than a request's own.
    assert one.tokens_per_second[0] * one.tpot_s.median[0] == pytest.approx(b, rel=0.15)
    assert one.requests_per_second[0] == pytest.approx(one.tokens_per_second[0] / output)


def test_cases_that_cannot_be_timed_say_why(plain_calibration: Any) -> None:
    calibration = plain_calibration({"gemm": lambda **_: 1.0}, refuse=frozenset({"all_reduce"}))
    requests = Requests(
        np.array([1.0, 1.0]), np.array([8.0, 8.0]), np.array([4.0, 4.0]), np.array([False, False]),
        np.zeros(2),
    )  # fmt: skip
    group = Group(MODEL, "bf16", "bf16", Layout(tp=np.array([1, 2])), requests)
    (one,) = serve(calibration, [group])
    assert {case: reason.code for case, reason in one.refused.items()} == {1: "not-measured"}
    assert np.isnan(one.tpot_s.median).tolist() == [False, True]
