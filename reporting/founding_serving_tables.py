"""Tables of docs/founding-notes.md about serving: the pipeline box, hosts, TTFT, units."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from roofprobe.costmodel import founding_notes as notes
from roofprobe.costmodel.calibration import default_calibration
from roofprobe.costmodel.founding_model import (
    Prompt,
    decode_step,
    deployment,
    experts_of,
    least_decode_s,
    least_prefill_s,
    planned,
    prompts,
    visited_experts,
)
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.sizing import copies_for_load
from roofprobe.costmodel.steps import Layout
from roofprobe.costmodel.throughput import throughput
from roofprobe.records.errors import RoofprobeError
from roofprobe.reporting.markdown_text import table
from roofprobe.reporting.numbers import UNKNOWN, digits

_LENGTHS: Final = (1, 16, 32, 64, 100, 128, 256, 512, 1024, 2048, 4096, 5000, 8192, 10_000, 16_384,
                   32_768, 65_536, 131_072)  # fmt: skip
_TTFT_MODEL: Final = "deepseek-r1-distill-qwen-7b"
_TTFT_CARDS: Final = ("L20", "A100 SXM 80GB", "H20 96G", "H200")
_QUARTER_OCTAVES: Final = tuple(round(2 ** (n / 4)) for n in range(16, 61))
_LINE: Final = 1.25  # a prompt is on the line while a token costs at most this much of the least
_DEPLOYMENT_LENGTH: Final = 4096
_DEPLOYMENT_BATCHES: Final = {"prefill": (1, 2, 4), "decode": (1, 16, 64, 128, 256)}


def reason_of(found: Mapping[str, Any]) -> str:
    """Return why a case has no times: the error's sentence up to its first full stop."""
    error = found["error"]
    short = {"does-not-fit": "does not fit"}
    return short.get(error["code"], f"not timed: {error['sentence'].rstrip('.')}")


def interval_ms(band: Mapping[str, float]) -> str:
    """Write a time in ms with its interval."""
    return f"{digits(band['median'])} ({digits(band['p10'])}–{digits(band['p90'])})"


def ms(seconds: float) -> str:
    """Write a time in ms."""
    return digits(seconds * 1e3)


def _ratio(said: float, found: float | None) -> str:
    return UNKNOWN if found is None else f"{said / found:.2f}"


def pipeline() -> str:
    """Return the box's figures beside what its own other figures make of them."""
    box = notes.PIPELINE
    tokens = box.input_len + box.output_len
    columns = []
    for end in (0, 1):
        e2e = (box.ttft_ms[end] + box.tpot_ms[end] * box.output_len) / 1e3
        exact = (box.ttft_ms[end] + box.tpot_ms[end] * (box.output_len - 1)) / 1e3
        total = box.requests_per_second[end] * tokens
        said = box.total_tokens_per_second[end]
        columns.append(
            (
                (f"{box.e2e_s[end]:g} s", f"{e2e:.2f} s"),
                (UNKNOWN, f"{exact:.2f} s"),
                (f"{said:g} tok/s", f"{total:.1f} tok/s"),
                (f"{box.requests_per_second[end]:g} /s", f"{said / tokens:.4f} /s"),
                (f"{box.tokens_per_second_per_card[end]:g} tok/s", f"{said / box.cards:.2f} tok/s"),
                (UNKNOWN, f"{total / box.cards:.2f} tok/s"),
                (UNKNOWN, f"{box.requests_per_second[end] * e2e:.2f}"),
                (UNKNOWN, f"{said / tokens * e2e:.2f}"),
            )
        )
    names = (
        "E2E = TTFT + TPOT × 1024",
        "E2E = TTFT + TPOT × 1023",
        "total tokens = 2048 × request rate",
        "request rate = total tokens / 2048",
        "per card = total / 16",
        "per card from the request rate",
        "requests in flight = rate × E2E",
        "the same from total tokens",
    )
    return table(
        ("figure", "lightest: notes", "computed", "heaviest: notes", "computed"),
        [(name, *light, *heavy) for name, light, heavy in zip(names, *columns, strict=True)],
    )


def pipeline_model() -> str:
    """Return what DeepSeek-R1 on sixteen H20 would do at the box's two ends."""
    box, host = notes.PIPELINE, notes.H20_HOST
    rows = []
    for end in (0, 1):
        e2e = (box.ttft_ms[end] + box.tpot_ms[end] * box.output_len) / 1e3
        said = box.total_tokens_per_second[end]
        concurrency = round(said / (box.input_len + box.output_len) * e2e)
        found = planned(
            host.gpu, model=host.model, tp=host.cards, pp=box.cards // host.cards,
            concurrency=concurrency, input_len=box.input_len, output_len=box.output_len,
        )  # fmt: skip
        if "error" in found:
            rows.append((str(concurrency), reason_of(found), *(UNKNOWN,) * 4))
            continue
        total = found["requests_per_second"] * (box.input_len + box.output_len)
        rows.append(
            (
                str(concurrency),
                f"{interval_ms(found['ttft_ms'])}; {box.ttft_ms[end]:g}",
                f"{interval_ms(found['tpot_ms'])}; {box.tpot_ms[end]:g}",
                f"{digits(found['e2e_ms']['median'] / 1e3)}; {box.e2e_s[end]:g}",
                f"{digits(total)}; {said:g}",
                _ratio(said, total),
            )
        )
    return table(
        ("in flight", "TTFT, ms: model; notes", "TPOT, ms", "E2E, s", "total tok/s",
         "notes / model"),
        rows,
    )  # fmt: skip


def h20_host() -> str:
    """Return the H20 host's figures beside what its own other figures make of them."""
    host = notes.H20_HOST
    tokens = host.input_len + host.output_len
    rate = host.requests_per_second
    e2e = (host.ttft_ms + host.tpot_ms * host.output_len) / 1e3
    per_minute = host.tokens_per_second * 60
    hosts = copies_for_load(
        per_minute / 60 / tokens, tokens, wanted_tokens_per_minute=host.wanted_tokens_per_minute
    )
    output_only = copies_for_load(
        rate, host.output_len, wanted_tokens_per_minute=host.wanted_tokens_per_minute
    )
    return table(
        ("figure", "notes", "computed", "from"),
        [
            ("tokens per second, in and out", f"{host.tokens_per_second:g}",
             f"{rate * tokens:.1f}", "request rate × 2048"),
            ("of these, output tokens", UNKNOWN, f"{rate * host.output_len:.1f}",
             "request rate × 1024"),
            ("tokens per second and card", f"{host.tokens_per_second_per_card:g}",
             f"{host.tokens_per_second / host.cards:.2f}", "tokens per second / 8"),
            ("tokens per minute", f"{host.tokens_per_minute:,.0f}", f"{per_minute:,.0f}",
             "tokens per second × 60"),
            ("E2E, s", UNKNOWN, f"{e2e:.1f}", "TTFT (at most) + TPOT × 1024"),
            ("requests in flight", UNKNOWN, f"{rate * e2e:.2f}", "request rate × E2E"),
            ("hosts for 20 million tokens per minute", f"{host.wanted_hosts}",
             f"{host.wanted_tokens_per_minute / per_minute:.1f}", "20,000,000 / tokens per minute"),
            ("whole hosts; cards", UNKNOWN, f"{hosts}; {hosts * host.cards:,}",
             "`copies_for_load`"),
            ("hosts if these were output tokens", UNKNOWN, f"{output_only:,}",
             "`copies_for_load`"),
        ],
    )  # fmt: skip


def _h20_concurrency() -> int:
    host = notes.H20_HOST
    return round(host.requests_per_second * (host.ttft_ms + host.tpot_ms * host.output_len) / 1e3)


def h20_model() -> str:
    """Return what the model predicts for that host at the concurrency that Little's law gives."""
    host = notes.H20_HOST
    calibration, model = default_calibration(host.gpu), load_model(host.model)
    batch, context = _h20_concurrency(), host.input_len + host.output_len / 2
    layout, precision = Layout(tp=host.cards), model.checkpoint.precision
    step = decode_step(calibration, model, batch=batch, context=context, precision=precision,
                       layout=layout)  # fmt: skip
    experts = sum(op.median_s for op in step.ops if op.op == "grouped_gemm")
    least = least_decode_s(calibration, model, batch=batch, context=context, precision=precision,
                           layout=layout)  # fmt: skip
    prompt = least_prefill_s(calibration, model, prompts=1, input_len=host.input_len,
                             precision=precision, layout=layout)  # fmt: skip
    found = planned(host.gpu, model=host.model, tp=host.cards, concurrency=batch,
                    input_len=host.input_len, output_len=host.output_len)  # fmt: skip
    said_s = host.tpot_ms / 1e3
    total_experts, topk = experts_of(model)
    rows = [
        (f"experts that {batch} tokens visit, {topk} of {total_experts} each", UNKNOWN,
         digits(visited_experts(model, batch)), UNKNOWN),
        ("decode step alone, ms", UNKNOWN, ms(step.median_s), UNKNOWN),
        ("of this, experts", UNKNOWN, f"{experts / step.median_s * 100:.0f} %", UNKNOWN),
        ("decode step at the datasheet's peaks, ms", f"{host.tpot_ms:g}", ms(least),
         _ratio(least, said_s)),
        ("prefill at the datasheet's peaks, ms", f"at most {host.ttft_ms:g}", ms(prompt),
         UNKNOWN),
    ]  # fmt: skip
    if "error" in found:
        rows.append(("TTFT, TPOT, rates", UNKNOWN, reason_of(found), UNKNOWN))
    else:
        total = found["requests_per_second"] * (host.input_len + host.output_len)
        tpot, ttft = found["tpot_ms"], found["ttft_ms"]
        rows += [
            ("TPOT, ms", f"{host.tpot_ms:g}", interval_ms(tpot),
             _ratio(tpot["median"], host.tpot_ms)),
            ("TTFT, ms", f"at most {host.ttft_ms:g}", interval_ms(ttft), UNKNOWN),
            ("requests per second", f"{host.requests_per_second:g}",
             digits(found["requests_per_second"]),
             _ratio(host.requests_per_second, found["requests_per_second"])),
            ("tokens per second, in and out", f"{host.tokens_per_second:g}", digits(total),
             _ratio(host.tokens_per_second, total)),
            ("the same per card", f"{host.tokens_per_second_per_card:g}",
             digits(total / host.cards),
             _ratio(host.tokens_per_second_per_card, total / host.cards)),
        ]  # fmt: skip
    rows.append(("hosts for 20 million tokens per minute", f"{host.wanted_hosts}",
                 *_hosts_of(host, calibration)))  # fmt: skip
    return table(("figure", "notes", "model", "efficiency implied"), rows)


def _hosts_of(host: notes.H20Host, calibration: Any) -> tuple[str, str]:
    """Return how many hosts the model needs at the notes' TTFT and TPOT, and of how many."""
    try:
        best = throughput(
            host.model, host.input_len, host.output_len, calibration=calibration, gpus=host.cards,
            ttft_ms=host.ttft_ms, tpot_ms=host.tpot_ms,
        )  # fmt: skip
    except RoofprobeError as error:
        return f"not planned: {error.sentence.rstrip('.')}", UNKNOWN
    tokens = host.input_len + host.output_len
    hosts = copies_for_load(best.capacity_requests_per_second, tokens,
                            wanted_tokens_per_minute=host.wanted_tokens_per_minute)  # fmt: skip
    return f"{hosts:,}, each with {best.concurrency} in flight at {ms(best.tpot_s)} ms", UNKNOWN


def a800_test() -> str:
    """Return the figures of the A800 test beside arithmetic and prediction."""
    test = notes.A800_TEST
    calibration, model = default_calibration(test.gpu), load_model(test.model)
    layout = Layout(tp=test.cards)
    found = planned(test.gpu, model=test.model, precision=test.precision, tp=test.cards,
                    batch=test.requests, input_len=test.input_len,
                    output_len=test.output_len)  # fmt: skip
    context = test.input_len + test.output_len / 2
    least = least_decode_s(calibration, model, batch=test.requests, context=context,
                           precision=test.precision, layout=layout)  # fmt: skip
    prompt = least_prefill_s(calibration, model, prompts=test.requests, input_len=test.input_len,
                             precision=test.precision, layout=layout)  # fmt: skip
    least_token = (prompt + least * (test.output_len - 1)) / test.output_len
    token_s = found["e2e_ms"]["median"] / 1e3 / test.output_len
    rate = found["tokens_per_second"]
    capacity = throughput(test.model, test.input_len, test.output_len, calibration=calibration,
                          precision=test.precision, gpus=test.cards)  # fmt: skip
    return table(
        ("figure", "notes", "arithmetic", "model", "efficiency implied"),
        [
            ("output tokens per second", f"{test.tokens_per_second:g}",
             f"{test.requests / test.latency_s:.1f} = 48 / 0.097", digits(rate),
             _ratio(test.tokens_per_second, rate)),
            ("per card", f"{test.tokens_per_second_per_card:g}",
             f"{test.tokens_per_second / test.cards:.2f} = 493 / 4", digits(rate / test.cards),
             _ratio(test.tokens_per_second_per_card, rate / test.cards)),
            ("seconds per token (E2E / 64)", f"{test.latency_s:g}",
             f"{test.requests / test.tokens_per_second:.4f} = 48 / 493", f"{token_s:.4f}",
             _ratio(token_s, test.latency_s)),
            ("the same at the datasheet's peaks", f"{test.latency_s:g}", UNKNOWN,
             f"{least_token:.4f}", _ratio(least_token, test.latency_s)),
            ("TTFT of all 48 together, ms", UNKNOWN, UNKNOWN, interval_ms(found["ttft_ms"]),
             UNKNOWN),
            ("TPOT after it, ms", UNKNOWN, UNKNOWN, interval_ms(found["tpot_ms"]), UNKNOWN),
            ("GB on the fullest card", UNKNOWN, UNKNOWN, digits(found["memory_gb"]["per_gpu"]),
             UNKNOWN),
            ("if 48 were requests per second: tokens per second", UNKNOWN,
             f"{test.requests * test.output_len:,} = 48 × 64",
             f"at most {digits(capacity.capacity_tokens_per_second)}", UNKNOWN),
        ],
    )  # fmt: skip


def ttft() -> str:
    """Return prefills of one prompt by its length on one card."""
    found = prompts(_TTFT_CARDS[0], _TTFT_MODEL, _LENGTHS, "bf16")
    slope = next(p.normalised_s for p in found if p.input_len == notes.PIPELINE.input_len)
    return table(
        ("input tokens", "TTFT, ms", "per token, µs", "TTFT / line", "attention", "floor",
         "bound"),
        [
            (
                f"{p.input_len:,}",
                ms(p.ttft_s),
                digits(p.normalised_s * 1e6),
                f"{p.normalised_s / slope:.2f}",
                f"{p.attention_share * 100:.0f} %",
                f"{p.floor_share * 100:.0f} %",
                p.bound,
            )
            for p in found
        ],
    )  # fmt: skip


def ttft_limits() -> str:
    """Return per card from where to where TTFT is a line, and what the notes' bounds cost."""
    rows = []
    for card in _TTFT_CARDS:
        found = prompts(card, _TTFT_MODEL, _QUARTER_OCTAVES, "bf16")
        least = min(p.normalised_s for p in found)
        on = [p.input_len for p in found if p.normalised_s <= _LINE * least]
        short, long = prompts(card, _TTFT_MODEL, (notes.SHORT_PROMPT, notes.LONG_PROMPT), "bf16")
        rows.append(
            (
                card,
                digits(least * 1e6),
                f"{on[0]:,}–{on[-1]:,}",
                _over(short, least),
                _over(long, least),
                f"{long.attention_share * 100:.0f} %",
            )
        )
    return table(
        ("card", "least µs per token", f"within {_LINE:g} of it, tokens",
         f"at {notes.SHORT_PROMPT} tokens", f"at {notes.LONG_PROMPT}",
         f"attention at {notes.LONG_PROMPT}"),
        rows,
    )  # fmt: skip


def _over(prompt: Prompt, least_s: float) -> str:
    return f"{prompt.normalised_s / least_s:.2f} × the least"


def units() -> str:
    """Return memory of one GPU in both units of the split deployment."""
    rows = []
    for unit in notes.DEPLOYMENT:
        found = deployment(unit, (1,), _DEPLOYMENT_LENGTH)
        rows.append(
            (
                unit.role,
                f"{unit.nodes} × 8 = {unit.nodes * 8}; {unit.gpus}",
                f"{unit.tp} × {unit.dp} = {unit.tp * unit.dp}",
                str(unit.ep),
                f"{found.experts_per_gpu:g}",
                f"{found.experts_per_token}",
                f"{found.weights_bytes / 1e9:.1f}",
                f"{found.room_tokens:,}",
            )
        )
    return table(
        ("unit", "nodes × 8; GPUs in the notes", "TP × DP", "EP", "experts per GPU",
            "experts a token is sent to", "weights per GPU, GB", "room per GPU, tokens"),
        rows,
    )  # fmt: skip


def unit_steps() -> str:
    """Return how long steps of both units take."""
    rows = []
    for unit in notes.DEPLOYMENT:
        found = deployment(unit, _DEPLOYMENT_BATCHES[unit.role], _DEPLOYMENT_LENGTH)
        for step in found.steps:
            timed = step.median_s
            rows.append(
                (
                    unit.role,
                    str(step.sequences),
                    digits(step.tokens_per_gpu),
                    step.reason or UNKNOWN if timed is None else ms(timed),
                    ms(step.least_s),
                    ms(step.network_s),
                    UNKNOWN if timed is None else digits(step.tokens_per_gpu / timed),
                )
            )
    return table(
        ("unit", "sequences per copy", "tokens per GPU", "step, ms", "at the peaks, ms",
         "all-to-all by network, ms", "tokens per second and GPU"),
        rows,
    )  # fmt: skip


SERVING_BLOCKS: Final[Mapping[str, Callable[[], str]]] = {
    "pipeline": pipeline,
    "pipeline-model": pipeline_model,
    "h20-host": h20_host,
    "h20-model": h20_model,
    "a800-test": a800_test,
    "ttft": ttft,
    "ttft-limits": ttft_limits,
    "units": units,
    "unit-steps": unit_steps,
}
