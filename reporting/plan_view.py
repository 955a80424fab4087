"""What ``probe plan`` shows: one case as a sheet, many as a table with a line each.

A time is printed as its median with its 80 % interval, a prediction never without one. Sentences
about what makes a prediction unsure stand below the figures that they concern.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rich.console import Console

    from roofprobe.costmodel.defaults import Shipped

_TIMES: Final = (
    ("ttft_ms", "TTFT", "time to first token"),
    ("tpot_ms", "TPOT", "time per output token after the first"),
    ("e2e_ms", "E2E", "whole request"),
)
_HELD: Final = ("weights", "kv_cache", "activations", "reserve", "total", "per_gpu")


def to_json(results: Sequence[Mapping[str, Any]], *, single: bool) -> bytes:
    """Return one JSON document: an object for a single case, else an array, one case a line."""
    lines = [json.dumps(result, ensure_ascii=False) for result in results]
    if single:
        return lines[0].encode() + b"\n"
    return ("[\n" + ",\n".join(lines) + "\n]\n").encode()


def render(results: Sequence[Mapping[str, Any]], console: Console, device: str) -> None:
    """Print one case as a sheet and several as a table."""
    if len(results) == 1 and "error" not in results[0]:
        _sheet(results[0], console, device)
    else:
        _table(results, console, device)


def _sheet(one: Mapping[str, Any], console: Console, device: str) -> None:
    asked = f"batch {one['batch']}" if "batch" in one else f"concurrency {one['concurrency']}"
    console.print(Text(f"{one['model']} on {one['gpus']} × {device}", style="bold"))
    console.print(
        Text(
            f"{one['precision']}, KV cache {one['kv_precision']} · tp {one['tp']} pp {one['pp']} "
            f"ep {one['ep']} dp {one['dp']} · {asked} · {one['input_len']} tokens in, "
            f"{one['output_len']} out"
        )
    )
    times = _grid(console)
    for title in ("", "median", "80 % interval", ""):
        times.add_column(title, justify="left" if not title else "right")
    for key, title, meaning in _TIMES:
        band = one[key]
        if band is not None:
            times.add_row(title, _ms(band["median"]), _interval(band), Text(meaning, style="dim"))
    console.print(times)
    rest = _grid(console)
    rest.show_header = False
    rest.add_column("what")
    rest.add_column("value", overflow="fold")
    rest.add_row(
        "output tokens/s",
        f"{one['tokens_per_second']:,.4g} · {one['tokens_per_second_per_gpu']:,.4g} per device",
    )
    rest.add_row("requests/s", f"{one['requests_per_second']:,.4g}")
    rest.add_row(
        "bound by", f"{one['bound']['prefill']} in prefill, {one['bound']['decode']} in decode"
    )
    held = one["memory_gb"]
    rest.add_row(
        "memory, GB", " · ".join(f"{name.replace('_', ' ')} {held[name]:.1f}" for name in _HELD)
    )
    rest.add_row("most requests", f"{one['max_batch']:,} of full length at a time")
    rest.add_row("fewest devices", "none meets the targets" if one["min_gpus"] is None
                 else str(one["min_gpus"]))  # fmt: skip
    if "replicas" in one:
        rest.add_row("for the load", f"{one['replicas']} systems, {one['gpus_for_load']} devices")
    console.print(rest)
    for sentence in (*one.get("calibration", "").splitlines(), *one["out_of_range"], *one["notes"]):
        console.print(Text(f"- {sentence}", style="dim"))


def _table(results: Sequence[Mapping[str, Any]], console: Console, device: str) -> None:
    table = _grid(console)
    table.title = f"{len(results)} cases on {device}: median (80 % interval), ms"
    for title in ("#", "model", "GPUs", "requests", "in/out"):
        table.add_column(title, justify="left" if title == "model" else "right", overflow="fold")
    for title in ("TTFT", "TPOT", "tok/s"):
        table.add_column(title, justify="right")
    problems = []
    for number, one in enumerate(results, start=1):
        if "error" in one:
            problems.append(f"{number}: {one['error']['sentence']}")
            continue
        requests = one.get("batch") or one.get("concurrency")
        table.add_row(
            str(number), Text(str(one["model"])), str(one["gpus"]), str(requests),
            f"{one['input_len']}/{one['output_len']}", _short(one["ttft_ms"]),
            _short(one["tpot_ms"]), f"{one['tokens_per_second']:,.4g}",
        )  # fmt: skip
    if table.row_count:
        console.print(table)
    for problem in problems:
        console.print(Text(problem))
    said = dict.fromkeys(
        sentence
        for one in results
        for sentence in (*one.get("out_of_range", ()), one.get("calibration", ""))
        if sentence
    )
    for sentence in said:
        console.print(Text(f"- {sentence}", style="dim"))


def shipped_json(rows: Sequence[Shipped]) -> list[dict[str, Any]]:
    """Return the calibrations of the package as JSON."""
    return [asdict(row) for row in rows]


def render_shipped(rows: Sequence[Shipped], console: Console) -> None:
    """Print the GPUs whose timings came with this package; other GPUs borrow from them."""
    table = _grid(console)
    table.title = "Calibrations in this package (--gpu NAME); other GPUs borrow from their kin"
    for title in ("GPU", "operations", "engines"):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(Text(row.name), Text(", ".join(row.operations)), Text(", ".join(row.engines)))
    console.print(table)
    for source in dict.fromkeys(source for row in rows for source in row.sources):
        console.print(Text(f"- {source}", style="dim"))


def _grid(console: Console) -> Table:
    from rich import box

    return Table(box=box.SIMPLE, pad_edge=False, safe_box=True, title_justify="left")


def _ms(value: float) -> str:
    return f"{value:,.0f} ms" if value >= 100 else f"{value:.3g} ms"


def _interval(band: Mapping[str, float]) -> str:
    return f"{_bare(band['p10'])}–{_bare(band['p90'])}"


def _short(band: Mapping[str, float] | None) -> str:
    return "–" if band is None else f"{_bare(band['median'])} ({_interval(band)})"


def _bare(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
