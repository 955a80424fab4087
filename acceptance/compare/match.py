"""Which measurements are of one case, and whether they mean the same.

The key of a row is its ``case_id`` with the other device of a transfer named by its pair, since
that one's id may differ from side to side. What follows a search stands at the shape that the
search found; where the sides found different ones, those rows are matched without their shape and
told as not comparable. Conditions that make figures mean different things are a table here:
another method of measuring, other arithmetic, another instruction, other bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from roofprobe.acceptance.compare.sides import Pair, Place
from roofprobe.records.schema import Case, Measurement, Reason, Role, Run

# Roles of cases whose shape a search may have chosen.
_FOUND_SHAPE: frozenset[Role] = frozenset(
    {"route", "tune", "settled", "pattern", "layout", "alignment"}
)

Seen = tuple[Run, Measurement]


@dataclass(frozen=True, slots=True)
class Match:
    """A row before it is judged: what each side has of it; a side may have nothing."""

    key: str
    pair: int
    case: Case
    a: tuple[Seen, ...]
    b: tuple[Seen, ...]
    obstacles: tuple[Reason, ...] = ()


@dataclass(frozen=True, slots=True)
class _Condition:
    """A fact about a measurement without which two figures mean different things."""

    code: str
    what: str
    of: Callable[[Run, Measurement], object]
    tell: bool = True
    absent_counts: bool = False  # absent is a value of its own, not unknown


def _instruction(_: Run, measurement: Measurement) -> object:
    return measurement.identity.instruction if measurement.identity else None


def _fallback(_: Run, measurement: Measurement) -> object:
    return measurement.identity.fallback if measurement.identity else None


def _arithmetic(_: Run, measurement: Measurement) -> object:
    case = measurement.case
    return (
        case.precision, case.kv_precision, case.accumulator, case.fast_accum, case.scaling,
        case.sparsity, case.pipe,
    )  # fmt: skip


def _set_up(_: Run, measurement: Measurement) -> object:
    case = measurement.case
    return (
        case.op, case.route, case.layout, case.config, case.engine, case.pattern, case.regime,
        case.convention, case.level, case.model,
    )  # fmt: skip


CONDITIONS: tuple[_Condition, ...] = (
    _Condition("other-method", "the method of measuring", lambda run, _: run.method_version),
    _Condition("other-arithmetic", "the arithmetic (accumulator, scaling, pipe)", _arithmetic,
               tell=False),
    _Condition("other-set-up", "how the case is set up", _set_up, tell=False),
    _Condition("other-shape", "the shape",
               lambda _, m: tuple(sorted(m.case.shape.items())), tell=False),
    _Condition("other-instruction", "the instruction that does the work", _instruction),
    _Condition("other-kernel", "whether a fallback ran", _fallback, absent_counts=True),
    _Condition("other-timer", "the timer", lambda _, m: m.timing.timer if m.timing else None),
    _Condition("other-work", "the operations or bytes that count",
               lambda _, m: (m.flops, m.bytes_read, m.bytes_written), tell=False),
)  # fmt: skip


def match_rows(pairs: Sequence[Pair], families: frozenset[str] | None) -> tuple[Match, ...]:
    """Return every row of every pair, in A's order, then those that B alone has."""
    return tuple(
        match for number, pair in enumerate(pairs) for match in _of_pair(number, pair, families)
    )


def _of_pair(number: int, pair: Pair, families: frozenset[str] | None) -> Iterator[Match]:
    a = _seen(pair.a, pair.peers_a, families)
    b = _seen(pair.b, pair.peers_b, families)
    moved = _at_another_shape(a, b)
    taken = set(moved.values())
    for key in (*a, *(key for key in b if key not in a and key not in taken)):
        left, right = a.get(key, ()), b.get(moved.get(key, key), ())
        case = (left or right)[-1][1].case
        if key in moved:
            found = [_shape_text(side[-1][1].case) for side in (left, right)]
            other = Reason(
                code="other-shape",
                sentence=f"the searches found different shapes: {found[0]} in A, {found[1]} in B",
            )
            yield Match(key, number, case, left, right, (other,))
        else:
            yield Match(key, number, case, left, right, _obstacles(left, right))


def measured(seen: Sequence[Seen]) -> tuple[Seen, ...]:
    """Return those of ``seen`` that were measured."""
    return tuple(each for each in seen if each[1].status == "ok")


def _seen(
    places: Sequence[Place], peers: Mapping[str, str], families: frozenset[str] | None
) -> dict[str, tuple[Seen, ...]]:
    """Return what one side has by key; of a case measured again in one run the last that worked."""
    found: dict[str, list[Seen]] = {}
    for run, device in places:
        own: dict[str, Measurement] = {}
        for measurement in run.measurements:
            if measurement.device_id != device.device_id:
                continue
            if families is not None and measurement.case.family not in families:
                continue
            key = _key(measurement.case, peers)
            if key not in own or measurement.status == "ok" or own[key].status != "ok":
                own[key] = measurement
        for key, measurement in own.items():
            found.setdefault(key, []).append((run, measurement))
    return {key: tuple(seen) for key, seen in found.items()}


def _key(case: Case, peers: Mapping[str, str]) -> str:
    if case.peer is None or case.peer.device_id not in peers:
        return case.case_id
    return case.case_id.replace(case.peer.device_id, f"pair-{peers[case.peer.device_id]}")


def _at_another_shape(
    a: Mapping[str, tuple[Seen, ...]], b: Mapping[str, tuple[Seen, ...]]
) -> dict[str, str]:
    """Return keys of A and of B that differ in nothing but a shape that a search may have found.

    Only where each side has exactly one such row: a sweep over shapes has many.
    """
    left, right = _shapeless(a, b), _shapeless(b, a)
    return {
        keys[0]: right[bare][0]
        for bare, keys in left.items()
        if len(keys) == 1 and len(right.get(bare, ())) == 1
    }


def _shapeless(
    side: Mapping[str, tuple[Seen, ...]], other: Mapping[str, tuple[Seen, ...]]
) -> dict[str, list[str]]:
    bare: dict[str, list[str]] = {}
    for key, seen in side.items():
        case = seen[-1][1].case
        if key in other or case.role not in _FOUND_SHAPE or case.family != "compute":
            continue
        if not case.shape:
            continue
        shape = _shape_text(case)
        bare.setdefault(f"{case.role} {key.replace(shape, '*')}", []).append(key)
    return bare


def _shape_text(case: Case) -> str:
    return "x".join(str(size) for size in case.shape.values())


def _obstacles(a: Sequence[Seen], b: Sequence[Seen]) -> tuple[Reason, ...]:
    """Return why figures of both sides do not mean the same; nothing where one side has none."""
    left, right = measured(a), measured(b)
    if not left or not right:
        return ()
    searched = {m.search.best for _, m in (*left, *right) if m.search is not None}
    if len(searched) > 1:
        shapes = sorted("x".join(map(str, best)) if best else "none" for best in searched)
        sentence = f"the searches found different shapes: {', '.join(shapes)}"
        return (Reason(code="other-shape", sentence=sentence),)
    return tuple(
        _differs(condition, *values)
        for condition in CONDITIONS
        for values in [[_values(condition, side) for side in (left, right)]]
        if len(values[0] | values[1]) > 1 and (all(values) or condition.absent_counts)
    )


def _values(condition: _Condition, seen: Sequence[Seen]) -> set[object]:
    values = {condition.of(run, measurement) for run, measurement in seen}
    return values if condition.absent_counts else values - {None}


def _differs(condition: _Condition, a: set[object], b: set[object]) -> Reason:
    sentence = f"{condition.what} differs"
    if condition.tell:
        told = [", ".join(sorted(map(str, side - {None}))) or "none" for side in (a, b)]
        sentence += f": {told[0]} in A, {told[1]} in B"
    return Reason(code=condition.code, sentence=sentence)
