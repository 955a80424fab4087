"""The operations of language models as small tables: sizes down, tokens or sequences across.

Each cell is the time of one operation and its rate; a column's rates share the unit in its head.
At most five columns are shown, those that most lines have, and twelve lines: all of it is in the
table of measurements.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from roofprobe.records.schema import Case, Measurement, Run
from roofprobe.reporting import numbers
from roofprobe.reporting.marks import marked
from roofprobe.reporting.plain_text import clean
from roofprobe.reporting.small_table import SmallTable, done

_MOST_COLUMNS, _MOST_LINES = 5, 12
_REPLAYED = "anchor"  # the role of what is shown; the same launched one by one is in the record

Key = tuple[int, ...]
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _Kind:
    """One table: its operations, what names a line, what a column, and by which sizes."""

    ops: tuple[str, ...]
    title: str
    sentence: str
    line: tuple[str, ...]
    column: tuple[str, ...]
    line_text: str
    column_text: str
    brief: bool = False


_KINDS: tuple[_Kind, ...] = (
    _Kind(
        ("gemm",), "Layers",
        "Products of m tokens with weights (n, k) that come from memory: time, and the bytes of "
        "few tokens or the operations of many.",
        ("n", "k"), ("m",), "{n}x{k}", "m={m}", brief=True,
    ),
    _Kind(
        ("attention_prefill",), "Attention of prompts",
        "Causal attention of batch x new tokens (+ those that a cache holds before them): time and "
        "operations.",
        ("heads", "kv_heads", "head_dim"), ("query_len", "kv_len", "batch"),
        "{heads}/{kv_heads}x{head_dim}", "{batch}x{query_len}{after}",
    ),
    _Kind(
        ("attention_decode",), "Attention of one token",
        "One token of batch sequences over a cache of so many tokens each, out of memory: time and "
        "bytes.",
        ("heads", "kv_heads", "head_dim"), ("kv_len", "batch"),
        "{heads}/{kv_heads}x{head_dim}", "{batch}x{kv_len}", brief=True,
    ),
    _Kind(
        ("mla_prefill", "mla_decode"), "Latent attention",
        "Of prompts (not absorbed) and of one token (absorbed): batch x tokens in the cache.",
        ("heads",), ("kv_len", "batch"), "{heads} heads", "{batch}x{kv_len}",
    ),
    _Kind(
        ("grouped_gemm",), "Experts",
        "A gated MLP of each token's chosen experts: time, and the bytes of few tokens or the "
        "operations of many.",
        ("experts", "topk", "hidden", "inter", "local_experts"), ("tokens",),
        "{topk} of {experts}, {hidden}x{inter}", "{tokens} tokens",
    ),
    _Kind(
        ("rmsnorm", "rope", "silu_mul", "quantize", "sample"), "Row by row",
        "What lies between the products, on data that was just written: time and bytes.",
        ("width",), ("rows",), "{width}", "{rows} rows",
    ),
)  # fmt: skip


def llm_tables(run: Run, device_id: str, *, brief: bool = False) -> tuple[SmallTable, ...]:
    """Return the tables of a device that have rows; with ``brief`` layers and decode alone."""
    measured = [m for m in done(run, device_id, "llm") if m.case.role == _REPLAYED]
    made = (_table(kind, measured) for kind in _KINDS if kind.brief or not brief)
    return tuple(table for table in made if table.rows)


def _table(kind: _Kind, measured: Sequence[Measurement]) -> SmallTable:
    found: dict[tuple[str, Key], dict[Key, Measurement]] = {}
    for m in measured:
        sizes = m.case.shape
        if m.case.op in kind.ops and m.rate is not None and m.latency is not None:
            line = (_words(m.case, kind), tuple(sizes.get(name, 0) for name in kind.line))
            column = tuple(sizes.get(name, 0) for name in kind.column)
            found.setdefault(line, {})[column] = m
    columns = _commonest([key for cells in found.values() for key in cells])
    lines = _spread(sorted(found), _MOST_LINES)
    scales = {column: _scale(found, column) for column in columns}
    rows = []
    for line in lines:
        cells = found[line]
        shape = next(iter(cells.values())).case.shape
        name = f"{line[0]} {kind.line_text.format_map(shape)}".strip()
        rows.append((clean(name), *(_cell(cells.get(key), scales[key]) for key in columns)))
    heads = tuple(
        f"{_head(found, key, kind)} {scales[key].unit}" for key in columns
    )  # the unit of the second figure of a cell
    return SmallTable(kind.title, kind.sentence, ("", *heads), tuple(rows))


def _words(case: Case, kind: _Kind) -> str:
    """Return what tells a line from others of its sizes: operation, precision, cache, route."""
    op = case.op if len(kind.ops) > 1 else ""
    cache = f"KV {case.kv_precision}" if case.kv_precision not in (None, case.precision) else ""
    route = "" if case.op == "gemm" else case.route
    return " ".join(word for word in (op, case.precision, cache, route, case.config or "") if word)


def _head(found: dict[tuple[str, Key], dict[Key, Measurement]], column: Key, kind: _Kind) -> str:
    shape = next(cells[column].case.shape for cells in found.values() if column in cells)
    before = shape.get("kv_len", 0) - shape.get("query_len", 0)
    return kind.column_text.format_map({"after": f"+{before}" if before else "", **shape})


def _scale(found: dict[tuple[str, Key], dict[Key, Measurement]], column: Key) -> numbers.Scale:
    """Return the unit of a column: the one in which its highest rate is at least 1."""
    rates = [cells[column].rate for cells in found.values() if column in cells]
    best = max((rate for rate in rates if rate is not None), key=lambda rate: rate.median)
    return numbers.scale_for(best.median, best.unit)


def _cell(m: Measurement | None, scale: numbers.Scale) -> str:
    if m is None or m.rate is None or m.latency is None:
        return numbers.UNKNOWN
    time = numbers.duration_us(m.latency.median).replace(" ", "")
    return marked(f"{time} {scale.number(m.rate.median)}", m)


def _commonest(keys: Sequence[Key]) -> tuple[Key, ...]:
    """Return the columns that most lines have, in order; of equals evenly spread ones."""
    counts = Counter(keys)
    chosen: list[Key] = []
    for count in sorted(set(counts.values()), reverse=True):
        equals = sorted(key for key, found in counts.items() if found == count)
        chosen += _spread(equals, _MOST_COLUMNS - len(chosen))
    return tuple(sorted(chosen))


def _spread(values: Sequence[T], most: int) -> tuple[T, ...]:
    """Return at most ``most`` of ``values``, evenly spread, the first and the last among them."""
    if len(values) <= most:
        return tuple(values)
    if most < 2:
        return tuple(values[-1:]) if most else ()
    step = (len(values) - 1) / (most - 1)
    return tuple(values[round(index * step)] for index in range(most))
