"""The validate probe: a real transformer's steps, and every operation that they are made of.

A cost model that adds up operations is right if the sum is what a whole model takes. So each step
of a real model (``kernels/transformer.py``) is timed, and right before it the operations that it
consists of, at its sizes, as its code makes them: the same products on weights that go round as
often as the model has bytes, attention over a cache that was just written, the norms, rotations and
copies of transformers' eager code. What is left is the host's work between them, which a model
shows whose tensors are too small to take time (``records/transformer_floor.py``). The prediction
(``roofprobe.costmodel.validation``) sees those operations and never a step that it is held against.

On a processor each launch of an operation comes after a sweep through memory (``kernels/sweep.py``)
of the bytes that go past between two of its executions in the model: a layer's, or the whole
model's for what runs once per step. In a loop by itself a norm of one token takes half as long.

On a GPU a step is timed twice, as a graph that is replayed and launched call by call (role
``eager``). Where a calibration is given, operations are not measured.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any, Literal

from roofprobe.kernels import attention, eager_rows, layer_gemm, routes, transformer
from roofprobe.kernels.attention import Heads
from roofprobe.kernels.rotation import CACHE_MULTIPLE
from roofprobe.kernels.sweep import Sweep, after_products
from roofprobe.kernels.transformer import PREFILL, Sizes
from roofprobe.kernels.work import Target, Unsupported, Work
from roofprobe.probes import compute, llm, memory
from roofprobe.probes.session import Session
from roofprobe.probes.timers import BatchWallTimer, SweptTimer, Timer
from roofprobe.probes.validate_shapes import FLOORS, ITEM_BYTES, Asked, Model, models, steps
from roofprobe.records import transformer_floor as floor
from roofprobe.records.schema import Case, Device, Options, Part

FAMILY: Literal["validate"] = "validate"
STEP = "step"  # the operation of a whole model's case; of one without work in family launch
ROUTE = eager_rows.ROUTE
_FEW_PRODUCTS = 2  # of a device without a datasheet: its largest anchor, by two routes
_WATCHED_S, _FEWEST_WATCHED, _MOST_WATCHED = 0.3, 5, 40


def cases(device: Device, options: Options) -> Iterator[Case]:
    """Yield each model's steps, each after the operations that it brings."""
    precision = llm.half(device) if device.backend != "cpu" else "fp32"
    seen: set[str] = set()
    if not options.calibrated:
        yield from _ceilings(device, options, precision)
        for model in FLOORS:
            for phase, (batch, length) in floor.STEPS.items():
                asked = (phase, batch, length)
                yield from _new(seen, _operations(device, model, asked, precision))
                yield _step(device, model, asked, precision, of_floor=True)
    for model in models(device, options.tier, precision):
        for asked in steps(device, options.tier):
            if not options.calibrated:
                yield from _new(seen, _operations(device, model, asked, precision))
            yield _step(device, model, asked, precision)
            if device.backend != "cpu":
                yield _step(device, model, asked, precision, eager=True)


def _new(seen: set[str], found: Iterator[Case]) -> Iterator[Case]:
    for case in found:
        if case.case_id not in seen:
            seen.add(case.case_id)
            yield case


def _ceilings(device: Device, options: Options, precision: str) -> Iterator[Case]:
    """Yield what a device without a datasheet is held against: a product and some streams."""
    if device.catalogue_key is not None:
        return
    products = [
        c for c in compute.cases(device, options)
        if c.row == precision == c.precision and c.role == "anchor" and c.op == "gemm"
        and compute.may_run(c, device)
    ]  # fmt: skip
    yield from products[-_FEW_PRODUCTS:]
    yield from [
        c for c in memory.cases(device, options)
        if c.role == "anchor" and c.precision == "fp32" and c.route == "torch"
        and c.op in ("read", "copy", "triad")
    ]  # fmt: skip


def _step(
    device: Device, model: Model, asked: Asked, precision: str, *,
    eager: bool = False, of_floor: bool = False,
) -> Case:  # fmt: skip
    phase, batch, length = asked
    layers = model.sizes.layers
    route = floor.route(phase, layers) if of_floor else ROUTE
    case_id = f"{FAMILY}/{model.name}-{layers}/{phase}/{precision}/{batch}x{length}"
    return Case(
        case_id=case_id + (f"/{llm.EAGER}" if eager else ""),
        family="launch" if of_floor else FAMILY,
        op=STEP if of_floor else phase,
        precision=precision,
        kv_precision=precision,
        route=route,
        role=llm.EAGER if eager else "anchor",
        shape={"batch": batch, "length": length, **asdict(model.sizes)},
        config=phase if of_floor else None,
        model=model.name,
    )


def _operations(device: Device, model: Model, asked: Asked, precision: str) -> Iterator[Case]:
    """Yield the operations of a step, as the inventory of the cost model counts them."""
    phase, batch, length = asked
    s = model.sizes
    rows = batch * (length if phase == PREFILL else 1)
    queries, keys = s.heads * s.head_dim, s.kv_heads * s.head_dim
    library = "F.linear"
    if device.backend != "cpu":
        library = routes.routes_for(layer_gemm.ROWS[precision][0])[0].name

    def case(op: str, route: str, shape: dict[str, int], config: str | None = None) -> Case:
        sizes = "x".join(str(size) for size in shape.values())
        kv = precision if op.startswith("attention") else None
        return Case(
            case_id=f"{FAMILY}/{model.name}/{op}/{precision}/{route}/{sizes}",
            family="llm", op=op, precision=precision, kv_precision=kv, route=route, config=config,
            shape=shape, pattern="uniform" if op == "gemm" else "normal", model=model.name,
        )  # fmt: skip

    def rowwise(op: str, count: int, width: int, config: str | None = None) -> Case:
        return case(op, ROUTE, {"rows": count, "width": width}, config)

    for n, k in ((queries, s.hidden), (keys, s.hidden), (s.hidden, queries),
                 (s.inter, s.hidden), (s.hidden, s.inter)):  # fmt: skip
        yield case("gemm", library, {"m": rows, "n": n, "k": k})
    # Prompts' last states are a strided slice, which torch multiplies one by one.
    together = 1 if phase == PREFILL else batch
    yield case("gemm", library, {"m": together, "n": s.vocab, "k": s.hidden})
    heads = {"heads": s.heads, "kv_heads": s.kv_heads, "head_dim": s.head_dim}
    split = f"heads-of-{s.head_dim}"
    if phase == PREFILL:
        seen = {"batch": batch, "query_len": length, "kv_len": length}
        yield case("attention_prefill", ROUTE, {**seen, **heads})
    else:
        yield case("attention_decode", ROUTE, {"batch": batch, "kv_len": length, **heads})
    yield rowwise("kv_store" if phase == PREFILL else "kv_append", batch * length, 2 * keys, split)
    yield rowwise("rmsnorm", rows, s.hidden)
    yield rowwise("rope", rows, queries, split)
    yield rowwise("rope", rows, keys, split)
    yield rowwise("silu_mul", rows, s.inter)
    yield rowwise("add", rows, s.hidden)
    yield rowwise("embed", rows, s.hidden)
    yield rowwise("angles", length if phase == PREFILL else 1, s.head_dim)
    yield case("sample", "argmax", {"rows": batch, "width": s.vocab})


# What runs once per step; everything else runs in each layer.
_ONCE = ("embed", "angles", "sample")
_FLOOR_LAYER_BYTES = 8 << 20  # more than caches next to a core, less than a last-level one


def prepare_operation(case: Case, session: Session) -> tuple[Work, Timer | None]:
    """Return the work of one of a model's operations, and what times it if not the device's timer.

    Raises ``Unsupported``.
    """
    work = _operation(case, session)
    if session.target.kind != "cpu":
        return work, None
    return work, _swept(session, _past_bytes(case, session.device))


def _swept(session: Session, past_bytes: int) -> SweptTimer:
    if _KEPT.sweep is None:
        _KEPT.sweep = Sweep(session.device.last_level_cache_bytes)
    return SweptTimer(_KEPT.sweep, past_bytes)


def _past_bytes(case: Case, device: Device) -> int:
    """Return the bytes that go past in a model between two executions of an operation."""
    sizes, item = _sizes_of(case, device), ITEM_BYTES[case.precision]
    once = case.op in _ONCE or (case.op == "gemm" and case.shape["n"] == sizes.vocab)
    if case.model == floor.MODEL:
        held = device.last_level_cache_bytes or 0
        return 2 * held if once else _FLOOR_LAYER_BYTES
    return item * (sizes.parameters if once else sizes.layer_products)


def _operation(case: Case, session: Session) -> Work:
    sizes = _sizes_of(case, session.device)
    cache = _cache_bytes(sizes, case.precision, session.device)
    if case.op == "gemm":
        products = tuple(
            (c.shape["m"], c.shape["n"], c.shape["k"])
            for asked in _all_steps(case, session.device)
            for c in _operations(session.device, Model(case.model or "", sizes), asked,
                                 case.precision)
            if c.op == "gemm"
        )  # fmt: skip
        return llm.product(case, session, products, cache)
    session.arenas.drop()
    limit = session.arenas.share()
    if case.op.startswith("attention"):
        return _attention(case, session, limit)
    if case.route != ROUTE:
        return llm.row_work(case, session)
    return eager_rows.prepare(
        case.op, case.precision, session.target, rows=case.shape["rows"],
        width=case.shape["width"], head_dim=sizes.head_dim, cache_bytes=cache, limit_bytes=limit,
        seed=session.seed,
    )  # fmt: skip


def _attention(case: Case, session: Session, limit_bytes: int | None) -> Work:
    """Return attention over what the step has just written, by the backend that torch chooses."""
    size = case.shape
    asked = size.get("query_len", 1)
    heads = Heads(size["batch"], asked, size["kv_len"], size["heads"], size["kv_heads"],
                  size["head_dim"])  # fmt: skip
    make = attention.prepare_prefill if "query_len" in size else attention.prepare_decode
    return make(
        heads, case.precision, session.target, cache_bytes=0, limit_bytes=limit_bytes,
        seed=session.seed,
    )  # fmt: skip


def _sizes_of(case: Case, device: Device) -> Sizes:
    named = {
        model.name: model.sizes for model in (*models(device, "soak", case.precision), *FLOORS)
    }
    if case.model not in named:
        raise Unsupported("unknown-model", f"this version knows no model {case.model!r}")
    return named[case.model]


def _all_steps(case: Case, device: Device) -> tuple[Asked, ...]:
    if case.model == floor.MODEL:
        return tuple((phase, *size) for phase, size in floor.STEPS.items())
    return steps(device, "standard")


def _cache_bytes(sizes: Sizes, precision: str, device: Device) -> int | None:
    """Return the cache that what goes round must exceed four times, or be the model's bytes.

    Weights that fit into the cache with the rest of their model are found there in the next step.
    """
    held = device.last_level_cache_bytes
    own = sizes.parameters * ITEM_BYTES[precision] // CACHE_MULTIPLE
    return own if held is None else min(held, own)


class _Kept:
    """The last model that was built: its steps come one after another."""

    key: tuple[object, ...] = ()
    model: Any = None
    sweep: Sweep | None = None


_KEPT = _Kept()


def prepare_step(case: Case, session: Session) -> tuple[Work, Timer | None]:
    """Return a step of a whole model and what times it, where that is not the device's own timer.

    Raises ``Unsupported``.
    """
    phase = case.config or case.op
    sizes = Sizes(**{name: case.shape[name] for name in Sizes.__dataclass_fields__})
    model = _model(sizes, case.precision, session.target, session)
    work = transformer.prepare(
        model, sizes, phase, case.precision, batch=case.shape["batch"],
        length=case.shape["length"], seed=session.seed,
    )  # fmt: skip
    without_work = case.family == "launch"
    if without_work and session.target.kind == "cpu":
        timer = _swept(session, 2 * (session.device.last_level_cache_bytes or 0))
        assert _KEPT.sweep is not None, "made with the timer"
        after_products(model, _KEPT.sweep, _FLOOR_LAYER_BYTES)
        return work, timer
    if without_work or case.role == llm.EAGER:
        return work, BatchWallTimer(session.timer.synchronize)
    return work, None


def _model(sizes: Sizes, precision: str, target: Target, session: Session) -> Any:
    key = (sizes, precision, target, session.seed)
    if _KEPT.key != key:
        _KEPT.key, _KEPT.model = (), None
        session.arenas.room()
        _KEPT.model = transformer.build(sizes, precision, target, session.seed)
        _KEPT.key = key
    return _KEPT.model


def parts(work: Work, session: Session) -> tuple[Part, ...]:
    """Return the operations of the step that was prepared last: medians over watched steps."""
    from roofprobe.kernels.transformer_parts import parts_of

    with work.settings():
        begun = time.perf_counter()
        watched = parts_of(_KEPT.model, work.launches[0], session.target, steps=2)[1:]
        one_s = max((time.perf_counter() - begun) / 2, 1e-6)
        count = min(_MOST_WATCHED, max(_FEWEST_WATCHED, int(_WATCHED_S / one_s)))
        watched += parts_of(_KEPT.model, work.launches[0], session.target, steps=count)
    names = dict.fromkeys(name for each in watched for name in each)
    return tuple(
        Part(
            name=name,
            calls=watched[-1].get(name, (1, 0.0))[0],
            us=statistics.median(each.get(name, (0, 0.0))[1] for each in watched) * 1e6,
        )
        for name in names
    )
