"""The llm probe: the operations that language models are made of, at the sizes of real models.

A cost model adds up operations; each case here is one of them, as a model runs it: products with
weights out of memory, attention over a cache out of memory, and what lies between on data that has
just been written. The record's ``shape`` has the words of the cost model's operation, so that a
calibration is fitted to these cases and to nothing else. What a launch costs and what moves between
devices is measured by other probes.

On a GPU each case is timed under graph replay like every other; one small size of each operation is
timed again launch by launch (role ``eager``), for what an engine without graphs pays on top.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypedDict

from roofprobe.kernels import (
    attention,
    cached_decode,
    experts,
    latent_attention,
    layer_gemm,
    matmul,
    routes,
    rows_work,
)
from roofprobe.kernels.attention import Heads
from roofprobe.kernels.experts import Experts
from roofprobe.kernels.rows import select
from roofprobe.kernels.weight_arena import WeightArena
from roofprobe.kernels.work import Unsupported, Work
from roofprobe.probes import llm_shapes as shapes
from roofprobe.probes.backends import target_of
from roofprobe.probes.session import Session, is_lost
from roofprobe.probes.timers import BatchWallTimer, Timer, for_searching
from roofprobe.records.schema import Case, Device, Options

FAMILY: Literal["llm"] = "llm"
EAGER: Literal["eager"] = "eager"
PAGED = "paged"
_TRIALS = 3
# On GPUs libraries choose their kernel by the shape, so these are asked for its name.
IDENTIFIED = ("gemm", "attention_prefill", "attention_decode", "mla_prefill")


def cases(device: Device, options: Options) -> Iterator[Case]:
    """Yield the cases of a device at a tier: products, attention, experts, and what lies between.

    Of half precisions old GPUs get fp16. Cases of a precision that ``--precision`` leaves out are
    not there.
    """
    kind = "cpu" if device.backend == "cpu" else "gpu"
    found = (
        *_products(device, kind, options.tier),
        *_attention(device, kind, options.tier),
        *_experts(device, kind, options.tier),
        *_rows(device, kind, options.tier),
    )
    wanted = {row.precision for row in select(options.precisions)}
    kept = list(
        {
            case.case_id: case for case in found
            if case.precision.removesuffix("-block") in wanted
        }.values()
    )  # fmt: skip
    yield from kept
    if kind == "gpu" and options.tier != "quick":
        yield from _eager(kept)


def half(device: Device) -> str:
    """Return the half precision that a device's models are served in."""
    capability = routes.compute_capability(device.architecture)
    return "fp16" if capability is not None and capability < 80 else "bf16"


def _products(device: Device, kind: str, tier: str) -> Iterator[Case]:
    table = shapes.CPU_GEMMS if kind == "cpu" else shapes.GPU_GEMMS
    for named in table[tier]:
        precision = half(device) if named == "bf16" and kind == "gpu" else named
        row = layer_gemm.ROWS[precision][0]
        route = "F.linear" if kind == "cpu" else routes.routes_for(row)[0].name
        for site, m in shapes.gemm_shapes(kind, tier, named):
            shape = {"m": m, "n": site.n, "k": site.k}
            yield _case("gemm", precision, route, shape)
            if precision == "fp8":
                yield _case("gemm", precision, route, shape, config=layer_gemm.QUANTISED)


def _attention(device: Device, kind: str, tier: str) -> Iterator[Case]:
    on_cpu = kind == "cpu"
    precision = "fp32" if on_cpu else half(device)
    heads = shapes.CPU_HEADS if on_cpu else shapes.GPU_HEADS
    for count, sizes in (shapes.CPU_PREFILLS if on_cpu else shapes.GPU_PREFILLS)[tier]:
        for batch, query_len, kv_len in sizes:
            for own in heads[:count]:
                shape = {"batch": batch, "query_len": query_len, "kv_len": kv_len, **_named(own)}
                yield _case("attention_prefill", precision, "sdpa", shape, kv=precision)
    for count, batches, lengths in (shapes.CPU_DECODES if on_cpu else shapes.GPU_DECODES)[tier]:
        for batch in batches:
            for kv_len in lengths:
                if batch * kv_len > shapes.MOST_CACHED_TOKENS:
                    continue
                for own in heads[:count]:
                    shape = {"batch": batch, "kv_len": kv_len, **_named(own)}
                    yield from _decodes(precision, shape, on_cpu=on_cpu)
    if not on_cpu:
        for shape in shapes.MLA_PREFILLS[tier]:
            yield _case("mla_prefill", precision, "sdpa", shape, kv=precision)
        for shape in shapes.MLA_DECODES[tier]:
            yield _case("mla_decode", precision, "bmm", shape, kv=precision)


def _named(heads: tuple[int, int, int]) -> dict[str, int]:
    return dict(zip(("heads", "kv_heads", "head_dim"), heads, strict=True))


def _decodes(precision: str, shape: dict[str, int], *, on_cpu: bool) -> Iterator[Case]:
    """Yield a decode by torch and, on GPUs, by our kernel: in one piece, in pages, in fp8 pages."""
    yield _case("attention_decode", precision, "sdpa", shape, kv=precision)
    if on_cpu:
        return
    yield _case("attention_decode", precision, "triton", shape, kv=precision, config=PAGED)
    yield _case("attention_decode", precision, "triton", shape, kv="fp8", config=PAGED)
    if shape["heads"] == shapes.GPU_HEADS[0][0]:
        yield _case("attention_decode", precision, "triton", shape, kv=precision)


def _experts(device: Device, kind: str, tier: str) -> Iterator[Case]:
    on_cpu = kind == "cpu"
    precision = "fp32" if on_cpu else half(device)
    for layer, tokens, routings in (shapes.CPU_EXPERTS if on_cpu else shapes.GPU_EXPERTS)[tier]:
        for routing in routings:
            for count in tokens:
                shape = {"tokens": count, **layer}
                if not on_cpu:
                    yield _case("grouped_gemm", precision, "grouped_mm", shape, config=routing)
                if on_cpu or shape["experts"] <= shapes.MIXTRAL["experts"]:
                    yield _case("grouped_gemm", precision, "loop", shape, config=routing)


def _rows(device: Device, kind: str, tier: str) -> Iterator[Case]:
    on_cpu = kind == "cpu"
    for op, widths in (shapes.CPU_ROWS if on_cpu else shapes.GPU_ROWS).items():
        for route in rows_work.ROUTES[op]:
            if on_cpu and route == "triton":
                continue
            for width in widths:
                for rows in shapes.rows_of(op, kind, tier):
                    precision = "fp32" if on_cpu or op == "sample" else half(device)
                    yield _case(op, precision, route, {"rows": rows, "width": width})


def _eager(found: Sequence[Case]) -> Iterator[Case]:
    """Yield the first of each operation, route and cache once more, to be launched one by one."""
    seen = set()
    for case in found:
        key = (case.op, case.precision, case.route, case.kv_precision, case.config)
        if key not in seen:
            seen.add(key)
            yield case.model_copy(update={"case_id": f"{case.case_id}/{EAGER}", "role": EAGER})


def _case(
    op: str,
    precision: str,
    route: str,
    shape: dict[str, int],
    *,
    kv: str | None = None,
    config: str | None = None,
) -> Case:
    sizes = "x".join(str(size) for size in shape.values())
    parts = (FAMILY, op, precision, f"kv-{kv}" if kv else None, route, config, sizes)
    return Case(
        case_id="/".join(part for part in parts if part),
        family=FAMILY,
        op=op,
        precision=precision,
        kv_precision=kv,
        route=route,
        config=config,
        shape=shape,
        pattern="uniform" if op == "gemm" and config != layer_gemm.QUANTISED else "normal",
    )


def may_run(case: Case, device: Device) -> bool:
    """Return whether the device alone does not rule the case out; imports nothing."""
    target = target_of(device)
    if case.op == "gemm":
        rows = layer_gemm.ROWS.get(case.precision, ())
        found = [route for row in rows for route in routes.routes_for(row)[:1]]
        return any(routes.refused_by_device(route, target) is None for route in found)
    return case.route != "triton" or target.is_gpu


def prepare(case: Case, session: Session) -> tuple[Work, Timer | None]:
    """Return the work of ``case`` and what times it, where it is not the device's own timer.

    Raises ``Unsupported`` with the reason when it cannot be done.
    """
    maker = _MAKERS.get(case.op)
    if maker is None:
        raise Unsupported("unknown-work", f"this version does not know the work {case.op!r}")
    timer = BatchWallTimer(session.timer.synchronize) if case.role == EAGER else None
    try:
        return maker(case, session), timer
    except KeyError as error:
        raise Unsupported("shape", f"{case.op} needs the size {error.args[0]!r}") from error
    except Unsupported as reason:
        if reason.code != "memory":
            raise
    session.arenas.room()  # what torch keeps of earlier cases is not told as free
    return maker(case, session), timer


def _product(case: Case, session: Session) -> Work:
    kind = "cpu" if session.device.backend == "cpu" else "gpu"
    planned = tuple(
        (m, site.n, site.k)
        for precision in (case.precision, "bf16")
        for site, m in shapes.gemm_shapes(kind, "standard", precision)
    )
    return product(case, session, planned, session.device.last_level_cache_bytes)


def product(
    case: Case,
    session: Session,
    planned: Sequence[tuple[int, int, int]],
    cache_bytes: int | None,
) -> Work:
    """Return a layer's product on weights that go round four ``cache_bytes``.

    The memory of all ``planned`` shapes (m, n, k) is made at once, where it fits. Raises
    ``Unsupported``.
    """
    shape = (case.shape["m"], case.shape["n"], case.shape["k"])
    route = layer_gemm.route_for(case.precision, session.target)
    matmul.require(route, session.target, shape)
    arena = session.arenas.get(
        route.compute_row,
        session.target,
        _together(case, session, shape, planned, cache_bytes),
        cache_bytes=cache_bytes,
        pattern="uniform",
        seed=session.seed,
        kind=WeightArena,
    )
    assert isinstance(arena, WeightArena), case.case_id
    quantised = case.config == layer_gemm.QUANTISED
    return layer_gemm.prepare(
        route, session.target, arena, shape, quantised=quantised, seed=session.seed
    )


def _together(
    case: Case,
    session: Session,
    shape: tuple[int, int, int],
    planned: Sequence[tuple[int, int, int]],
    cache_bytes: int | None,
) -> tuple[tuple[int, int, int], ...]:
    """Return the shapes that one memory should hold: all that are planned, where they fit.

    Filling anew for each shape would take longer than measuring it.
    """
    share = session.arenas.share()
    row = layer_gemm.route_for(case.precision, session.target).compute_row
    if share is not None and WeightArena.bytes_for(row, (shape, *planned), cache_bytes) > share:
        return (shape,)
    return (shape, *planned)


def _prefill(case: Case, session: Session) -> Work:
    heads = _heads(case, case.shape["query_len"])
    work = attention.prepare_prefill(heads, case.precision, session.target, **_memory(session))
    return _fastest(work, attention.backends(session.target, heads, case.precision), session)


def _decode(case: Case, session: Session) -> Work:
    heads = _heads(case, 1)
    if case.route == "triton":
        return cached_decode.prepare(
            heads, case.precision, case.kv_precision or case.precision, session.target,
            paged=case.config == PAGED, **_memory(session),
        )  # fmt: skip
    if case.route != "sdpa" or case.kv_precision not in (None, case.precision):
        raise Unsupported(
            "unknown-route",
            f"there is no decode by {case.route!r} over a cache of {case.kv_precision}",
        )
    work = attention.prepare_decode(heads, case.precision, session.target, **_memory(session))
    return _fastest(work, attention.backends(session.target, heads, case.precision), session)


def _heads(case: Case, query_len: int) -> Heads:
    size = case.shape
    return Heads(
        size["batch"], query_len, size["kv_len"], size["heads"], size["kv_heads"], size["head_dim"]
    )


def _latent_decode(case: Case, session: Session) -> Work:
    size = case.shape
    return latent_attention.prepare_decode(
        case.precision, session.target, batch=size["batch"], kv_len=size["kv_len"],
        heads=size["heads"], kv_rank=size["kv_rank"], rope_dim=size["rope_dim"],
        **_memory(session),
    )  # fmt: skip


def _latent_prefill(case: Case, session: Session) -> Work:
    size, room = case.shape, _memory(session)
    work = latent_attention.prepare_prefill(
        case.precision, session.target, batch=size["batch"], query_len=size["query_len"],
        kv_len=size["kv_len"], heads=size["heads"], nope_dim=size["nope_dim"],
        rope_dim=size["rope_dim"], v_dim=size["v_dim"], limit_bytes=room["limit_bytes"],
        seed=session.seed,
    )  # fmt: skip
    return _fastest(work, latent_attention.prefill_backends(session.target), session)


def _mixture(case: Case, session: Session) -> Work:
    size = case.shape
    sizes = Experts(
        size["tokens"], size["experts"], size["topk"], size["hidden"], size["inter"],
        size["local_experts"],
    )  # fmt: skip
    return experts.prepare(
        sizes, case.route, case.precision, session.target, routing=case.config or "balanced",
        **_memory(session),
    )  # fmt: skip


def row_work(case: Case, session: Session) -> Work:
    """Return what works row by row, as the route has it; raises ``Unsupported``."""
    return rows_work.prepare(
        case.op, case.route, case.precision, session.target, rows=case.shape["rows"],
        width=case.shape["width"], limit_bytes=session.arenas.share(), seed=session.seed,
    )  # fmt: skip


class _Memory(TypedDict):
    cache_bytes: int | None
    limit_bytes: int | None
    seed: int


def _memory(session: Session) -> _Memory:
    """Make room, and return what an operation with memory of its own may take and must exceed."""
    session.arenas.drop()
    return {
        "cache_bytes": session.device.last_level_cache_bytes,
        "limit_bytes": session.arenas.share(),
        "seed": session.seed,
    }


def _fastest(work: Work, names: Sequence[str], session: Session) -> Work:
    """Return the work by the backend that was fastest in a few launches.

    Raises ``Unsupported`` (``no-backend``) with what the last one said where none does it.
    """
    found = [attention.by_backend(work, name) for name in names]
    if len(found) == 1:
        return found[0]
    timer, seconds, told = for_searching(session.timer), {}, ""
    for each in found:
        try:
            with each.settings():
                timer.time_batch(each.launches, 1)
                took = timer.time_batch(each.launches, _TRIALS)
        except RuntimeError as error:
            if is_lost(error, session.device):
                raise
            told = (str(error).strip().splitlines() or [""])[0][:120]
        else:
            seconds[each.kernel] = took
    if not seconds:
        raise Unsupported("no-backend", f"none of SDPA's backends does this: {told}")
    best = min(seconds, key=seconds.__getitem__)
    return next(each for each in found if each.kernel == best)


_MAKERS: dict[str, Callable[[Case, Session], Work]] = {
    "gemm": _product,
    "attention_prefill": _prefill,
    "attention_decode": _decode,
    "mla_prefill": _latent_prefill,
    "mla_decode": _latent_decode,
    "grouped_gemm": _mixture,
    **dict.fromkeys(rows_work.OPERATIONS, row_work),
}
