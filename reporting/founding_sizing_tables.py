"""Tables of docs/founding-notes.md about sizing: two users, tides, cold starts, TPS = f(...)."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from roofprobe.costmodel import founding_notes as notes
from roofprobe.costmodel.calibration import default_calibration
from roofprobe.costmodel.founding_model import case_of
from roofprobe.costmodel.memory import load_time_s, weight_bytes
from roofprobe.costmodel.models import load_model
from roofprobe.costmodel.sizing import Choice, high_throughput, low_latency
from roofprobe.costmodel.throughput import throughput
from roofprobe.costmodel.tides import Tide, tide
from roofprobe.peaks.find import find
from roofprobe.peaks.links import PCIE_FULL_WIDTH, pcie_peak_gbps
from roofprobe.reporting.founding_serving_tables import ms
from roofprobe.reporting.markdown_text import table
from roofprobe.reporting.numbers import UNKNOWN, digits

_SIZED_MODEL: Final = "deepseek-r1-distill-qwen-32b"
_DISK_GBPS: Final = 5.0
_HOURS: Final = 24


def two_users() -> str:
    """Return the layouts that suit the two users of the notes."""
    host = notes.H20_HOST
    calibration = default_calibration(host.gpu)
    targets = {"ttft_ms": host.ttft_ms, "tpot_ms": notes.TPOT_RANGE_MS[1]}
    asked = {"model": _SIZED_MODEL, "input_len": host.input_len, "output_len": host.output_len}
    case = case_of(calibration, **asked, **targets)
    return table(
        ("user", "function", "tp × pp", "in flight", "TTFT, ms", "TPOT, ms", "output tok/s",
         "per GPU"),
        [
            _choice_row("low latency", "low_latency", low_latency(case, calibration)),
            _choice_row("high throughput, same bounds", "high_throughput",
                        high_throughput(case, calibration)),
            _choice_row("high throughput, no bounds", "high_throughput",
                        high_throughput(case_of(calibration, **asked), calibration)),
        ],
    )  # fmt: skip


def _choice_row(user: str, function: str, found: Choice | None) -> tuple[str, ...]:
    if found is None:
        return (user, f"`{function}`", *(UNKNOWN,) * 6)
    return (
        user,
        f"`{function}`",
        f"{found.degrees.tp} × {found.degrees.pp}",
        str(found.concurrency),
        ms(found.ttft_s),
        ms(found.tpot_s),
        digits(found.tokens_per_second),
        digits(found.tokens_per_second_per_gpu),
    )


def _day() -> tuple[list[float], Tide]:
    host = notes.H20_HOST
    peak = host.wanted_tokens_per_minute / 60 / (host.input_len + host.output_len)
    loads = [share * peak for share in notes.EXAMPLE_DAY]
    return loads, tide(
        loads,
        copy_requests_per_second=host.tokens_per_second / (host.input_len + host.output_len),
        gpus_per_copy=host.cards,
        cold_start_s=notes.COLD_START_MINUTES * 60,
    )


def tides() -> str:
    """Return hosts by hour of an example day, and what following the load saves."""
    loads, found = _day()
    hours = zip(range(_HOURS), loads, found.copies, strict=True)
    return table(
        ("hour", "requests/s", "hosts") * 3,
        [
            tuple(
                cell
                for hour, load, copies in group
                for cell in (str(hour), digits(load), str(copies))
            )
            for group in zip(*[iter(hours)] * 3, strict=True)
        ],
    )


def tide_sums() -> str:
    """Return what the day costs in GPU-hours."""
    _, found = _day()
    return table(
        ("hosts at the peak", "GPU-hours kept at the peak", "following, cold starts included",
         "saved"),
        [(f"{found.peak_copies}", f"{found.fixed_gpu_hours:,.0f}",
          f"{found.following_gpu_hours:,.0f}", f"{found.saved_share * 100:.0f} %")],
    )  # fmt: skip


def cold_start() -> str:
    """Return the rate that the notes' cold start implies, and other rates' times."""
    host, model = notes.H20_HOST, load_model(notes.H20_HOST.model)
    whole = weight_bytes(model)
    implied = notes.COLD_START_GB / (notes.COLD_START_MINUTES * 60)
    card = find(host.gpu).per_device()
    link = pcie_peak_gbps(card.pcie_gen or 0, PCIE_FULL_WIDTH)
    assert link is not None, "the H20's host link is in the catalogue"
    share = weight_bytes(model, tp=host.cards)
    rows = [
        ("the notes' 700 GB in 30 minutes", digits(implied), f"{notes.COLD_START_GB}",
         f"{notes.COLD_START_MINUTES * 60}"),
        ("our weights at that rate", digits(implied), f"{whole / 1e9:.0f}",
         digits(float(load_time_s(whole, implied)))),
        ("a source of 5 GB/s", digits(_DISK_GBPS), f"{whole / 1e9:.0f}",
         digits(float(load_time_s(whole, _DISK_GBPS)))),
        ("each card's share over its own host link, at its peak", digits(link),
         f"{share / 1e9:.0f}", digits(float(load_time_s(share, link)))),
    ]  # fmt: skip
    return table(("source", "GB/s", "GB", "seconds"), rows)


def tps_function() -> str:
    """Return TPS for the A800 test, and for one variable changed at a time."""
    test = notes.A800_TEST
    base: dict[str, Any] = {
        "model_size": test.model, "input_len": test.input_len, "output_len": test.output_len,
        "gpu": test.gpu, "precision": test.precision, "gpus": test.cards,
        "tpot_ms": test.latency_s * 1e3,
    }  # fmt: skip
    changes: tuple[tuple[str, dict[str, Any]], ...] = (
        ("as tested, LB 97 ms", {}),
        ("MS: 175e9, known by its size only", {"model_size": test.parameters}),
        ("MS: Llama 2 70B", {"model_size": "llama-2-70b"}),
        ("IL: 640", {"input_len": 640}),
        ("OL: 640", {"output_len": 640}),
        ("QPS: 5 offered", {"qps": 5.0}),
        ("LB: 50 ms", {"tpot_ms": 50.0}),
        ("P: bf16, GN: 8", {"precision": "bf16", "gpus": 8}),
        ("GN: 8", {"gpus": 8}),
        ("Turbo: 2 tokens per step", {"acceleration": 2.0}),
    )
    rows = []
    for name, change in changes:
        asked = {**base, **change}
        calibration = default_calibration(asked.pop("gpu"))
        size, qps = asked.pop("model_size"), asked.pop("qps", math.inf)
        found = throughput(size, asked.pop("input_len"), asked.pop("output_len"),
                           calibration=calibration, qps=qps, **asked)  # fmt: skip
        rows.append((name, digits(found.tokens_per_second), str(found.concurrency),
                     f"{found.degrees.tp} × {found.degrees.dp}",
                     ms(found.tpot_s)))  # fmt: skip
    return table(("changed", "TPS", "in flight per copy", "tp × dp", "TPOT, ms"), rows)


SIZING_BLOCKS: Final[Mapping[str, Callable[[], str]]] = {
    "two-users": two_users,
    "tides": tides,
    "tide-sums": tide_sums,
    "cold-start": cold_start,
    "tps-function": tps_function,
}
